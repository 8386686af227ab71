"""What tests of the real command share: a spool, workers, and waiting for a condition with a deadline."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from spooldadd import cli

BIN = Path(sys.executable).parent
SPOOLDADD = str(BIN / "spooldadd")
# A deadline is no measurement: it only ends a test that would hang. Generous, because machines are shared.
DEADLINE_S = 60.0
SETTLE = "0.1s"


def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S):
    """Wait until `condition()` is true and return what it returned; fail with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.02)


def stop(pid: int) -> None:
    """Stop a process; return when it stands still: a thread ends the system call first that it is in, a rename for one."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: set(_states(pid)) == {"T"}, "it stands still")


def _states(pid: int) -> Iterator[str]:
    for path in Path("/proc", str(pid), "task").glob("*/stat"):
        try:
            yield path.read_text().rpartition(")")[2].split()[0]
        except OSError:
            pass  # a thread that has just ended


class Node:
    """One spool, and the workers that a test starts on it. `close` leaves no process behind."""

    def __init__(
        self,
        root: Path,
        *,
        environ: dict[str, str] | None = None,
        command: list[str] | None = None,
        durability: str = "power",
        kind: str = "local",
        settle: str | None = SETTLE,
    ) -> None:
        self.spool = root / "spool"
        self.work = root / "work"
        self.command = command or [SPOOLDADD]
        self.environ = {**os.environ, "SPOOLDADD_WORK_DIR": str(self.work), "SPOOLDADD_SPOOL": str(self.spool)}
        # Jobs, launchers and supervisors get no `SPOOLDADD_*` of the worker's; by this they are known as ours.
        self.environ |= {"TEST_WORK_DIR": str(self.work), **(environ or {})}
        # What lay there before a worker came has to settle, 2 s where it is not told otherwise, and most tests drop first.
        self.quick = {} if settle is None else {"SPOOLDADD_INTAKE__SETTLE": settle}
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = root / "worker.log"
        arguments = ["--durability", durability, "--kind", kind, str(self.spool)]
        if command:
            self.run("init", *arguments)
        else:
            make_spool(*arguments)

    def run(self, *arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        options = {"capture_output": True, "text": True, "timeout": 120, "env": self.environ, **options}
        done = subprocess.run([*self.command, *arguments], check=False, **options)
        assert not check or done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a worker; it is up when it has said so."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [*self.command, "worker", str(self.spool), *arguments],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                env={**self.quick, **self.environ, **(environ or {})},
                start_new_session=True,
            )
        self.workers.append(worker)
        until(lambda: "event=worker-started" in self.said(before) or worker.poll() is not None, "the worker starts")
        return worker

    def said(self, offset: int = 0) -> str:
        """Return what the workers logged, from this byte on."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[offset:].decode("utf-8", "replace")

    def drain(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run a worker until nothing is left to run; return its log."""
        environ = {**self.quick, **self.environ}
        done = self.run("worker", str(self.spool), "--drain", *arguments, timeout=timeout_s, env=environ)
        return done.stderr

    def drop(self, name: str, text: str | bytes) -> Path:
        """Put a file into the spool as `mv` does: complete at once."""
        data = text.encode() if isinstance(text, str) else text
        temporary = self.spool / f".{name.replace('/', '-')}.part"
        temporary.write_bytes(data)
        temporary.rename(self.spool / name)
        return self.spool / name

    def records(self, state: str, name: str | None = None) -> list[Path]:
        """Return the records in this state, of this job name where one is given."""
        found = sorted((self.spool / state).iterdir())
        return [path for path in found if name is None or path.name.startswith(f"{name}.")]

    def finished(self, name: str) -> Path | None:
        """Return the record of the finished job of this name, or None while there is none."""
        found = [*self.records("done", name), *self.records("failed", name)]
        return found[0] if found else None

    def wait_finished(self, name: str, deadline_s: float = DEADLINE_S) -> Path:
        """Wait until the job of this name is filed; return its record."""
        return until(lambda: self.finished(name), f"`{name}` is filed\n{self.said()[-3000:]}", deadline_s)

    def ran(self, name: str, text: str | bytes) -> Path:
        """Drop this spec where a worker serves, and wait until its job is filed; return the record."""
        assert self.finished(name) is None, "another test of this file has had a job of that name"
        self.drop(f"{name}.toml", text)
        return self.wait_finished(name)

    def close(self) -> None:
        """End all, and leave nothing."""
        self.end()
        shutil.rmtree(self.spool.parent, ignore_errors=True)

    def end(self) -> None:
        """End the workers, then every process whose work directory or spool is ours."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        end_processes_of(self.work)


def make_spool(*arguments: str) -> None:
    """Do as `spooldadd init` in this process: a fresh one takes a tenth of a second of processor, a thousand times."""
    with redirect_stderr(io.StringIO()):
        assert cli.main(["init", *arguments]) == 0


@contextmanager
def temporary_node(**options) -> Iterator[Node]:
    """Give a spool that several tests share; nothing of it is left, whatever goes wrong."""
    root = Path(tempfile.mkdtemp(prefix="spooldadd-test-"))
    try:
        node = Node(root, **options)
        try:
            yield node
        finally:
            node.close()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def result_of(record: Path) -> dict:
    """Return the result in a record."""
    return tomllib.loads((record / "result.toml").read_text())


def processes_of(work: Path) -> list[int]:
    """Return the processes that have this directory in their environment: jobs, supervisors and launchers of a test."""
    mark = str(work).encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                environ = Path("/proc", entry, "environ").read_bytes()
            except OSError:
                continue
            if mark in environ:
                found.append(int(entry))
    return found


def end_processes_of(work: Path) -> None:
    """Kill what a test left; wait until it is gone."""
    deadline = time.monotonic() + 10
    while (pids := processes_of(work)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
