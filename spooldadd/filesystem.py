"""What kind of file system a path is on: decides how often to look and how long a file must stand still.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import functools
import os

# File systems that several machines write to: inotify is silent about the others' files, and what one machine wrote is
# seen by another after a while.
NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "afs", "coda", "gfs2", "ocfs2", "lustre", "beegfs", "gpfs",
    "orangefs", "virtiofs", "davfs", "glusterfs", "pvfs2",
})  # fmt: skip
NETWORK_PREFIX = "fuse."  # sshfs, GlusterFS, s3fs …; the local ones among them only cost us some waiting
# Their clients grant a lease only where the server has given a delegation or an oplock, for reasons of its own.
LEASES_BY_SERVER = frozenset({"nfs", "nfs4", "cifs", "smb3"})
LOCAL_FUSE = frozenset({"fuse.lxcfs", "fuse.portal", "fuse.gvfsd-fuse", "fuse.snapfuse", "fuseblk"})


def kind(path: str) -> str:
    """Return the name of the file system that `path` is on, such as `ext4`; empty where the kernel does not say."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return _find(file.read(), f"{os.major(device)}:{os.minor(device)}", os.path.realpath(path))
    except OSError:
        return ""


def is_network(kind_name: str) -> bool:
    """Tell whether other machines may write there too."""
    if kind_name in LOCAL_FUSE:
        return False
    return kind_name in NETWORK or kind_name.startswith(NETWORK_PREFIX)


@functools.lru_cache(maxsize=64)
def asks_server_for_leases(device: int) -> bool:
    """Tell whether a lease on a file of this device is the server's to give: refused is no word about who has it open."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return _find(file.read(), f"{os.major(device)}:{os.minor(device)}", "") in LEASES_BY_SERVER
    except OSError:
        return False


def _find(mountinfo: str, device: str, path: str) -> str:
    """Find by device; btrfs and overlays show another one in stat, there the longest mount point above the path counts."""
    best, best_length = "", -1
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        if fields[2] == device:
            return right.split()[0]
        point = fields[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) > best_length:
            best, best_length = right.split()[0], len(point)
    return best
