"""Have a job started and waited for by a process that has touched next to nothing. Light: the launcher loads it.

A supervisor that has started a job has written to two megabytes of pages that it shared with the launcher until then: Python
counts references in all objects that it uses. So a new supervisor leaves what comes before a start to a fork of itself:
plan, work directory, build, logs. The fork has it start the job, notes that it was started, and ends; the supervisor waits.
It does so without any of our classes: every function that it calls makes some five more pages its own. As soon as there is
more to do than to wait, it does all that a supervisor does, and goes on to its next job as any that has had one.

A job that can be started only by who has prepared it stays with the fork, which is its supervisor then.

If we die here: a fork whose supervisor is gone before it was asked to start the job goes on alone. A supervisor whose fork
is gone by then ends, and the attempt is recovered as any whose supervisor was killed. Where it cannot be known whether the
job was started, the fork ends, too: the job holds the lease if it was.
"""

from __future__ import annotations

import marshal
import os
import resource
import sys
import time

from spooldadd import layout, process, spawn
from spooldadd.bare import signal, socket
from spooldadd.channel import receive_fds, send_fds
from spooldadd.guard import BUSY_BYTES, FIRST_TICK_S, HEARTBEAT_S
from spooldadd.plan import to_wire
from spooldadd.tree import SIGNALS, forget_signals

# Standard input, the lease, a hold on a Python environment, two logs.
MOST_FDS = 5
# What is larger is started by the fork itself: a supervisor that makes room for it would keep that.
MOST_BYTES = 16384
NEVER_S = float("inf")
ANSWER_BYTES = 64
# Of a plan, what nobody asks for once the job was started; and the longest.
FOR_THE_START = ("stdin", "config", "script", "build", "command")

# By names of this module: to find one in another module touches three more objects.
_chdir, _close, _fork, _getpid, _listdir, _open, _read = os.chdir, os.close, os.fork, os.getpid, os.listdir, os.open, os.read
_fstat, _posix_spawn, _set_inheritable, _wait4, _waitpid = os.fstat, os.posix_spawn, os.set_inheritable, os.wait4, os.waitpid
_monotonic, _sigtimedwait, _socketpair, _loads, _dumps = (
    time.monotonic, signal.sigtimedwait, socket.socketpair, marshal.loads, marshal.dumps,
)  # fmt: skip
_TERM, _NO_HANG, _FLAGS, _DUP2 = signal.SIGTERM, os.WNOHANG, os.O_RDONLY | os.O_CLOEXEC, os.POSIX_SPAWN_DUP2
_UNIX, _PACKETS, _RESET, _CANCEL = socket.AF_UNIX, socket.SOCK_SEQPACKET, spawn.RESET_SIGNALS, layout.CANCEL
_getrusage, _SELF = resource.getrusage, resource.RUSAGE_SELF

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from spooldadd.building import Built
    from spooldadd.log import Log
    from spooldadd.plan import Plan
    from spooldadd.spares import Spares

    Asked = tuple[str, list[str], dict[bytes, bytes], str]
    Waits = tuple[str, float, int, int, bool]
    Seen = tuple[list[tuple[int, int, resource.struct_rusage]], bool, int]
    Serve = Callable[[socket.socket, Log, "Relief | None"], None]

    class Attempt(Protocol):
        """What of an attempt is handed over."""

        plan: Plan
        lease: int
        record: str
        built: Built
        spares: Spares | None
        on_wait: Callable[[], None]
        started_at_s: float
        started: float


class Relief:
    """The supervisor, as its fork sees it."""

    __slots__ = ("_link", "has_started", "holder")

    def __init__(self, link: socket.socket, pid: int) -> None:
        self._link = link
        self.has_started = False
        self.holder = pid, process.start_ticks(pid) or 0  # as the lock file says who has the job

    def suits(self, plan: Plan) -> bool:
        """Tell whether the supervisor can start this job: nothing of it is held by the fork that prepares it.

        That is not so of secrets, of the rights of another user, and of limits that are set between fork and exec. Nor of a
        build: who cancels it wakes the process that the lock file names. And on a far spool a look may hang.
        """
        if plan.account is not None or plan.secrets or plan.sandbox is not None or plan.is_far:
            return False
        if os.getppid() != self.holder[0]:  # it is gone
            return False
        return (plan.build is None or bool(plan.environment)) and not plan.limits.are_set_in_the_child()

    def starter(self, attempt: Attempt, logs: tuple[int, int], oom_kills: int) -> Callable[..., int]:
        """Return what starts a job as `spawn.spawn` does, by the supervisor where that can be."""

        def start(program: str, command: list[str], environ: dict[str, str], streams: spawn.Streams) -> int:
            encoded = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
            asked = (program, command, encoded, attempt.plan.work_dir)
            # As bytes, and in a version of this format without it: text would be entered into a table of all names.
            data = marshal.dumps((asked, _waits(attempt, len(set(logs))), _rest(attempt, oom_kills)), 2)
            fds = [streams.stdin, attempt.lease, *attempt.built.hold_fds, *dict.fromkeys(logs)]
            if len(data) > MOST_BYTES or not self._send(data, fds):
                return spawn.spawn(program, command, environ, streams)
            return self._hear(program)

        return start

    def leave(self, attempt: Attempt) -> None:
        """End where the supervisor has the job."""
        if self.has_started:
            attempt.on_wait()
            if attempt.spares is not None:
                attempt.spares.drop()
            os._exit(0)

    def _send(self, data: bytes, fds: list[int]) -> bool:
        try:
            send_fds(self._link, data, fds)
        except OSError:
            return False
        return True

    def _hear(self, program: str) -> int:
        """Return the pid of the job. Raises: CannotStart, SpoolError."""
        try:
            answer = self._link.recv(ANSWER_BYTES)
        except OSError:
            answer = b""
        if not answer:
            os._exit(1)
        pid: int = marshal.loads(answer)
        if pid <= 0:
            raise spawn.cannot_start(program, OSError(-pid, os.strerror(-pid)))
        self.has_started = True
        return pid


