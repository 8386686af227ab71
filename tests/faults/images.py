"""Cut the power after every step: what a file system had really sent to its disk is mounted again, recovered, and judged.

    python3 -m tests.faults.images                          ext4 with and without a journal, xfs, btrfs
    python3 -m tests.faults.images btrfs --scene claim
    python3 -m tests.faults.images --backwards              what lasts in no order, the other way round
    python3 -m tests.faults.images --durability process     the same without the power cut: all is flushed, the process dies

Needs root, loop devices, and mkfs of each kind. A spool is made on a file system in a file. One step of a job's life runs in
it, and after each of its calls that change a file or make it last, the file with the file system is copied: that is the disk
at this moment, with nothing of what the kernel still kept in memory. Later each copy that differs from the one before is
mounted (which replays its journal), a worker's recovery runs as after a boot, and every spec must be in exactly one place,
whole. After the last call of a step what it promised must be there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from spooldadd import acting, claim, layout, process, retention, spool, submitting
from spooldadd.inspect import jobs
from tests.faults import faulty, steps
from tests.faults.bench import NODE, Bench

NO_JOURNAL = "ext4-without-journal"  # each block lasts by itself, in any order; mounted after a check, as at a boot
KINDS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
    NO_JOURNAL: ["mkfs.ext4", "-q", "-F", "-O", "^has_journal"],
}
SIZE = "320M"  # what the smallest xfs needs
CALLS = ("open", "write", "rename", "link", "unlink", "mkdir", "rmdir", "fsync")
STARTED = "started"
ROOT, WAITING, DONE, FAILED = "root", layout.WAITING, layout.DONE, layout.FAILED


@dataclass(frozen=True)
class Cut:
    """A step: what is there before, what is done, and where the spec may be in the end."""

    name: str
    spec: str
    before: Callable[[Bench], object]
    begin: Callable[[Bench], Callable[[], object]]
    promised: frozenset[str]  # where it must be after the last call
    is_submission: bool = False  # before its end nothing is promised
    is_removal: bool = False  # it may be gone in the end, never half
    beside: str = ""  # another spec, which has to be in exactly one place, too
    is_linked: bool = False  # the spool is reached by a symbolic link


@dataclass(frozen=True)
class How:
    """With `process` all is flushed before a picture: only the process dies then."""

    durability: str = "power"
    is_backwards: bool = False  # what lasts in no order is asked for in the other one


@dataclass
class Disk:
    """A file system in a file, mounted where the spool is."""

    kind: str
    place: Path
    image: Path = field(init=False)
    mount: Path = field(init=False)

    def __post_init__(self) -> None:
        self.image, self.mount = self.place / "disk.img", self.place / "mnt"
        self.mount.mkdir()

    def make(self) -> None:
        self.image.unlink(missing_ok=True)
        run("truncate", "-s", SIZE, self.image)
        run(*KINDS[self.kind], self.image)
        self.attach(self.image)

    def attach(self, image: Path) -> None:
        if self.kind == NO_JOURNAL:  # which says in its answer what it mended
            subprocess.run(["e2fsck", "-f", "-y", image], check=False, capture_output=True)
        run("mount", "-o", "loop,nouuid" if self.kind == "xfs" else "loop", image, self.mount)

    def detach(self) -> None:
        run("umount", self.mount)


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")


# -- the steps


def _nothing(_bench: Bench) -> None: ...


def _drop(bench: Bench) -> None:
    bench.drop(steps.ONCE)


def _submit(bench: Bench) -> Callable[[], object]:
    bench.dropped = steps.ONCE.encode()
    places, sync = bench.open().places, bench.open().sync
    return lambda: submitting.drop(places, bench.dropped, "one", sync=sync)


def _go_on(bench: Bench) -> Callable[[], object]:
    return steps.go_on(bench, is_whole=True)


def _whole(bench: Bench) -> Callable[[], object]:
    """Claim and run, with nothing flushed in between: what a claim leaves to be made last later."""
    return lambda: steps.run_attempt(bench)()


def _failed(bench: Bench) -> None:
    bench.drop(steps.FAILS)
    bench.in_fork(lambda: steps.run_attempt(bench)())


def _waiting(bench: Bench) -> None:
    bench.drop(steps.AGAIN)
    bench.in_fork(lambda: steps.run_attempt(bench)())


def _retry(bench: Bench) -> Callable[[], object]:
    the_spool = bench.open()
    (job,) = jobs.list_jobs(the_spool.places, [FAILED])
    return lambda: acting.retry(the_spool, job)


def _prune(bench: Bench) -> Callable[[], object]:
    the_spool = bench.open()
    bounds = retention.Bounds(failed_count=0)
    pruner = retention.Pruner(the_spool.places, bounds, retention.Guards(), sync=the_spool.sync)
    return lambda: pruner.run(retention.Telling())


def _drops(text: str) -> Callable[[Bench], None]:
    return lambda bench: bench.drop(text)


RUNNING_IS = frozenset({WAITING, FAILED})  # claimed when the power went: never started, or lost
CUTS = [
    Cut("drop", steps.ONCE, _nothing, _submit, frozenset({ROOT}), is_submission=True),
    Cut("claim", steps.ONCE, _drop, steps._claim, RUNNING_IS),
    Cut("claim-waiting", steps.AGAIN, _waiting, steps._claim_waiting, RUNNING_IS),
    Cut("filing-a-success", steps.ONCE, _drop, steps.run_attempt, frozenset({DONE})),
    Cut("filing-a-failure", steps.FAILS, _drops(steps.FAILS), steps.run_attempt, frozenset({FAILED})),
    Cut("waiting", steps.AGAIN, _drops(steps.AGAIN), steps.run_attempt, frozenset({WAITING})),
    Cut("whole", steps.ONCE, _drop, _whole, frozenset({DONE})),
    Cut("whole-by-a-link", steps.ONCE, _drop, _whole, frozenset({DONE}), is_linked=True),
    Cut("go-on", steps.ONCE, _drop, _go_on, frozenset({DONE}), beside=steps.BEFORE),
    Cut("put-back", steps.ONCE, _drop, steps._put_back, frozenset({ROOT, WAITING})),
    Cut("requeue", steps.ONCE, _drop, steps._requeue, frozenset({WAITING})),
    Cut("retry", steps.FAILS, _failed, _retry, frozenset({WAITING})),
    Cut("prune", steps.FAILS, _failed, _prune, frozenset(), is_removal=True),
]


# -- cutting


class Camera:
    """Copies the disk after each call that changes a file or makes it last."""

    def __init__(self, disk: Disk, how: How, lines: Path) -> None:
        self._disk = disk
        self._how = how
        self._lines = lines  # which the job adds to when it starts
        self._lines_before = lines.read_bytes() if lines.exists() else b""
        self._pid = os.getpid()
        self._last = ""
        self.count = self.calls = 0

    def arm(self) -> None:
        self.take("before")
        faulty.one_by_one(is_backwards=self._how.is_backwards)
        for name in CALLS:
            setattr(os, name, self._taking(name, getattr(os, name)))

    def _taking(self, name: str, real: Callable) -> Callable:
        def call(*arguments, **options):
            counts = os.getpid() == self._pid and faulty._is_changing(name, arguments)
            shown = f"{name}({', '.join(self._show(word) for word in arguments[:2])})" if counts else ""
            answer = real(*arguments, **options)
            if counts:
                self.calls += 1
                self.take(shown)
            return answer

        return call

    def _show(self, word: object) -> str:
        if isinstance(word, int) and word > 2:
            try:
                word = os.readlink(f"/proc/self/fd/{word}")
            except OSError:
                pass
        return repr(word)[:100].replace(f"{self._disk.mount}/", "")

    def take(self, shown: str) -> None:
        """Keep the disk as it is now, unless it is as it was."""
        if self._how.durability == "process":
            subprocess.run(["sync", "-f", self._disk.mount], check=True)
        seen = digest(self._disk.image)
        if seen == self._last:
            self._note(shown)
            return
        self._last = seen
        self.count += 1
        subprocess.run(
            ["cp", "--sparse=always", self._disk.image, self._disk.place / f"cut-{self.count:03}.img"], check=True
        )
        self._note(shown)

    def _note(self, shown: str) -> None:
        """Say after which call, and whether the job had started by then."""
        lines = self._lines.read_bytes() if self._lines.exists() else b""
        with (self._disk.place / "calls").open("a") as file:
            file.write(f"{self.count}\t{shown}\t{STARTED if lines != self._lines_before else ''}\n")


def digest(path: Path) -> str:
    """Return the sum of what is in a sparse file, holes left out."""
    total, at = hashlib.blake2b(), 0
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            total.update(f"{start}-{at}".encode())
            total.update(os.pread(file.fileno(), at - start, start))
    return total.hexdigest()


def cut_everywhere(disk: Disk, cut: Cut, how: How, tally: Counter[str]) -> list[str]:
    """Take the step once with the camera on, and judge each picture. Returns what is wrong."""
    for old in [*disk.place.glob("cut-*.img"), disk.place / "calls"]:
        old.unlink(missing_ok=True)
    disk.make()
    tempfile.tempdir = str(disk.mount)
    bench = Bench(how.durability)
    if cut.is_linked:
        bench.spool_path.rename(bench.root / "elsewhere")
        bench.spool_path.symlink_to("elsewhere")
    try:
        bench.dropped = cut.spec.encode()
        cut.before(bench)
        before = contents(bench)
        os.sync()

        def take() -> None:
            step = cut.begin(bench)
            os.sync()
            Camera(disk, how, bench.lines_path).arm()
            step()

        status = bench.in_fork(take)
    finally:
        os.close(bench.log._fd)
        tempfile.tempdir = None
        disk.detach()
    found = [f"the step itself ended with {status}"] if status else []
    pictures = sorted(disk.place.glob("cut-*.img"))
    said = (disk.place / "calls").read_text().splitlines()
    last_calls = {int(line.split("\t")[0]): line.split("\t")[1] for line in said}
    started = {int(line.split("\t")[0]) for line in said if line.endswith(STARTED)}
    tally["calls"] += len(said) - 1
    for number, picture in enumerate(pictures, 1):
        tally["pictures"] += 1
        disk.attach(picture)
        try:
            problems = judge(bench, cut, before, is_last=number == len(pictures), tally=tally)
            if number in started and ROOT not in cut.promised and WAITING not in cut.promised:
                problems += [f"it had started, and is in {place}" for place in where(bench) if place in (ROOT, WAITING)]
        finally:
            disk.detach()
        found += [f"after {last_calls.get(number, '?')}: {problem}" for problem in problems]
    return found


# -- judging


def judge(bench: Bench, cut: Cut, before: dict[str, bytes], *, is_last: bool, tally: Counter[str]) -> list[str]:
    """Recover as a worker does after a boot, and say what is wrong then."""
    bench.log_path.touch()
    bench.log = type(bench.log)(os.open(bench.log_path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    try:
        tally["twins"] += len(where(bench)) > 1
        code = bench.in_fork(lambda: after_boot(bench))
        places = where(bench)
        found = [f"recovery ended with {code}: {bench.said()[-400:]}"] if code else []
    finally:
        os.close(bench.log._fd)
    beside = where(bench, cut.beside.encode()) if cut.beside else [ROOT]
    found += [f"the other spec is in {beside or 'no place'}"] if len(beside) != 1 else []
    left = os.listdir(bench.spool_path / layout.RUNNING)
    if cut.is_submission and not is_last:
        return found + ([f"in {places}"] if len(places) > 1 else [])
    if cut.is_removal:
        whole = contents(bench)
        is_half = bool(places) and any(whole.get(name) != data for name, data in before.items() if name.startswith(FAILED))
        return [*found, *(["half a record stands in `failed/`"] if is_half else [])]
    if len(places) != 1 or left:
        return [*found, f"the spec is in {places or 'no place'}, running: {left}"]
    if is_last and places[0] not in cut.promised:
        found.append(f"the step was over, and the spec is in {places[0]}")
    return found


def after_boot(bench: Bench) -> None:
    """The kernel has another boot id then."""
    process.boot_id = lambda: "another-boot"  # in a fork
    real = bench.open

    def open_() -> spool.Spool:
        return spool.Spool(str(bench.spool_path), real().format, claim.Holder(NODE, "another-boot", os.getpid(), 1))

    bench.open = open_
    bench.recover()


def where(bench: Bench, data: bytes | None = None) -> list[str]:
    """Return the places where the very bytes of the spec are, or of another one."""
    root = bench.spool_path
    data = bench.dropped if data is None else data
    found = [ROOT for path in root.glob("*.toml") if path.read_bytes() == data]
    for state in layout.STATES:
        for path in (root / state).iterdir():
            spec = path / layout.SPEC
            if spec.is_file() and spec.read_bytes() == data:
                found.append(state)
    return found


def contents(bench: Bench) -> dict[str, bytes]:
    root = bench.spool_path
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--scene", action="append", choices=[cut.name for cut in CUTS])
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--backwards", action="store_true", help="ask the other way round for what lasts in no order")
    options = parser.parse_args()
    how = How(options.durability, options.backwards)
    wrong = 0
    for kind in options.kinds or KINDS:
        place = Path(tempfile.mkdtemp(prefix=f"spooldadd-{kind}-"))
        try:
            for cut in CUTS:
                if options.scene and cut.name not in options.scene:
                    continue
                tally: Counter[str] = Counter()
                found = cut_everywhere(disk_in(kind, place), cut, how, tally)
                wrong += len(found)
                seen = ", ".join(f"{count} {what}" for what, count in tally.items() if count)
                print(f"{kind:<20} {cut.name:<17} {seen}: {'fine' if not found else f'{len(found)} WRONG'}", flush=True)
                for line in found:
                    print(f"       {line}", flush=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return int(wrong > 0)


def disk_in(kind: str, place: Path) -> Disk:
    shutil.rmtree(place / "mnt", ignore_errors=True)
    return Disk(kind, place)


if __name__ == "__main__":
    sys.exit(main())
