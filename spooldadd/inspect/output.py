"""What a job printed: its end, all of it, or as it comes. Bytes, unchanged.

A log is opened once and its descriptor kept: the record may move meanwhile, the descriptor stays.
"""

from __future__ import annotations

import os

from spooldadd import durable, layout
from spooldadd.inspect import attempts
from spooldadd.inspect.following import Follower, Pace
from spooldadd.inspect.job import Job

TYPE_CHECKING = False  # not from `typing`: readers are to start fast
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 18
# A person sees a line within this time.
FOLLOW_S = 0.2
CUT_MARK = b"\n[spooldadd: cut here"

STDOUT, STDERR = 1, 2


class Stream:
    """One open log, and the descriptor that its bytes go to."""

    def __init__(self, path: str, target: int, last_lines: int | None = None) -> None:
        """Raises: FileNotFoundError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._target = target
        size_bytes = os.fstat(self._fd).st_size
        self._place = 0 if last_lines is None else start_of_last(self._fd, size_bytes, last_lines)

    def pump(self) -> bool:
        """Write what has come since the last time; return whether anything has. Raises: BrokenPipeError."""
        any_came = False
        self._heed_cut()
        while data := os.pread(self._fd, CHUNK_BYTES, self._place):
            durable.write_all(self._target, data)
            self._place += len(data)
            any_came = True
        return any_came

    def close(self) -> None:
        """Let go of the log."""
        os.close(self._fd)

    def _heed_cut(self) -> None:
        """A log that grew beyond its limit was cut after we had read more of it: what is new is the note that says so."""
        size_bytes = os.fstat(self._fd).st_size
        if size_bytes < self._place:
            start = max(0, size_bytes - 4096)
            found = os.pread(self._fd, 4096, start).rfind(CUT_MARK)
            self._place = size_bytes if found < 0 else start + found


def start_of_last(fd: int, size_bytes: int, lines: int) -> int:
    """Return where the last lines of a file begin, reading from its end only as much as it takes."""
    if lines <= 0:
        return size_bytes
    place = size_bytes
    wanted = lines
    while place > 0:
        length = min(CHUNK_BYTES, place)
        data = os.pread(fd, length, place - length)
        end = len(data)
        if place == size_bytes and data.endswith(b"\n"):
            end -= 1  # the end of the last line, not the beginning of another
        while (end := data.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if wanted == 0:
                return place - length + end + 1
        place -= length
    return 0


def last_lines(path: str, lines: int, most_bytes: int = 65536) -> bytes:
    """Return the last lines of a log, no more than so many bytes; empty where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        size_bytes = os.fstat(fd).st_size
        start = max(start_of_last(fd, size_bytes, lines), size_bytes - most_bytes)
        return os.pread(fd, most_bytes, start)
    except OSError:
        return b""
    finally:
        os.close(fd)


class Choice:
    """Which logs of an attempt are wanted. `wanted` names the only one, or is None for all that it printed."""

    def __init__(self, wanted: str | None = None, last: int | None = None) -> None:
        self.wanted = wanted
        self.last = last

    def targets(self) -> dict[str, int]:
        """Return the names of the logs, and where each goes: the second of two to where errors go, unless it is alone."""
        if self.wanted is not None:
            return {self.wanted: STDOUT}
        return {layout.OUTPUT_LOG: STDOUT, layout.STDOUT_LOG: STDOUT, layout.STDERR_LOG: STDERR}

    def open(self, directory: str, streams: dict[str, Stream]) -> None:
        """Add the logs in this directory that are not open yet."""
        for name, target in self.targets().items():
            if name not in streams:
                try:
                    streams[name] = Stream(os.path.join(directory, name), target, self.last)
                except FileNotFoundError:
                    continue


def copy(directory: str, choice: Choice) -> bool:
    """Write the logs of one attempt; return whether there were any."""
    streams: dict[str, Stream] = {}
    choice.open(directory, streams)
    for stream in streams.values():
        stream.pump()
        stream.close()
    return bool(streams)


class Tail:
    """Follows a job's output through its moves and its attempts, until it has ended."""

    def __init__(self, follower: Follower, choice: Choice, attempt: int, say: Callable[[str], None]) -> None:
        self._follower = follower
        self._choice = choice
        self._attempt = attempt
        self._say = say
        self._pace = Pace(FOLLOW_S)
        self._streams: dict[str, Stream] = {}

    def follow(self) -> Job:
        """Write what comes; return the job when it has ended. Raises: NoSuchJob where it was removed."""
        try:
            while True:
                job = self._follower.look()
                # First the look, then the bytes: what the job printed before it ended is there by now.
                if self._take(job):
                    self._pace.restart()
                if job.is_finished and self._attempt > job.attempt():
                    return job
                self._pace.sleep()
        finally:
            self._close()

    def _take(self, job: Job) -> bool:
        """Write what this attempt has printed; go on to the next one where this one is over."""
        for directory in _directories(job, self._attempt):
            self._choice.open(directory, self._streams)
        any_came = sum(stream.pump() for stream in self._streams.values()) > 0
        if _is_over(job, self._attempt):
            self._close()
            self._choice.last = None
            self._say_next(job)
            self._attempt += 1
            return True
        return any_came

    def _say_next(self, job: Job) -> None:
        if not job.is_finished or self._attempt < job.attempt():
            self._say(f"attempt {self._attempt} of `{job.id}` is over; following the next one")

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams = {}


def _is_over(job: Job, attempt: int) -> bool:
    if job.state == layout.RUNNING:
        return job.attempt_claimed > attempt
    return not job.is_drop and job.attempt() >= attempt


def _directories(job: Job, attempt: int) -> Iterator[str]:
    """Yield where the logs of this attempt may be: in the record, or where the record puts earlier attempts."""
    if job.is_drop or job.attempt() < attempt:
        return
    newest = attempts.last(job)
    if newest is not None and newest.number == attempt:
        yield job.path
    yield os.path.join(job.path, layout.ATTEMPTS, str(attempt))


def directory_of(job: Job, attempt: int) -> str | None:
    """Return where the files of this attempt are, or None where there is no such attempt."""
    found = [one.path for one in attempts.every(job) if one.number == attempt]
    return found[0] if found else None
