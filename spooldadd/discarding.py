"""Remove what users have left on the node's own disk, long after their jobs: with the rights of whoever it belongs to.

A worker of root finds places of other users among its own work directories. What is in one of those is removed by a deputy,
because that user may put links and other things there while it is being removed.

If we die here: some of it is gone; the next pass goes on.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import time

from spooldadd import deputy, workdir
from spooldadd.account import Account

# The worker does nothing else meanwhile, and a user can stop a deputy of his. What is not gone by then goes on being removed
# by the next pass; whose deputy took so long waits for that with all that he has left.
PATIENCE_S = 15.0
AGAIN_S = 1800.0

_slow: dict[int, float] = {}  # who, and until when


def remove(path: str) -> None:
    """Remove a work directory, or another user's place with one in it. Raises: OSError."""
    status = os.lstat(path)
    if os.geteuid() != 0 or status.st_uid == 0 or not stat.S_ISDIR(status.st_mode):
        workdir.remove(path)
        return
    try:
        os.rmdir(path)
    except OSError:
        _empty_as(who_owns(status), path)
        os.rmdir(path)


def _empty_as(who: Account, path: str) -> None:
    if _slow.get(who.uid, 0.0) > time.monotonic():
        raise OSError(errno.ETIMEDOUT, f"what `{who.name}` has left takes long to remove")
    try:
        deputy.act(who, lambda: workdir.empty(path), PATIENCE_S)
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            _slow[who.uid] = time.monotonic() + AGAIN_S
        raise


def who_owns(status: os.stat_result) -> Account:
    """Return the user to whom this belongs, also one whom the system no longer knows."""
    who = Account()
    who.uid, who.gid, who.name, who.groups = status.st_uid, status.st_gid, str(status.st_uid), [status.st_gid]
    try:
        who.name = pwd.getpwuid(who.uid).pw_name
        who.groups = os.getgrouplist(who.name, who.gid)
    except KeyError:
        pass
    return who
