"""Processes as the kernel shows them: who they are, what belongs to a tree, what it uses. Light: the launcher loads it.

A pid says nothing by itself: the kernel gives it out again. Pid, start time and boot id together name one process.

Source: proc(5); prctl(2) for the subreaper.
"""

from __future__ import annotations

import ctypes
import os
import time

from spooldadd.bare import signal

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
TICK_NS = 10**9 // TICKS_A_SECOND
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl  # looked up once: a fork that does it touches 200 KB
# Of several names of one number (`SIGABRT`, `SIGIOT`) the first counts.
_SIGNAL_NAMES = {
    int(getattr(signal, name)): name for name in sorted(dir(signal), reverse=True) if name[:3] == "SIG" and name[3] != "_"
}


def boot_id() -> str:
    """Return what names this run of the kernel, or an empty string where it does not say."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def start_ticks(pid: int) -> int | None:
    """Return when this process started (clock ticks since boot), or None where there is none or only its corpse."""
    fields = _stat_fields(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def ticks_since_boot() -> int:
    """Return the time as `start_ticks` counts it. A process made between two equal answers was started at that tick."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // TICK_NS


class Births:
    """Tells when processes of ours were started: a look into /proc costs a tenth of what it costs to start one."""

    __slots__ = ("_is_trusted",)

    def __init__(self) -> None:
        self._is_trusted: bool | None = None  # not every kernel need count as Linux does

    def tick_of(self, pid: int, before: int) -> int:
        """Return the `start_ticks` of a process that was made since `ticks_since_boot` said `before`; 0 where it is gone."""
        is_within = ticks_since_boot() == before
        if is_within and self._is_trusted:
            return before
        seen = start_ticks(pid) or 0
        if is_within and seen and self._is_trusted is None:
            self._is_trusted = seen == before
        return seen


def is_alive(pid: int, start: int) -> bool:
    """Tell whether the process that was started at this tick still runs under this pid."""
    return pid > 0 and start_ticks(pid) == start


def thread_state(thread_id: int) -> tuple[str, int]:
    """Return the state of a thread of ours as one letter, and the processor time that it has used, in ticks."""
    fields = _fields_of(f"/proc/self/task/{thread_id}/stat")
    return ("", 0) if fields is None else (fields[0], int(fields[11]) + int(fields[12]))


def thread_wait(thread_id: int) -> str:
    """Return the function of the kernel in which a thread of ours sleeps; empty where it does not, or does not say."""
    return read_text(f"/proc/self/task/{thread_id}/wchan").strip("0\n")


def become_subreaper() -> None:
    """Adopt every orphaned descendant from now on."""
    _PRCTL(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hear_of_parents_death(number: int) -> None:
    """Get this signal when the process that started us ends, whatever ended it. One that is gone already goes unnoticed."""
    _PRCTL(PR_SET_PDEATHSIG, number, 0, 0, 0)


def set_name(name: str) -> None:
    """Show this name (15 characters) in `ps` and `top`."""
    _PRCTL(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the children of a process, of all its threads."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        found.extend(map(int, read_text(f"/proc/{pid}/task/{thread}/children").split()))
    return found


def descendants(pid: int) -> list[int]:
    """Return all descendants, parents first. A tree that forks meanwhile can hide some: ask again until none is left."""
    found: list[int] = []
    todo = [pid]
    while todo:
        new = children(todo.pop())
        found.extend(new)
        todo.extend(new)
    return found


class Usage:
    """What a set of processes uses at this moment: processor time so far, and memory that is their own."""

    __slots__ = ("cpu_ticks", "memory_bytes")

    def __init__(self, cpu_ticks: int, memory_bytes: int) -> None:
        self.cpu_ticks = cpu_ticks
        self.memory_bytes = memory_bytes


def usage(pids: list[int]) -> Usage:
    """Add up what these processes use. Pages they share are counted once, at the size of the largest share."""
    ticks = own_pages = shared_pages = 0
    for pid in pids:
        fields = _stat_fields(pid)
        if fields is None:
            continue
        # With what each has waited for, so that the sum does not fall when a child ends.
        ticks += sum(map(int, fields[11:15]))
        pages = read_text(f"/proc/{pid}/statm").split()
        if len(pages) > 2:
            own_pages += int(pages[1]) - int(pages[2])
            shared_pages = max(shared_pages, int(pages[2]))
    return Usage(ticks, (own_pages + shared_pages) * PAGE_BYTES)


def send(pids: list[int], number: int) -> None:
    """Send a signal to each of them that is still there and ours."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def marked(markers: list[bytes], uids: frozenset[int] | None = None) -> list[int]:
    """Return the processes whose environment holds one of these entries: those a dead supervisor left behind.

    `uids` are whose processes are looked at, where anybody may write into his environment what he likes; None is all.
    """
    found = []
    own = os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == own or _environ(entry).isdisjoint(markers):
            continue
        if uids is None or _owner(entry) in uids:
            found.append(int(entry))
    return found


def out_of_memory_kills() -> int:
    """Return how often the kernel has killed for lack of memory since boot (0 where it does not say)."""
    _, found, rest = read_text("/proc/vmstat").partition("\noom_kill ")
    return int(rest.split("\n", 1)[0]) if found else 0


class OutOfMemory:
    """The kernel's count of processes that it killed for lack of memory, as of a moment ago: to read it takes 50 us.

    So a job that is killed by hand within that moment of another job's end for lack of memory is taken for one of these.
    """

    __slots__ = ("_count", "_until")

    FRESH_S = 0.05

    def __init__(self) -> None:
        self._count = 0
        self._until = 0.0

    def kills(self, *, is_asked_anew: bool = False) -> int:
        """Return the count, no older than that; or as it is now."""
        now = time.monotonic()
        if is_asked_anew or now >= self._until:
            self._count, self._until = out_of_memory_kills(), now + self.FRESH_S
        return self._count


def signal_name(number: int) -> str:
    """Return `SIGTERM` for 15, and `signal 42` for what has no name."""
    return _SIGNAL_NAMES.get(number, f"signal {number}")


def _owner(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _environ(pid: str) -> set[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return set(file.read().split(b"\0"))
    except OSError:
        return set()


def _stat_fields(pid: int) -> list[str] | None:
    return _fields_of(f"/proc/{pid}/stat")


def _fields_of(path: str) -> list[str] | None:
    """Return the fields of a `stat` file from the state on: the name before it may hold anything, `)` too."""
    text = read_text(path)
    return text.rpartition(")")[2].split() or None


def read_text(path: str) -> str:
    """Return a file of /proc or /sys, empty where it cannot be read: without buffers and decoders it costs a third."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
