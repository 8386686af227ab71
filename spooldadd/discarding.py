"""Remove what users have left on the node's own disk, long after their jobs: with the rights of whoever it belongs to.

A worker of root finds places of other users among its own work directories. What is in one of those is removed by a deputy,
because that user may put links and other things there while it is being removed.

If we die here: some of it is gone; the next pass goes on.
"""

from __future__ import annotations

import os
import pwd
import stat

from spooldadd import deputy, workdir
from spooldadd.account import Account

# A work directory of millions of files takes minutes; the worker does nothing else meanwhile.
PATIENCE_S = 300.0


def remove(path: str) -> None:
    """Remove a work directory, or another user's place with one in it. Raises: OSError."""
    status = os.lstat(path)
    if os.geteuid() != 0 or status.st_uid == 0 or not stat.S_ISDIR(status.st_mode):
        workdir.remove(path)
        return
    try:
        os.rmdir(path)
    except OSError:
        deputy.act(who_owns(status), lambda: workdir.empty(path), PATIENCE_S)
        os.rmdir(path)


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
