"""Fork supervisors: a small, single-threaded process beside the worker, in the standard library only.

A fork of a small process costs a twentieth of a fresh interpreter. Each message on the control socket carries one
descriptor, the channel of a new supervisor; the end of the control socket is the end of the launcher, never of a supervisor.

If we die here: supervisors go on; the worker sees the closed socket and starts another launcher.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Started as a file, without site packages, so that start-up and memory stay small.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import gc

from spooldadd import jobprocess, process, relief, relieved, supervisor
from spooldadd.bare import signal, socket
from spooldadd.channel import receive_fds
from spooldadd.log import Log

COMM = "spooldadd-fork"


def main(arguments: list[str]) -> None:
    """Serve until the control socket closes. Arguments: its descriptor, then format and level of the log."""
    control = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(control.fileno(), False)
    log = Log(2, *arguments[1:3])
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the worker blocks what it waits for
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects supervisors that ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.set_name(COMM)
    jobprocess.keep_environ()
    # What is allocated by now is never collected, so that no collection writes to pages that forks share.
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        channel = _next_channel(control)
        if channel is None:
            return
        try:
            if os.fork() == 0:
                _become_supervisor(control, channel, log)
        except OSError as error:  # no process or no memory left: the worker sees the closed channel
            log.error("failed", error=str(error), where="launcher", then="the worker tries again")
        channel.close()


def _next_channel(control: socket.socket) -> socket.socket | None:
    data, fds = receive_fds(control, 1, 1)
    return socket.socket(fileno=fds[0]) if data and fds else None


def _lead_one(channel: socket.socket, log: Log) -> None:
    supervisor.become()
    taken = relief.stand_behind(supervisor.serve, channel, log)
    if taken is not None:
        relieved.go_on(channel, log, taken)


def _become_supervisor(control: socket.socket, channel: socket.socket, log: Log) -> None:
    try:
        control.close()
        os.setsid()
        _lead_one(channel, log)
    except Exception as error:  # noqa: BLE001  # the last frame of this process: what is not said here is said nowhere
        log.error("failed", error=f"{type(error).__name__}: {error}", where="supervisor", pid=os.getpid())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
