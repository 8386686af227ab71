"""Try a lock on a file: granted or held, whatever the file system calls it. Knows no word of the domain.

Contention is `EAGAIN`; where locks are mandatory, SMB for one, it is `EACCES`.

If we die here: the kernel lets go of the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

CONTENTION = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})

# Asked again and again, because a call that waits may hang where the server is away.
PATIENT_S = 0.05


def try_lock(fd: int, *, is_shared: bool = False) -> bool:
    """Return whether we have the lock now. It ends when all copies of the descriptor are closed. Raises: OSError."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in CONTENTION:
            return False
        raise
    return True


class Alone:
    """The lock of this file, which is made where it is missing: `with` gives whether it is ours meanwhile. Raises: OSError.

    A class, because `contextlib` takes as long to import as ten modules of ours, and `status` tries locks.
    """

    def __init__(self, path: str, *, is_patient: bool = False) -> None:
        self._path = path
        self._is_patient = is_patient
        self._fd = -1

    def __enter__(self) -> bool:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)  # who can open it can hold it
        try:
            is_ours = try_lock(self._fd)
            while self._is_patient and not is_ours:
                time.sleep(PATIENT_S)
                is_ours = try_lock(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        return is_ours

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
