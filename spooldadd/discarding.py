"""Remove a work directory long after its job: with the rights of whoever it belongs to.

A worker of root finds places of other users among its own. What is in one of those is removed by a program that runs as that
user, because he may put links and other things there while it is being removed.

If we die here: some of it is gone; the next pass goes on.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import subprocess
import sys

from spooldadd import workdir

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START = "import sys; sys.path.insert(0, sys.argv[1]); from spooldadd import workdir; workdir.empty(sys.argv[2])"
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
        _empty_as(path, status.st_uid, status.st_gid)
        os.rmdir(path)


def _empty_as(path: str, uid: int, gid: int) -> None:
    try:
        name = pwd.getpwuid(uid).pw_name
        groups = os.getgrouplist(name, gid)
    except KeyError:
        groups = [gid]
    command = [sys.executable, "-I", "-c", START, PACKAGE_PARENT, path]
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdin=nothing, stdout=nothing, stderr=nothing, user=uid, group=gid, extra_groups=groups,
            env={"PATH": os.defpath}, cwd="/", start_new_session=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        raise OSError(errno.ETIMEDOUT, f"to empty it as its owner took longer than {PATIENCE_S:g} s", path) from error
    if done.returncode:
        raise OSError(errno.EPERM, f"its owner ({uid}) cannot remove all that is in it", path)
