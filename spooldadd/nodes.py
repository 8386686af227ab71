"""What nodes say about themselves in `.spool/nodes/`, and who of them serves: its worker holds the node's lock.

Light: reading commands load it. Only reads; `nodefile` writes the entries.
"""

from __future__ import annotations

import os

from spooldadd import locking
from spooldadd.layout import Layout


def path_of(places: Layout, node: str) -> str:
    """Return the path of a node's entry."""
    return os.path.join(places.nodes, f"{node}.toml")


def lock_path_of(places: Layout, node: str) -> str:
    """Return the path of the lock that the worker holds which writes the entry."""
    return os.path.join(places.nodes, f"{node}.lock")


def is_serving(places: Layout, node: str) -> bool:
    """Tell whether a worker of this node holds its lock now, as far as this machine can see."""
    return try_lock(places, node) is False


def try_lock(places: Layout, node: str) -> bool | None:
    """Try a node's lock and let go of it at once; return whether it was granted, or None where it cannot be tried.

    The lock is asked for to be shared, so that those who try it never keep each other out. Nothing is made.
    """
    try:
        fd = os.open(lock_path_of(places, node), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return locking.try_lock(fd, is_shared=True)
    except OSError:  # no locks here, or not now
        return None
    finally:
        os.close(fd)


def read_all(places: Layout) -> dict[str, dict[str, object]]:
    """Return what each node last said, by name."""
    from spooldadd import record  # late: who asks for a lock does without

    found = {}
    try:
        entries = sorted(os.listdir(places.nodes))
    except OSError:
        return {}
    for entry in entries:
        table = record.read_table(os.path.join(places.nodes, entry)) if entry.endswith(".toml") else None
        if table is not None:
            found[entry.removesuffix(".toml")] = table
    return found
