"""Files that one job alone sees, and no disk: a file system in memory, in a mount namespace of the job's own. Light.

For a job of another user than the supervisor's, who may not follow the links that `kit` makes. It is mounted by the child
that is about to become the job, while it is root still, and ends with the last process of the job.

Source: mount_namespaces(7); mount(2); tmpfs(5); decision record 0056.

If we die here: a namespace that ends with the process.
"""

from __future__ import annotations

import ctypes
import os

from spooldadd import durable

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_REC, MS_SLAVE = 0x4000, 0x80000
# A megabyte for each secret is what there may be of it; the rest of a job's memory is not to be had here.
SIZE = "64m"
_LIBC = ctypes.CDLL(None, use_errno=True)


def show(directory: str, files: dict[str, bytes], owner: tuple[int, int]) -> None:
    """Let this process alone, and those that it starts, see these files in this directory. Raises: OSError."""
    uid, gid = owner
    _call(_LIBC.unshare, CLONE_NEWNS)
    # What the system mounts from now on is still seen here, and nothing of ours is seen there.
    _mount("none", "/", None, MS_REC | MS_SLAVE, None)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    options = f"size={SIZE},mode=0500,uid={uid},gid={gid}"
    _mount("tmpfs", directory, "tmpfs", flags, options)
    for name, data in files.items():
        fd = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            durable.write_all(fd, data)
            os.fchown(fd, uid, gid)
        finally:
            os.close(fd)
    _mount("tmpfs", directory, None, flags | MS_REMOUNT | MS_RDONLY, options)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None) -> None:
    words = (os.fsencode(word) if word is not None else None for word in (source, target, kind))
    _call(_LIBC.mount, *words, ctypes.c_ulong(flags), options.encode() if options else None)


def _call(function: ctypes._NamedFuncPointer, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
