"""One look at a file that may be a spec: what it holds, whether somebody writes to it, whether it looks complete.

Reads only.
"""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from typing import NamedTuple

from spooldadd import bundle, forms, layout, writers
from spooldadd.spec import MAX_SPEC_BYTES, has_whole_block, script_toml

_LOOKING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BUNDLES = (forms.BUNDLE, forms.BUNDLE + layout.HELD_SUFFIX)

# They pass, and say nothing about the file: ours, and those of a share that has to connect anew.
OWN_TROUBLES = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE, errno.EBADF, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNRESET,
    errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EPIPE, errno.ESHUTDOWN,
})  # fmt: skip
# A program lets nobody else open what it writes, as many do on Windows; or the file is about to be ours to read. Look again.
IN_USE = frozenset({errno.EAGAIN, errno.EBUSY, errno.ETXTBSY})


class Look(NamedTuple):  # made for every drop: a frozen dataclass takes three times as long
    """What one look at a file showed. `data` is the spec, or that in a bundle; None where it cannot be read."""

    status: os.stat_result
    data: bytes | None
    writer: bool | None
    member: str = ""  # of a bundle, the name of the spec in it
    fault: str = ""  # why a bundle is none that can be run
    refusal: str = ""  # what the system said where it cannot be read


def look(path: str) -> Look | None:
    """Look at a file without following links and without waiting for a fifo's writer; None where it is gone.

    Five system calls, made for every drop and after every claim. The lease is asked for before the file is read, and held
    until it is closed: no writer comes in between. Raises: OSError where that is no matter of the file: this process has no
    descriptor or memory left, the share is away.
    """
    try:
        fd = os.open(path, _LOOKING)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _refused_by_name(path, error)
    try:
        writer = writers.has_writer_until_closed(fd)
        status = os.fstat(fd)
        is_bundle = path.endswith(_BUNDLES)
        if not stat.S_ISREG(status.st_mode) or status.st_size > (bundle.MAX_BUNDLE_BYTES if is_bundle else MAX_SPEC_BYTES):
            return Look(status, None, None)
        if is_bundle:
            return _look_into(fd, status, writer)
        return Look(status, os.read(fd, status.st_size + 1), writer)
    except OSError as error:
        return _refused_by_name(path, error)
    finally:
        os.close(fd)


def _refused_by_name(path: str, error: OSError) -> Look | None:
    """Do as `_refused` does with what is called so. What may not even be looked at, a mount of its owner's, is nobody's."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, PermissionError):
        return None
    if not stat.S_ISREG(status.st_mode):  # a link, a socket
        return Look(status, None, None)
    return _refused(status, error)


def _refused(status: os.stat_result, error: OSError) -> Look:
    """Say what an error tells of the file. Raises: this error, where that is nothing."""
    if error.errno in OWN_TROUBLES:
        raise error
    if error.errno in IN_USE:
        return Look(status, None, True)
    return Look(status, None, None, refusal=os.strerror(error.errno or 0))


def read_toml(path: str) -> bytes:
    """Return the text of a spec as TOML, whatever its form, for a look only; empty where there is none."""
    found = look(path)
    if found is None or found.data is None:
        return b""
    return script_toml(found.data) if forms.is_script(found.member or path) else found.data


def most_bytes(path: str) -> int:
    """Return how long a spec of this name may be: a bundle brings its files along."""
    return bundle.MAX_BUNDLE_BYTES if path.endswith(_BUNDLES) else MAX_SPEC_BYTES


def _look_into(fd: int, status: os.stat_result, writer: bool | None) -> Look:
    try:
        found = bundle.find_spec(fd)
    except bundle.NoBundle as error:
        return Look(status, None, writer, fault=str(error))
    fault = "" if bundle.is_whole(fd) else "is cut: it does not end as a tar does"
    return Look(status, found.data, writer, found.name, fault)


def looks_complete(name: str, found: Look) -> bool:
    """Tell whether what was read of a file of this name could be all of it. That proves nothing: see `intake`."""
    if not found.data or found.writer or found.fault:
        return False
    if found.member:
        return True
    if forms.is_script(name):  # that what there is of it can be run proves nothing, but most cuts are within a line
        return found.data.endswith(b"\n") and has_whole_block(found.data)
    try:
        tomllib.loads(found.data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True
