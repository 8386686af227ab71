"""Kill workers, launchers and supervisors at random, and start workers again. Knows whom a kill may hit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import Node, processes_of

LAUNCHER, SUPERVISOR = "spooldadd-fork", "spooldadd-job"
# Specs whose name begins so say `restartable = false`: their supervisors may be killed.
MORTAL = ("once-", "stubborn-")


class Chaos:
    """Three workers on one spool, and somebody who kills."""

    def __init__(self, node: Node, seed: int, workers: int = 3) -> None:
        self.node = node
        self.random = random.Random(seed)
        self.workers: list[subprocess.Popen[bytes]] = [self._start() for _ in range(workers)]
        self.killed: Counter[str] = Counter()

    def strike(self) -> None:
        """Kill one process of a kind drawn by lot; a dead worker is replaced at once."""
        blow = self.random.choice((self._kill_worker, self._kill_launcher, self._kill_supervisor, self._kill_supervisor))
        name = blow()
        if name:
            self.killed[name] += 1

    def close(self) -> None:
        """End the workers as a person would; leave the jobs."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(30)

    def _start(self) -> subprocess.Popen[bytes]:
        with self.node.log.open("ab") as log:
            worker = subprocess.Popen(
                [*self.node.command, "worker", str(self.node.spool), "--jobs", "4"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.node.environ,
                start_new_session=True,
            )
        self.node.workers.append(worker)
        return worker

    def _kill_worker(self) -> str:
        index = self.random.randrange(len(self.workers))
        self.workers[index].kill()
        self.workers[index].wait()
        self.workers[index] = self._start()
        return "worker"

    def _kill_launcher(self) -> str:
        launchers = [pid for pid in processes_of(self.node.work) if name_of(pid) == LAUNCHER]
        if not launchers:
            return ""
        send(self.random.choice(launchers), signal.SIGKILL)
        return "launcher"

    def _kill_supervisor(self) -> str:
        """Stop it first: it may file its record and take one whose supervisor must live before we have struck."""
        candidates = [path for path in (self.node.spool / "running").iterdir() if path.name.startswith(MORTAL)]
        if not candidates:
            return ""
        record = self.random.choice(candidates)
        pid = holder_of(self.node.spool, record.name).get("supervisor_pid", 0)
        if not pid or name_of(pid) != SUPERVISOR:
            return ""
        with stopped(pid):
            still_has_it = record.exists() and holder_of(self.node.spool, record.name).get("supervisor_pid") == pid
            if still_has_it and name_of(pid) == SUPERVISOR:
                send(pid, signal.SIGKILL)
                return "supervisor"
        return ""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process still."""
    send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pid, signal.SIGCONT)


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def name_of(pid: int) -> str:
    """The name a process shows, empty where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def holder_of(spool: Path, record: str) -> dict:
    """What the lock file of a running record says."""
    try:
        return tomllib.loads((spool / ".spool" / "locks" / f"{record}.lock").read_text())
    except (OSError, ValueError):
        return {}
