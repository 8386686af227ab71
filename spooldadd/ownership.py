"""Whose job a record is, where many users drop into one spool: a file in it, and the right to look into it. Light.

The record belongs to the worker's user, so that nobody else changes anything in it. An access list gives its owner alone the
right to look in: it is on the directory, stays with it wherever it is moved, and closes it for everybody else.

Source: acl(5); linux/posix_acl_xattr.h for the form of the attribute.

If we die here: before the list, the record says whose it is and only we can read it; whoever claims it again goes on.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from spooldadd import durable, layout, record
from spooldadd.tomltext import flat

ACCESS_LIST = "system.posix_acl_access"
# Tags of entries, and what they allow; linux/posix_acl.h.
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_READ_AND_ENTER, _ALL, _NOTHING = 5, 7, 0
_VERSION, _NOBODY = 2, 0xFFFFFFFF


def read(path: str) -> int | None:
    """Return the number of the user whose job this record is, or None where it does not say."""
    return _number(path, "uid")


def users_of(path: str) -> frozenset[int] | None:
    """Return whose processes can be of this job: its owner's, or those of whom all jobs run as; root's, who started them."""
    uids = {_number(path, "uid"), _number(path, "runner")} - {None}
    return frozenset({0, *filter(None, uids)}) if uids else None


def _number(path: str, key: str) -> int | None:
    table = record.read_table(os.path.join(path, layout.OWNER)) or {}
    uid = table.get(key)
    return uid if isinstance(uid, int) and not isinstance(uid, bool) and uid >= 0 else None


def note(path: str, uid: int, name: str, *, sync: bool, runner: int | None = None) -> bool:
    """Say in a record whose it is, and let him look into it, and who runs it; return whether they can. Raises: OSError."""
    table: dict[str, object] = {"schema": record.SCHEMA, "uid": uid, "user": name}
    if runner is not None:
        table["runner"] = runner
    durable.write(os.path.join(path, layout.OWNER), flat(table).encode(), sync=sync)
    return show_to(path, {uid} if runner is None else {uid, runner})


def show_to(path: str, uids: set[int]) -> bool:
    """Close a directory for all but ourselves and these users; return whether they can look in. Raises: OSError."""
    others = sorted(uids - {os.geteuid()})
    if not others:
        os.chmod(path, stat.S_IRWXU)
        return True
    try:
        os.setxattr(path, ACCESS_LIST, _list_for(others))
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise
        os.chmod(path, stat.S_IRWXU)
        return False
    return True


def _list_for(uids: list[int]) -> bytes:
    entries = (
        (_USER_OBJ, _ALL, _NOBODY),
        *((_USER, _READ_AND_ENTER, uid) for uid in uids),
        (_GROUP_OBJ, _NOTHING, _NOBODY),
        (_MASK, _READ_AND_ENTER, _NOBODY),
        (_OTHER, _NOTHING, _NOBODY),
    )
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
