"""Run one spec in the foreground, without a spool: what `spooldadd run` does.

The same plan, limits and work directory as under a worker, but the job prints to our own streams and nothing is filed.
Ctrl-C and TERM end the whole tree of the job first.

If we die here: the job goes on by itself; its work directory stays until somebody removes it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass

from spooldadd import (
    building,
    bundle,
    durable,
    forms,
    jobprocess,
    kit,
    layout,
    lifecycle,
    names,
    process,
    spawn,
    spool,
    tree,
    workdir,
)
from spooldadd.config import Config
from spooldadd.ending import Ending, exit_fields, judge
from spooldadd.guard import Verdict
from spooldadd.log import Log
from spooldadd.plan import Plan
from spooldadd.planning import Came, base_environ, make_plan
from spooldadd.spec import Spec

TIMED_OUT = 124  # as timeout(1) says it
SIGNAL_BASE = 128  # as a shell says it
# On a terminal a line about each transfer this often; `report.LOG_EVERY_S` is for logs.
PROGRESS_S = 0.5


@dataclass(frozen=True)
class Ended:
    """What became of a job in the foreground, and the code to exit with."""

    outcome: str
    sentence: str
    exit_code: int
    work_dir: str | None


def run(spec: Spec, path: str, config: Config) -> Ended:
    """Run the spec of this file; return how it ended. Raises: InvalidSpec where a template cannot be rendered; OSError."""
    scratch = tempfile.mkdtemp(prefix="spooldadd-run-")
    try:
        foreground = _Foreground(make_plan_of(spec, path, config), scratch)
        try:
            return foreground.run()
        finally:
            foreground.release()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def exit_code_of(outcome: str, result: dict[str, object]) -> int:
    """Return the code to exit with for a result: the job's own, 124 for a timeout, 128+n for a signal."""
    if outcome == lifecycle.SUCCESS:
        return 0
    if outcome == lifecycle.TIMEOUT:
        return TIMED_OUT
    number, code = result.get("signal"), result.get("exit_code")
    if isinstance(number, int):
        return SIGNAL_BASE + number
    return code if isinstance(code, int) and code else 1


def make_plan_of(spec: Spec, path: str, config: Config) -> Plan:
    """Return what a job of this file would do now; its `source` files are looked for beside it. Raises: InvalidSpec."""
    now_s = time.time()
    name = spec.name or os.path.splitext(os.path.basename(path))[0]
    record = names.RecordName(names.new_job_id(name, now_s, names.random_part()), 1, names.random_part())
    beside = os.path.dirname(os.path.abspath(path))
    claimed = spool.Claim(record, beside, -1, spec.queue, now_s, now_s, os.path.basename(path))
    brought = bundle.Brought(os.path.abspath(path), os.stat(path)) if forms.is_bundle(path) else None
    plan = make_plan(spec, claimed, beside, os.path.join(config.work_dir, "run"), config, Came(brought))
    plan.environ = {**base_environ(config, os.environ), **plan.environ}
    return plan


class _Foreground:
    """One job below this process."""

    def __init__(self, plan: Plan, scratch: str) -> None:
        self._plan = plan
        self._scratch = scratch
        self._cancel = os.path.join(scratch, layout.CANCEL)
        self._stopped_by = 0

    def run(self) -> Ended:
        """Run it to its end, whoever ends it."""
        process.become_subreaper()
        self._heed_signals()
        workdir.make(self._plan.work_dir, self._plan.config, self._plan.script)
        ending = Ending()
        built = self._build()
        if isinstance(built, Verdict):
            return self._ended(built.outcome, built.sentence, SIGNAL_BASE + self._stopped_by if self._stopped_by else 1)
        self._plan.environ |= built.environ
        try:
            pid = jobprocess.start(self._plan, (1, 2), (self._scratch, self._plan.work_dir))
        except spawn.CannotStart as error:
            return self._ended(error.outcome, str(error), error.exit_code or 1)
        jobprocess.watch(self._plan, pid, (), self._cancel, ending)
        building.put_edits_aside(self._plan, built, Log(level="warning"))
        outcome, sentence = judge(self._plan.limits, ending)
        code = exit_code_of(outcome, exit_fields(ending.status))
        return self._ended(outcome, sentence, SIGNAL_BASE + self._stopped_by if self._stopped_by else code)

    def release(self) -> None:
        """Let go of what the job was given."""
        kit.release(self._plan)

    def _build(self) -> building.Built | Verdict:
        """Build what is not ready. A terminal sees it happen; elsewhere its log is shown where it fails."""
        if self._plan.build is None:
            return building.Built()
        environ = jobprocess.whole_environ(self._plan, self._scratch)
        ready = building.ready(self._plan, environ)
        if ready is not None:
            return ready
        log = os.open(
            os.path.join(self._scratch, layout.BUILD_LOG), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        is_watched = os.isatty(2)
        if is_watched:
            self._plan.build = _with_quick_progress(self._plan.build)
        try:
            built = building.build(self._plan, environ, 2 if is_watched else log, self._cancel)
        except (spawn.CannotStart, OSError) as error:
            built = Verdict(lifecycle.BUILD, f"its build cannot be started: {error}")
        if isinstance(built, Verdict):
            _show(log)
        os.close(log)
        return built

    def _heed_signals(self) -> None:
        """A signal to us is a cancel of the job: the guard hears of it by the signal that wakes it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, set(tree.SIGNALS) - {signal.SIGTERM})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        self._stopped_by = number
        with open(self._cancel, "w", encoding="ascii"):
            pass
        os.kill(os.getpid(), signal.SIGUSR1)

    def _ended(self, outcome: str, sentence: str, code: int) -> Ended:
        wish = self._plan.keep_workdir
        if wish == "always" or (wish == "failure" and outcome != lifecycle.SUCCESS and not self._stopped_by):
            return Ended(outcome, sentence, code, self._plan.work_dir)
        workdir.remove(self._plan.work_dir)
        return Ended(outcome, sentence, code, None)


def _with_quick_progress(build: bytes) -> bytes:
    """A person who waits wants to see it move; a log wants to stay short."""
    return json.dumps({**json.loads(build), "progress_s": PROGRESS_S}).encode()


def _show(log: int) -> None:
    """Copy a log to standard error."""
    os.lseek(log, 0, os.SEEK_SET)
    while data := os.read(log, 1 << 16):
        durable.write_all(2, data)
