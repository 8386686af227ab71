"""The worker as a process: signals in, a clean end out. Answers at once, whatever the file system does.

The main thread only waits for signals; the loop that touches the spool runs beside it. A loop that hangs in a call on a
network file system is left behind at the end: nothing is held in memory that must not be lost.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from spooldadd import intake
from spooldadd.log import Log
from spooldadd.worker import Worker

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
DRAIN_SIGNAL = signal.SIGUSR1
# How long the loop gets to end its step. A step takes milliseconds; a hung file system is not waited for.
LEAVE_S = 5.0


class _Loop(threading.Thread):
    """Runs the worker's loop and keeps what it raised."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="spool", daemon=True)
        self._worker = worker
        self.error: BaseException | None = None
        self.is_done = False

    def run(self) -> None:
        """Serve until the end; wake the main thread then."""
        try:
            self._worker.serve()
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            self.error = error
        finally:
            self.is_done = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGCONT)


def serve(worker: Worker, log: Log) -> None:
    """Run the worker until it has drained or a signal ends it. Raises: what its loop raised."""
    intake.ignore_lease_breaks()
    watched = STOP_SIGNALS | {DRAIN_SIGNAL, signal.SIGCONT}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    loop = _Loop(worker)
    loop.start()
    while not loop.is_done:
        info = signal.sigtimedwait(watched, 60.0)
        if info is None or info.si_signo == signal.SIGCONT:
            continue
        if info.si_signo == DRAIN_SIGNAL:
            log.info("draining", signal="SIGUSR1")
            worker.drain()
            continue
        log.info("worker-stopping", signal=signal.Signals(info.si_signo).name, then="running jobs go on by themselves")
        worker.stop()
        break
    loop.join(LEAVE_S)
    if loop.is_alive():
        log.warning("worker-stopping", reason="a call on the spool hangs", then="leaving it behind")
        sys.stderr.flush()
        os._exit(0)
    if loop.error is not None:
        raise loop.error