def _waits(attempt: Attempt, log_count: int) -> Waits:
    """Return what the supervisor looks at while it waits."""
    limits = attempt.plan.limits
    is_guarded = limits.memory_bytes is not None or limits.stall_s is not None or limits.cpu_time_s is not None
    timeout_s = NEVER_S if limits.timeout_s is None else limits.timeout_s
    most_bytes = sys.maxsize if limits.output_bytes is None else limits.output_bytes
    return attempt.record, timeout_s, most_bytes, log_count, is_guarded


def _rest(attempt: Attempt, oom_kills: int) -> bytes:
    """Return what it needs when the job has ended."""
    built = attempt.built.environment
    return marshal.dumps((to_wire(attempt.plan, FOR_THE_START), attempt.started_at_s, attempt.started, built, oom_kills))


class Taken:
    """A job that the supervisor has started: what was said of it, its descriptors, and what was seen of it."""

    __slots__ = ("fds", "job", "own_rss_kib", "rest", "seen", "started")

    def __init__(self, job: int, rest: bytes, fds: list[int], started: float, own_rss_kib: int, seen: Seen) -> None:
        self.job = job
        self.rest = rest
        self.fds = fds
        self.started = started
        self.own_rss_kib = own_rss_kib
        self.seen = seen


def stand_behind(serve: Serve, channel: socket.socket, log: Log) -> Taken | None:
    """Have a fork of ours serve; return the job that it had us start, once that wants more than waiting.

    None where the fork has ended by itself. Where there is no room for a second process we serve ourselves.
    """
    own = _getpid()
    ours, theirs = _socketpair(_UNIX, _PACKETS)
    try:
        pid = _fork()
    except OSError:
        ours.close()
        theirs.close()
        serve(channel, log, None)
        return None
    if pid == 0:
        ours.close()
        os.setsid()
        serve(channel, log, Relief(theirs, own))
        os._exit(0)
    theirs.close()
    job = 0
    while job <= 0:
        data, fds = receive_fds(ours, MOST_BYTES, MOST_FDS)
        if not data:
            _waitpid(pid, 0)
            return None
        asked, waits, rest = _loads(data)
        job = _start(asked, fds, waits[3])
        try:
            ours.send(_dumps(job))
        except OSError:  # the fork was killed just now: nobody notes the job, which we watch all the same
            if job <= 0:
                return None
    started, own_rss_kib = _monotonic(), _getrusage(_SELF).ru_maxrss
    ours.close()
    _waitpid(pid, 0)  # what it uses is not the job's
    del data, asked, fds[0]
    return Taken(job, rest, fds, started, own_rss_kib, _wait(job, fds, started, waits))


def _start(asked: Asked, fds: list[int], log_count: int) -> int:
    """Start the job, as `spawn.spawn` does; return its pid, or what went wrong, negative."""
    program, command, environ, directory = asked
    forget_signals()
    actions = [(_DUP2, fds[0], 0), (_DUP2, fds[-log_count], 1), (_DUP2, fds[-1], 2)]
    try:
        for fd in fds[1:-log_count]:  # the job has a share in the lease and in what holds its environment
            _set_inheritable(fd, True)
        _chdir(directory)
        return _posix_spawn(program, command, environ, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_RESET)
    except OSError as error:
        for fd in fds[1:]:
            _close(fd)
        return -(error.errno or 1)
    finally:
        _close(fds[0])
        _chdir("/")


def _wait(job: int, fds: list[int], started: float, waits: Waits) -> Seen:
    """Sleep until the job has ended, or a `Guard` has to look at it; return what was seen."""
    record, timeout_s, most_bytes, log_count, is_guarded = waits
    logs, own, until_s = fds[-log_count:], _getpid(), started + timeout_s
    printed, tick_s, used_bytes, is_told_to_stop = 0, FIRST_TICK_S, 0, False
    ended = []
    while not is_guarded and (rest_s := until_s - _monotonic()) > 0:
        info = _sigtimedwait(SIGNALS, min(rest_s, tick_s))
        if info is not None and info.si_signo == _TERM:
            is_told_to_stop = True
        try:
            while (found := _wait4(-1, _NO_HANG))[0]:
                ended.append(found)
                if found[0] == job:
                    return ended, is_told_to_stop, used_bytes
            before, printed = printed, 0
            for fd in logs:
                printed += _fstat(fd).st_size
            if printed > most_bytes or printed - before > BUSY_BYTES or _CANCEL in _listdir(record):
                break
            used_bytes = max(used_bytes, _used_bytes(own, job))
        except (OSError, IndexError):  # it ends just now, or its record is out of reach
            break
        tick_s = min(2 * tick_s, HEARTBEAT_S)
    return ended, is_told_to_stop, used_bytes


def _used_bytes(own: int, job: int) -> int:
    """Return what the job uses now. Most jobs are one process, which is seen without a walk over its descendants."""
    families = _content(f"/proc/{own}/task/{own}/children") + _content(f"/proc/{job}/task/{job}/children")
    if families == b"%d " % job and len(_listdir(f"/proc/{job}/task")) == 1:
        return int(_content(f"/proc/{job}/statm").split()[1]) * process.PAGE_BYTES
    return process.usage(process.descendants(own)).memory_bytes


def _content(path: str) -> bytes:
    fd = _open(path, _FLAGS)
    data = _read(fd, 4096)
    _close(fd)
    return data
