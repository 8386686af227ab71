"""The builder: a program that makes what one job needs, then ends. `python -P -m spooldadd.environment PLAN RESULT`.

`-P` matters where it is started in a directory that others write: a `requests.py` there must not be what we import.

Files first, since requirements and steps may be among them; then Python; then the steps, which use both. What it prints
on stdout is the build log. It says how it went by its exit code (0, or 1 for a build error) and in RESULT, which is
written at once and last; no RESULT means that it was killed.

If we die here: nothing that a later job could use is half-made (see `blobs` and `environments`); the work directory is
of no use, and nobody uses it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from pydantic import ValidationError

from spooldadd import confine, durable, process, secret
from spooldadd.environment import bundles, python, ready
from spooldadd.environment.credentials import Secrets
from spooldadd.environment.fetch import Fetcher
from spooldadd.environment.fetching import open_fetcher
from spooldadd.environment.files import Desk, place_file
from spooldadd.environment.plan import Answer, Plan, explain, read_plan
from spooldadd.environment.report import Report
from spooldadd.environment.steps import Bench, end_descendants, run_step
from spooldadd.errors import BuildError

USAGE = "usage: python -P -m spooldadd.environment PLAN RESULT     (PLAN may be - for stdin)"
# A reason is one line in a mail's subject and in `status`; the whole story is in the build log.
MAX_REASON = 1_000


@dataclass
class Build:
    """One build: what is known of its outcome so far."""

    plan: Plan
    report: Report
    held: ready.Ready | None = None
    elapsed_s: dict[str, float] = field(default_factory=dict)

    def run(self) -> Answer:
        """Build everything in order."""
        try:
            self._run()
        except (BuildError, ValidationError, OSError) as error:
            return self._answer(reason=self.report.hide(_reason(error)))
        return self._answer()

    def resolve(self) -> python.Resolution:
        """Only decide what the `[python]` table means today. Raises: `BuildError`; ValidationError; OSError.

        Files are placed first where requirements may be among them.
        """
        with bundles.unpacked(self.plan) as self.plan:
            return self._resolve()

    def _resolve(self) -> python.Resolution:
        plan = self.plan
        table = plan.python or {}
        requirements = table.get("requirements")
        with open_fetcher(plan.cache_dir, plan.work_dir, self.report, plan.redis_url) as fetcher:
            if isinstance(requirements, str) and "://" not in requirements:
                self._place_files(fetcher)
            return python.resolve(table, self._workshop(fetcher))

    def _run(self) -> None:
        with bundles.unpacked(self.plan) as self.plan:
            self._make_all()

    def _make_all(self) -> None:
        plan = self.plan
        with open_fetcher(plan.cache_dir, plan.work_dir, self.report, plan.redis_url) as fetcher:
            with self._timed("files", bool(plan.files)):
                self._place_files(fetcher)
            with self._timed("python", plan.python is not None):
                self._provide_python(fetcher)
        with self._timed("build", bool(plan.build)):
            self._run_steps()

    def _place_files(self, fetcher: Fetcher) -> None:
        plan = self.plan
        secrets = _secrets(plan, self.report)
        desk = Desk(plan.work_dir, plan.base_dirs, fetcher, secrets, self.report, plan.variables)
        for entry in plan.files:
            place_file(entry, desk)

    def _provide_python(self, fetcher: Fetcher) -> None:
        """Provide the environment. Requirements may be one of the files that were just placed."""
        plan = self.plan
        if plan.python is None:
            return
        self.held = python.provide(plan.python, self._workshop(fetcher))
        self.report.line(f"environment {self.held.key}: in use")

    def _workshop(self, fetcher: Fetcher) -> python.Workshop:
        plan = self.plan
        base_dirs = (*plan.base_dirs, plan.work_dir)
        return python.Workshop(plan.cache_dir, base_dirs, fetcher, _secrets(plan, self.report), self.report)

    def _run_steps(self) -> None:
        keep_fds = (self.held.hold_fd,) if self.held else ()
        rules = confine.from_table(self.plan.sandbox) if self.plan.sandbox else None
        bench = Bench(self.plan.work_dir, self._environ(), self.report, sys.stdout.fileno(), keep_fds, rules)
        for step in self.plan.build:
            run_step(step, bench)

    def _environ(self) -> dict[str, str]:
        environ = dict(os.environ) if self.plan.environ is None else self.plan.environ
        return self.held.applied(environ) if self.held else environ

    def _answer(self, reason: str = "") -> Answer:
        if reason:
            self.report.line(f"failed: {reason}")
        told = self.held
        names = ("PATH", "VIRTUAL_ENV", "PYTHONPYCACHEPREFIX")
        return Answer(
            ok=not reason,
            reason=reason,
            environment=told.key if told else "",
            interpreter=told.interpreter if told else "",
            environ={name: value for name, value in self._environ().items() if told and name in names},
            elapsed_s=self.elapsed_s,
        )

    @contextmanager
    def _timed(self, name: str, is_wanted: bool) -> Iterator[None]:
        started_s = time.monotonic()
        try:
            yield
        finally:
            if is_wanted:
                self.elapsed_s[name] = round(time.monotonic() - started_s, 4)


def _secrets(plan: Plan, report: Report) -> Secrets:
    sources = secret.from_table(plan.secrets) if plan.secrets else secret.Sources(directory=plan.secrets_dir)
    return Secrets(sources, report)


def _reason(error: Exception) -> str:
    """Make one line of an error; of a long one the end, where the cause is."""
    text = explain(error) if isinstance(error, ValidationError) else str(error)
    line = " ".join(text.split())
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON // 3]} … {line[-2 * MAX_REASON // 3 :]}"


def main(arguments: list[str]) -> int:
    """Read the plan, build, write the result."""
    if len(arguments) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    _be_a_group()
    process.become_subreaper()
    signal.signal(signal.SIGTERM, _stop)
    # Nobody would take our answer, and while we live the job's lease is held: it could not be called lost.
    process.hear_of_parents_death(signal.SIGTERM)
    try:
        answer = _build(arguments[0])
    except SystemExit:
        end_descendants()  # what was started a moment before we were told to stop is in nobody's hands
        raise
    durable.write(os.path.abspath(arguments[1]), answer.to_bytes(), sync=False)
    return 0 if answer.ok else 1


def _build(name: str) -> Answer:
    report = Report(_print_line)
    try:
        plan = read_plan(_read(name))
    except (BuildError, OSError) as error:
        return Answer(ok=False, reason=_reason(error))
    report.every_s = plan.progress_s
    return Build(plan, report).run()


def _print_line(text: str) -> None:
    print(text, flush=True)


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    with open(name, "rb") as file:
        return file.read()


def _be_a_group() -> None:
    """Lead a process group, so that one signal reaches all that we start; a session leader does already."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Leave through every `finally`: half-made things go, and running steps are ended."""
    raise SystemExit(128 + signal.SIGTERM)
