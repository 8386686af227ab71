"""A spool in this very process: setting one up, taking single steps, serving it, and judging its end state."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import tomllib
from pathlib import Path

from spooldadd import (
    claim,
    config,
    durable,
    intake,
    layout,
    looking,
    mark,
    planning,
    process,
    record,
    recovery,
    spool,
    writers,
)
from spooldadd.backlog import Entry
from spooldadd.launching import Launching
from spooldadd.log import Log
from spooldadd.worker import Settings, Worker
from tests.support import end_processes_of

NODE = "here"
LINE = 'echo "$SPOOLDADD_ATTEMPT" >> "$LINES"'
# The kernel gives out no pid this high on a machine with its usual settings.
DEAD_PID = 4_194_000
CONFIG = config.load(
    None,
    environ={
        "SPOOLDADD_INTAKE__SETTLE": "0s",
        "SPOOLDADD_NODE": NODE,
        "SPOOLDADD_JOBS": "2",
        "SPOOLDADD_CAPACITY__GPUS": "1",
    },
)


class Bench:
    """One spool with one job that appends the number of its attempt to a file."""

    def __init__(self, durability: str = "power", kind: str = mark.LOCAL) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="spooldadd-fault-"))
        self.spool_path = self.root / "spool"
        self.lines_path = self.root / "lines"
        self.log_path = self.root / "log"
        self.kind = kind
        nodes = (NODE,) if kind == mark.SYNCED else ()
        mark.create(str(self.spool_path), durability=durability, kind=kind, nodes=nodes)
        self.config = CONFIG.model_copy(update={"work_dir": str(self.root / "work")})
        self.environ = planning.base_environ(self.config, {**os.environ, "LINES": str(self.lines_path)})
        self.log = Log(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC))
        self.dropped: bytes = b""
        self.key = "one.toml"

    # -- what a process on this node would have

    def open(self) -> spool.Spool:
        pid = os.getpid()
        own = claim.Holder(NODE, process.boot_id(), pid, process.start_ticks(pid) or 0)
        return spool.open_spool(str(self.spool_path), own)

    def launching(self) -> Launching:
        return Launching(self.open(), self.config, self.log)

    def context(self) -> recovery.Context:
        return self.launching().recovery

    def worker(self) -> Worker:
        """A worker that ends when nothing is left to run."""
        writers.ignore_lease_breaks()
        settings = Settings(jobs=2, is_drain_at_end=True, environ=self.environ, log_arguments=["plain", "info"])
        os.dup2(self.log._fd, 2)  # the launcher and the supervisors write to standard error
        return Worker(self.open(), self.config, settings, self.log)

    # -- steps

    def drop(self, text: str, name: str = "one.toml") -> None:
        self.dropped, self.key = text.encode(), name
        (self.spool_path / name).parent.mkdir(exist_ok=True)
        temporary = self.root / os.path.basename(name)
        temporary.write_bytes(self.dropped)
        temporary.rename(self.spool_path / name)

    def entry(self, name: str | None = None) -> Entry:
        """The dropped file as the worker's intake sees it."""
        name = name or self.key
        found = looking.look(str(self.spool_path / name))
        assert found is not None
        return self.launching().entry_of(intake._drop(name, found))

    def waiting_entry(self) -> Entry:
        (job,) = os.listdir(self.spool_path / layout.WAITING)
        return Entry(job, True, "one", "default", 0, 0.0)

    def claim(self) -> spool.Claim:
        return self.launching().claim(self.entry())

    def recover(self) -> None:
        """The normal start of a worker, up to where it begins to scan."""
        launching = self.launching()
        recovery.recover_all(launching.recovery)
        recovery.remove_stale_locks(launching.recovery)
        launching.prune_work_dirs(time.time())

    def has_work_left(self) -> bool:
        """Tell whether a worker would find something to do."""
        places = [self.spool_path / name for name in ("running", "waiting")]
        return any(map(os.listdir, places)) or any(self._waiting_specs())

    def in_fork(self, step) -> int:
        """Run a step in a process of its own; return how that ended, as `waitpid` says it."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                step()
                code = 0
            except BaseException:
                import traceback

                os.write(self.log._fd, traceback.format_exc().encode())
            finally:
                os._exit(code)
        return os.waitpid(pid, 0)[1]

    def drain(self) -> int:
        """Serve in a process of its own until nothing is left to run."""

        def serve() -> None:
            signal.alarm(60)  # a deadline: the process dies of it, and the trial is bad
            self.worker().serve()

        return self.in_fork(serve)

    def close(self) -> None:
        os.close(self.log._fd)
        end_processes_of(self.root)
        shutil.rmtree(self.root, ignore_errors=True)

    # -- the end state

    def attempts_run(self) -> list[int]:
        """The attempts whose job ran, in order."""
        return [int(line) for line in self.lines_path.read_text().split()] if self.lines_path.exists() else []

    def said(self) -> str:
        return self.log_path.read_text(errors="replace")

    def problems(self) -> list[str]:
        """Everything that is not as it has to be when nothing is left to run."""
        root = self.spool_path
        finished = [*(root / "done").iterdir(), *(root / "failed").iterdir()]
        found = [f"{len(finished)} finished records: {finished}"] if len(finished) != 1 else []
        for place in ("running", "waiting", ".spool/locks"):
            found += [f"left in {place}: {name}" for name in os.listdir(root / place) if name != f"@{NODE}.lock"]
        found += [f"not claimed: {path}" for path in self._waiting_specs()]
        temporary = [path for path in root.rglob("*") if durable.is_temporary(path.name)]
        found += [f"a temporary file stays: {path.relative_to(root)}" for path in temporary]
        for path in finished:
            found += self._problems_of(path)
        return found

    def _waiting_specs(self) -> list[Path]:
        return [*self.spool_path.glob("*.toml"), *self.spool_path.glob("@*/*.toml")]

    def _problems_of(self, path: Path) -> list[str]:
        ran = self.attempts_run()
        found = [f"an attempt ran twice: {ran}"] if len(set(ran)) != len(ran) else []
        if (path / layout.SPEC).read_bytes() != self.dropped:
            found.append("the spec is not what was submitted")
        node = layout.inbox_node(self.key) or (NODE if self.kind == mark.SYNCED else "")
        if layout.bound_nodes(os.listdir(path)) != ([node] if node else []):
            found.append(f"it is not noted that only `{node}` may run it: {sorted(os.listdir(path))}")
        result, claimed = record.read_table(str(path / layout.RESULT)), record.read_table(str(path / layout.CLAIM))
        if result is None or claimed is None:
            return [*found, f"incomplete: {sorted(os.listdir(path))}"]
        found += _untruths(path, result, claimed, ran)
        if path.parent.name == "done":
            work = self.root / "work"
            name = f"{path.name}.{result['attempt']}."
            found += [f"work directory of a done job: {p}" for p in work.rglob("*") if p.name.startswith(name)]
        return found


def _untruths(path: Path, result: dict, claimed: dict, ran: list[int]) -> list[str]:
    found = []
    for key, truth in {
        "job": path.name,
        "state": path.parent.name,
        "attempt": claimed["attempt"],
        "node": claimed["node"],
        "claimed_at": claimed["claimed_at"],
        "submitted_at": claimed["submitted_at"],
    }.items():
        if result.get(key) != truth:
            found.append(f"result.toml: {key} is {result.get(key)!r}, in truth {truth!r}")
    if result["outcome"] in ("success", "exit") and (not ran or ran[-1] != result["attempt"]):
        found.append(f"outcome {result['outcome']} of attempt {result['attempt']}, but what ran is {ran}")
    if len(ran) > result["attempt"]:
        found.append(f"{len(ran)} runs in {result['attempt']} attempts")
    if not result.get("reason"):
        found.append("no reason")
    for number in range(1, result["attempt"]):
        earlier = path / layout.ATTEMPTS / str(number) / layout.RESULT
        if number in ran and not earlier.exists():
            found.append(f"attempt {number} ran, but left no result")
        elif earlier.exists() and tomllib.loads(earlier.read_text())["attempt"] != number:
            found.append(f"attempts/{number} holds another attempt's result")
    return found
