"""Does somebody have this file open for writing? Asked by a read lease, which the kernel refuses while there is a writer.

Only where the file system grants leases, and to the owner of the file or root. Changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import signal

from spooldadd import claiming, filesystem


def has_writer(fd: int) -> bool | None:
    """Tell whether somebody has this file open for writing; None where the file system or our rights do not say.

    Asks for a read lease, which the kernel refuses while there is a writer, and gives it back at once.
    Source: fcntl(2), F_SETLEASE.
    """
    writer = has_writer_until_closed(fd)
    if writer is False:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return writer


def has_writer_until_closed(fd: int) -> bool | None:
    """Do as `has_writer` does, and keep the lease: whoever closes the descriptor gives it back, and saves a call."""
    writer = claiming.has_writer_until_closed(fd)
    # NFS said so of files that nobody had open, for as long as the server gave no delegation: such a job never ran.
    return None if writer and filesystem.asks_server_for_leases(os.fstat(fd).st_dev) else writer


def ignore_lease_breaks() -> None:
    """A writer that comes while we hold the lease makes the kernel send SIGIO, which would end this process."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
