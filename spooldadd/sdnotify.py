"""Speak to the service manager that started this process, if one did. Standard library only.

One datagram a message, on the socket that `NOTIFY_SOCKET` names. A manager that does not listen stops nobody: what could not
be sent is told to the caller, who says it again later.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

_USEC = 1e6


class ServiceManager:
    """The way to the service manager. Made without an address it says nothing, to nobody."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = _kernel_address(address)
        self.watchdog_s = watchdog_s if self._address else None
        self._socket: socket.socket | None = None

    @property
    def is_there(self) -> bool:
        """Tell whether somebody wants to hear of us."""
        return bool(self._address)

    def send(self, message: str) -> bool:
        """Send lines such as `READY=1`; return whether they were taken. Never waits."""
        if not self._address:
            return True
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True

    def reloading(self) -> bool:
        """Say that the configuration is being read again; `READY=1` ends it."""
        # The manager compares it with the moment at which it asked.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self.send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")


def of_environ(environ: Mapping[str, str], pid: int) -> ServiceManager:
    """Return the manager that these variables name. A watchdog that is meant for another process is not ours."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # of a virtual machine's host (`vsock:`): no manager of ours is there
        return ServiceManager()
    text = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    watchdog_s = int(text) / _USEC if is_ours and text.isascii() and text.isdigit() and int(text) else None
    return ServiceManager(address, watchdog_s)


def status(sentence: str) -> str:
    """Return the message that shows this line in `systemctl status`."""
    return "STATUS=" + " ".join(sentence.split())


def _kernel_address(address: str) -> str:
    """An address that begins with `@` is abstract: it is no file, and the kernel writes NUL there."""
    return "\0" + address[1:] if address.startswith("@") else address
