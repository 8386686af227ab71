"""In which order things are made last: the file, the rename, the target directory, then the source directory.

Read off the calls of each step, as they are made. `images.py` shows on real file systems what the order is for.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable

import pytest

from spooldadd import acting, durable, layout
from tests.faults import faulty, images, steps
from tests.faults.bench import Bench

FSYNC, RENAME, CREATE, WRITE, FAILED = "fsync", "rename", "create", "write", "failed"
# Hints, and what nobody relies on after a boot.
PASSING = (".wake", "/locks/", "/nodes/", "/notify/", "prune.lock", "/work/", "/lines", "output.log", "/log")
STEPS = [(cut.name, cut.before, cut.begin, cut.spec) for cut in images.CUTS]
STEPS += [
    (f"{scene.name} ({scene.key})", _before, scene.begin, scene.spec)
    for scene in steps.SCENES
    if scene.name.startswith(("recover", "refuse")) and scene.name != "recover-what-was-never-claimed"  # it moves nothing
    for _before in [lambda bench, scene=scene: (bench.drop(scene.spec, scene.key), scene.before(bench))]
]


class Recorder:
    """Notes the calls that change names or bytes, or make them last; lets the `fail_at`-th fsync of a file fail."""

    def __init__(self, root: str, fail_at: int = 0) -> None:
        self.root, self.events = root, []
        self._pid, self._fail_at, self._fsyncs = os.getpid(), fail_at, 0

    def arm(self) -> None:
        faulty.one_by_one()
        for name, note in (("open", self._opened), ("write", self._written), ("rename", self._renamed)):
            setattr(os, name, self._noting(getattr(os, name), note))
        os.fsync = self._fsyncing(os.fsync)
        durable._rename_no_replace = self._noting(durable._rename_no_replace, self._renamed)
        acting.rename_new = self._noting(acting.rename_new, self._renamed)

    def _noting(self, real: Callable, note: Callable) -> Callable:
        def call(*arguments, **options):
            answer = real(*arguments, **options)
            if os.getpid() == self._pid:
                note(answer, *arguments)
            return answer

        return call

    def _fsyncing(self, real: Callable) -> Callable:
        def fsync(fd: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            if os.getpid() == self._pid and stat.S_ISREG(os.fstat(fd).st_mode):
                self._fsyncs += 1
                if self._fsyncs == self._fail_at:
                    self.events.append((FAILED, path))
                    raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            real(fd)
            self.events.append((FSYNC, path))

        return fsync

    def _opened(self, fd: int, path, flags: int, *_rest) -> None:
        if flags & os.O_CREAT:
            self.events.append((CREATE, os.readlink(f"/proc/self/fd/{fd}")))

    def _written(self, _count: int, fd: int, *_rest) -> None:
        self.events.append((WRITE, os.readlink(f"/proc/self/fd/{fd}")))

    def _renamed(self, answer, source, target, *_rest) -> None:
        if not answer:  # None, or 0
            self.events.append((RENAME, os.fsdecode(source), os.fsdecode(target)))


def record(step: Callable[[Bench], Callable[[], object]], before: Callable, spec: str, fail_at: int = 0) -> list[tuple]:
    """Take one step in a process of its own; return its calls on the spool."""
    bench = Bench()
    try:
        bench.dropped = spec.encode()
        before(bench)
        found = bench.root / "calls.json"

        def take() -> None:
            begun = step(bench)
            recorder = Recorder(str(bench.spool_path), fail_at)
            recorder.arm()
            try:
                begun()
            except OSError:
                assert fail_at
            except Exception as error:
                assert fail_at, error
            finally:
                found.write_text(json.dumps(recorder.events))

        assert bench.in_fork(take) == 0 or fail_at, bench.said()
        events = [tuple(event) for event in json.loads(found.read_text())]
        return [event for event in events if event[0] == FAILED or not any(map(is_passing, event[1:]))]
    finally:
        bench.close()


def is_passing(path: str) -> bool:
    return any(part in path for part in PASSING)


def faults_in(events: list[tuple]) -> list[str]:
    """Return where the order is not kept."""
    found = []
    for at, event in enumerate(events):
        if event[0] == FSYNC:
            found += [f"{event[1]} is made last before {path} in it" for path in _not_yet_last(events[:at], event[1])]
        if event[0] != RENAME:
            continue
        source, target = event[1:]
        found += _unsettled(events[:at], source)
        before = [other for other in events[:at] if other[0] in (WRITE, CREATE, FSYNC) and other[1] == source]
        if before and before[-1][0] != FSYNC:
            found.append(f"{source} is renamed before it is made last")
        later = [other[1] for other in events[at + 1 :] if other[0] == FSYNC]
        target_directory, source_directory = os.path.dirname(target), os.path.dirname(source)
        if target_directory not in later:
            found.append(f"{target_directory} is not made last after {source} came in")
        elif source_directory not in later and source_directory != target_directory:
            if not any(source_directory == other[1] for other in events[at + 1 :] if other[0] == RENAME):
                found.append(f"{source_directory} is not made last after {source} left")
        elif later.index(source_directory) < later.index(target_directory):
            found.append(f"{source_directory} before {target_directory}")
    return found


def _unsettled(events: list[tuple], source: str) -> list[str]:
    """Say where a record leaves `running/` whose spec may still be seen, after a power cut, where it was dropped."""
    came = [at for at, event in enumerate(events) if event[0] == RENAME and event[2] == f"{source}/spec.toml"]
    if os.path.basename(os.path.dirname(source)) != layout.RUNNING or not came:
        return []
    left = os.path.dirname(events[came[-1]][1])
    is_last = any(event[:2] == (FSYNC, left) for event in events[came[-1] :])
    return [] if is_last else [f"{source} leaves before {left} is made last"]


def _not_yet_last(events: list[tuple], directory: str) -> list[str]:
    """Return the files that were made in this directory and whose bytes may not be on the disk yet."""
    last = {event[1]: event[0] for event in events if event[0] in (WRITE, CREATE, FSYNC)}
    return [path for path, what in last.items() if what != FSYNC and os.path.dirname(path) == directory]


@pytest.mark.parametrize(("before", "begin", "spec"), [each[1:] for each in STEPS], ids=[each[0] for each in STEPS])
def test_each_move_is_made_last_in_its_order(before: Callable, begin: Callable, spec: str) -> None:
    events = record(begin, before, spec)
    assert [event for event in events if event[0] == RENAME], "nothing was moved"
    found = faults_in(events)
    if begin is steps._claim:  # what a drop has left is made last with the result: `whole` goes so far
        assert len(found) == 1
        assert found[0].endswith("one.toml left")
        return
    assert found == [], "\n".join(map(str, events))


@pytest.mark.parametrize(("before", "begin", "spec"), [each[1:] for each in STEPS[:6]], ids=[each[0] for each in STEPS[:6]])
def test_a_file_that_could_not_be_made_last_is_never_put_in_place(before: Callable, begin: Callable, spec: str) -> None:
    """After a failed fsync the kernel forgets the bytes, and a second one says that all is well: it must be written anew."""
    struck = 0
    for at in range(1, 20):
        events = record(begin, before, spec, at)
        bad = [number for number, event in enumerate(events) if event[0] == FAILED]
        if not bad:
            break
        struck += 1
        path = events[bad[0]][1]
        for event in events[bad[0] + 1 :]:
            if event == (CREATE, path):
                break
            assert event[:2] != (RENAME, path), f"fsync {at} of {path} failed, and it was put in place"
            assert event != (FSYNC, path), f"fsync {at} of {path} failed, and was only called again"
    assert struck, "no fsync of a file was struck"


def test_a_log_that_could_not_be_made_last_is_told_in_the_reason() -> None:
    """The whole filing was tried again, the second fsync of the same file said that all was well, and nobody ever knew."""
    bench = Bench()
    try:
        bench.drop("""command = "echo said"\n""")

        def take() -> None:
            step = steps.run_attempt(bench)
            Recorder(str(bench.spool_path), 1).arm()  # the first file that is made last is the log
            step()

        assert bench.in_fork(take) == 0, bench.said()
        (path,) = (bench.spool_path / "done").iterdir()
        assert "a part of `output.log` may be missing" in (path / "result.toml").read_text()
    finally:
        bench.close()
