"""One worker's life with many small jobs of all kinds: memory, descriptors, threads and child processes stay flat.

    python3 -m tests.faults.soak --jobs 50000        some minutes; a table and a verdict
    python3 -m tests.faults.soak --jobs 500          seconds

Successes, failures with a mail to a local Maildir, retries, restartable ones, ones that read standard input, print, or run
in a Python environment of their own, or are cancelled while they wait and while they run; old records are pruned all the
while. The worker, its launcher and its supervisors are looked at every second. Flat means: from the first fifth after a
warm-up to the last fifth of its life, the median grew by no more than noise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from spooldadd import acting, layout, spool
from spooldadd.inspect import jobs
from tests.e2e.environment_index import wheel
from tests.faults.chaos import LAUNCHER, SUPERVISOR, name_of
from tests.support import Node, until

# So many dropped files wait at once: a backlog, and not fifty thousand names in one directory.
AHEAD = 400
SAMPLE_S = 1.0
PRUNE_EVERY, KEPT = 2500, 1000
WARM = 0.1  # of its life: imports, caches, the first supervisors
# What may come of noise: a few pages of the allocator, a file that is open just now.
NOISE = {"rss_kib": 3072, "fds": 3, "threads": 0, "children": 3}
SHELL = "echo line of output; echo more >&2"
AGAIN = 'test "$SPOOLDADD_ATTEMPT" -ge 2'


@dataclass
class Samples:
    """What was seen of the processes of one kind: numbers by what they are."""

    seen: dict[str, list[int]] = field(default_factory=dict)

    def add(self, **values: int) -> None:
        for name, value in values.items():
            self.seen.setdefault(name, []).append(value)

    def early_and_late(self, name: str) -> tuple[float, float, int]:
        values = self.seen[name]
        start = int(len(values) * WARM)
        fifth = max(1, (len(values) - start) // 5)
        return statistics.median(values[start : start + fifth]), statistics.median(values[-fifth:]), max(values)


def spec(number: int, wheel_url: str) -> tuple[str, str]:
    """Return name and text of the job of this number."""
    kind = number % 100
    if kind == 7:
        return "again", f"command = '{AGAIN}'\n[retry]\nattempts = 2\nbackoff = \"10ms\"\n"
    if kind in (13, 63):
        return "fails", "command = 'echo some trouble; exit 3'\n"
    if kind == 21:
        return "restartable", 'command = ["true"]\nrestartable = true\n'
    if kind == 33:
        return "reads", 'command = ["cat"]\nstdin = "some input"\n[config]\nkey = 1\n'
    if kind == 41:
        return "env", f'command = ["python", "-c", "import soaked"]\n[python]\nrequirements = ["{wheel_url}"]\n'
    if kind == 57:
        return "later", 'command = ["true"]\n[run]\nnot_before = 2099-01-01T00:00:00Z\n'
    if number % 1000 == 77:
        return "long", 'command = ["sleep", "600"]\n'
    if kind % 10 == 5:
        return "prints", f"command = '{SHELL}'\n"
    return "true", 'command = ["true"]\n'


class Soak:
    """The spool, its one worker, and whoever feeds it."""

    def __init__(self, root: Path, total: int) -> None:
        self.total = total
        environ = {
            "SPOOLDADD_INTAKE__SETTLE": "0s",
            "SPOOLDADD_CACHE_DIR": str(root / "cache"),
            "SPOOLDADD_JOBS": "4",
            "SPOOLDADD_CONFIG": str(root / "worker.toml"),
        }
        (root / "worker.toml").write_text(
            f'[mail]\nto = ["ops@example.org"]\n[transport]\nlocal = {{ kind = "maildir", directory = "{root}/mailbox" }}\n'
        )
        name, data = wheel("soaked", "1.0")
        (root / name).write_bytes(data)
        self.wheel_url = f"file://{root / name}"
        self.node = Node(root, environ=environ, durability="process")
        self.spool = spool.open_spool(str(self.node.spool))
        self.dropped = self.ended = self.cancelled = self.pruned = 0
        self.outcomes: Counter[str] = Counter()
        self.kinds: dict[str, Samples] = {"worker": Samples(), "launcher": Samples(), "supervisor": Samples()}
        self._read_to = 0

    def run(self) -> None:
        self.worker = self.node.start()
        begun, next_sample, next_prune = time.monotonic(), 0.0, PRUNE_EVERY
        while self.ended < self.total:
            if self.worker.poll() is not None:
                raise SystemExit(f"the worker ended with {self.worker.returncode}:\n{self.node.said()[-2000:]}")
            self._feed()
            self._heed_log()
            self._cancel_long()
            if time.monotonic() >= next_sample:
                next_sample = time.monotonic() + SAMPLE_S
                self._sample()
            if self.ended >= next_prune:
                next_prune += PRUNE_EVERY
                self._prune()
            time.sleep(0.05)
        self.lasted_s = time.monotonic() - begun

    def _feed(self) -> None:
        while self.dropped < self.total and self.dropped - self.ended < AHEAD:
            name, text = spec(self.dropped, self.wheel_url)
            file_name = f"{name}-{self.dropped}.toml"
            self.node.drop(file_name, text)
            self.dropped += 1
            if name == "later":
                acting.cancel(self.spool, jobs.find(self.spool.places, file_name))
                self.cancelled += 1
                self.ended += 1  # by us: the worker does not log it

    def _heed_log(self) -> None:
        with self.node.log.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
        self._read_to += len(whole)
        for line in whole.splitlines():
            if b"event=filed" in line and b"state=waiting" not in line:
                self.ended += 1
                self.outcomes[line.split(b"outcome=")[1].split()[0].decode()] += 1

    def _cancel_long(self) -> None:
        for path in (self.node.spool / layout.RUNNING).glob("long-*"):
            try:
                (path / layout.CANCEL).touch(exist_ok=False)
            except (FileExistsError, FileNotFoundError, NotADirectoryError):
                continue
            acting.wake(self.spool.places)

    def _prune(self) -> None:
        done = self.node.run("--spool", str(self.node.spool), "prune", "--keep", str(KEPT), timeout=900)
        self.pruned += len(done.stdout.split())

    def _sample(self) -> None:
        children = children_of(self.worker.pid)
        self.kinds["worker"].add(**look(self.worker.pid), children=len(children))
        launchers = [pid for pid in children if name_of(pid) == LAUNCHER]
        supervisors = [pid for launcher in launchers for pid in children_of(launcher) if name_of(pid) == SUPERVISOR]
        for pid in launchers:
            self.kinds["launcher"].add(**look(pid), children=len(children_of(pid)))
        found = [seen for pid in supervisors if (seen := look(pid))]
        if found:
            self.kinds["supervisor"].add(
                rss_kib=max(seen["rss_kib"] for seen in found), fds=max(seen["fds"] for seen in found), children=len(found)
            )

    def report(self) -> bool:
        """Print the table; return whether all is flat."""
        rate = self.ended / self.lasted_s
        print(f"{self.ended} jobs in {self.lasted_s:.0f} s, {rate:.0f} a second; {self.pruned} records pruned meanwhile")
        ended = ", ".join(f"{count} {what}" for what, count in self.outcomes.most_common())
        print(f"outcomes: {ended}, {self.cancelled} cancelled before they started")
        print(f"letters in the Maildir: {sum(1 for _ in (self.node.spool.parent / 'mailbox').rglob('new/*'))}")
        print(f"{'process':<11}{'what':<10}{'early':>9}{'late':>9}{'most':>9}  verdict")
        is_flat = True
        for kind, samples in self.kinds.items():
            for what in samples.seen:
                early, late, most = samples.early_and_late(what)
                fits = late - early <= NOISE[what]
                is_flat &= fits
                print(f"{kind:<11}{what:<10}{early:>9.0f}{late:>9.0f}{most:>9}  {'flat' if fits else 'GROWS'}")
        return is_flat and self.has_all()

    def left(self) -> list[Path]:
        places = (layout.RUNNING, layout.WAITING, ".spool/locks")
        return [path for place in places for path in (self.node.spool / place).iterdir()]

    def has_all(self) -> bool:
        left = self.left()
        kept = sum(1 for state in (layout.DONE, layout.FAILED) for _ in (self.node.spool / state).iterdir())
        print(f"left over: {len(left)}; records kept and pruned: {kept + self.pruned} of {self.total}")
        return not left and kept + self.pruned == self.total

    def close(self) -> None:
        self.worker.terminate()
        self.worker.wait(30)
        self.node.close()


def look(pid: int) -> dict[str, int]:
    """Return what a process uses now; nothing where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return {
            "rss_kib": int(fields["VmRSS"].split()[0]),
            "fds": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": int(fields["Threads"]),
        }
    except (OSError, KeyError):
        return {}


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:
        pass
    return found


def soak(total: int) -> bool:
    root = Path(tempfile.mkdtemp(prefix="spooldadd-soak-"))
    try:
        life = Soak(root, total)
        try:
            life.run()
            until(lambda: not life.left(), "the last records are filed, and their locks gone")
            return life.report()
        finally:
            life.close()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50_000)
    is_flat = soak(parser.parse_args().jobs)
    print("flat, and nothing lost" if is_flat else "NOT FLAT, or something is left")
    return int(not is_flat)


if __name__ == "__main__":
    sys.exit(main())
