"""The worker as a process: signals in, a clean end out. Answers at once, whatever the file system does.

The main thread only waits for signals and tells the service manager how it stands; the loop that touches the spool runs
beside it. A loop that hangs in a call on a network file system is left behind at the end: nothing is held in memory that
must not be lost. HUP has the configuration read again; from a terminal it is the terminal's end, and ours.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading

from spooldadd import reloading, sdnotify, writers
from spooldadd.log import Log
from spooldadd.standing import Standing
from spooldadd.worker import Worker

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
DRAIN_SIGNAL, RELOAD_SIGNAL, WAKE_SIGNAL = signal.SIGUSR1, signal.SIGHUP, signal.SIGCONT
# How long the loop gets to end its step. A step takes milliseconds; a hung file system is not waited for.
LEAVE_S = 5.0


class _Loop(threading.Thread):
    """Runs the worker's loop and keeps what it raised."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="spool", daemon=True)
        self.worker = worker
        self.error: BaseException | None = None
        self.is_done = False
        worker.on_up = _wake_main

    def run(self) -> None:
        """Serve until the end; wake the main thread then."""
        try:
            self.worker.serve()
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            self.error = error
        finally:
            self.is_done = True
            _wake_main()

    @property
    def thread_id(self) -> int:
        """The kernel's number of this thread."""
        return self.native_id or 0

    @property
    def turns(self) -> int:
        """How many turns the worker has begun."""
        return self.worker.turns

    @property
    def sleeps_until(self) -> float:
        """Until when the worker has nothing to do."""
        return self.worker.sleeps_until

    @property
    def is_up(self) -> bool:
        """Whether the spool was opened and the launcher runs."""
        return self.worker.is_up

    @property
    def summary(self) -> str:
        """What the worker does, in one line."""
        return self.worker.summary


class _MainThread:
    """Answers signals, and has one worker after the other serve."""

    def __init__(self, worker: Worker, log: Log, reread: reloading.Reread | None) -> None:
        self._loop = _Loop(worker)
        self._log = log
        self._reread = reread
        self._standing = Standing(sdnotify.of_environ(os.environ, os.getpid()))
        self._rereading: reloading.Rereading | None = None
        self._is_asked_again = False
        self._next: Worker | None = None
        self._stop_signals = STOP_SIGNALS | ({RELOAD_SIGNAL} if reread is None or reloading.has_terminal() else set())

    def serve(self) -> BaseException | None:
        """Have the worker serve to its end; return what it raised."""
        watched = self._stop_signals | {DRAIN_SIGNAL, RELOAD_SIGNAL, WAKE_SIGNAL}
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        self._loop.start()
        while not self._loop.is_done or self._go_on():
            self._standing.tell(self._loop)
            info = signal.sigtimedwait(watched, self._standing.wait_s)
            if info is not None and self._answer(info.si_signo):
                break
        self._loop.join(LEAVE_S)
        if self._loop.is_alive():
            self._log.warning("worker-stopping", reason="a call on the spool hangs", then="leaving it behind")
            sys.stderr.flush()
            os._exit(0)
        return self._loop.error

    def _answer(self, number: int) -> bool:
        """Do what this signal asks for; return whether that is to stop."""
        if number in self._stop_signals:
            name = signal.Signals(number).name
            self._log.info("worker-stopping", signal=name, then="running jobs go on by themselves")
            self._standing.stopping()
            self._loop.worker.stop()
            return True
        if number == DRAIN_SIGNAL:
            self._log.info("draining", signal="SIGUSR1")
            self._loop.worker.drain()
        elif number == RELOAD_SIGNAL:
            self._reload()
        self._take_over()
        return False

    def _reload(self) -> None:
        self._is_asked_again = self._rereading is not None or self._next is not None
        if self._is_asked_again:
            return
        assert self._reread is not None
        self._standing.reloading()
        self._log.info("reloading", signal="SIGHUP")
        self._rereading = reloading.Rereading(self._reread, _wake_main)
        self._rereading.start()

    def _take_over(self) -> None:
        """Heed what a new reading of the configuration has found, once it has ended."""
        rereading = self._rereading
        if rereading is None or not rereading.is_done:
            return
        self._rereading = None
        if rereading.found is None:
            self._refuse(rereading.refusal or RuntimeError("nothing was read"))
            return
        self._next, self._log = rereading.found
        self._loop.worker.stop()

    def _refuse(self, error: Exception) -> None:
        reloading.explain(error)
        self._log.error("reload-refused", reason=str(error), then="the configuration that was read before stays in force")
        self._standing.reloaded("a new configuration was refused, see the log")
        self._ask_again()

    def _go_on(self) -> bool:
        """The loop has ended: have the next worker serve, if there is one and the last did not fail."""
        if self._next is None or self._loop.error is not None:
            return False
        worker, self._next = self._next, None
        worker.settings.is_draining = self._loop.worker.settings.is_draining
        self._loop = _Loop(worker)
        self._loop.start()
        self._log.info("reloaded", config=worker.config.file or "none, only defaults and the environment")
        self._standing.reloaded()
        self._ask_again()
        return True

    def _ask_again(self) -> None:
        """Another HUP came meanwhile: what was read may be older than it."""
        if self._is_asked_again:
            self._is_asked_again = False
            self._reload()


def serve(worker: Worker, log: Log, reread: reloading.Reread | None = None) -> None:
    """Run the worker until it has drained or a signal ends it. Raises: what its loop raised.

    `reread` makes a worker of the configuration as it is when it is called; without it, HUP ends us.
    """
    writers.ignore_lease_breaks()
    faulthandler.enable()  # a watchdog ends us by ABRT: the log shows where each thread was
    gc.freeze()  # what was imported stays: to look through all of it for garbage held up the loop for 25 ms, now and then
    error = _MainThread(worker, log, reread).serve()
    if error is not None:
        raise error


def _wake_main() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, WAKE_SIGNAL)
