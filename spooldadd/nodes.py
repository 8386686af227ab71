"""What a node says about itself in `.spool/nodes/`: that it serves, how wide it is, how much it runs.

One worker of a node holds the node's lock and writes; another of the same name serves all the same and stays silent. The
file holds a counter, not a time to be compared: other hosts' clocks are never trusted.

If we die here: a stale file without a lock; the next worker of that node writes over it.
"""

from __future__ import annotations

import os

from spooldadd import durable, record
from spooldadd.layout import Layout
from spooldadd.tomltext import dumps


class NodeFile:
    """The entry of this worker's node."""

    def __init__(self, places: Layout, node: str) -> None:
        self._path = os.path.join(places.nodes, f"{node}.toml")
        self._lock_path = os.path.join(places.nodes, f"{node}.lock")
        self._lock: int | None = None
        self._heartbeat = 0

    def beat(self, table: dict[str, object]) -> bool:
        """Write the entry with the next heartbeat; return whether it is ours to write. Raises: OSError."""
        if self._lock is None and not self._take():
            return False
        self._heartbeat += 1
        text = dumps({"schema": record.SCHEMA, "heartbeat": self._heartbeat, **table})
        durable.write(self._path, text.encode(), sync=False)
        return True

    def leave(self) -> None:
        """Let go of the entry; the last words stay."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self) -> bool:
        from filelock import lock_descriptor  # late: readers load this module, and take no lock

        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)  # all may ask
        try:
            is_ours = lock_descriptor(fd, blocking=False)
        except OSError:
            os.close(fd)
            raise
        if not is_ours:
            os.close(fd)
            return False
        self._lock = fd
        self._remove_temporaries()
        return True

    def _remove_temporaries(self) -> None:
        """Remove what a worker of this node that died here had not finished. We have its lock, so nobody writes it now."""
        directory, name = os.path.split(self._path)
        for entry in os.listdir(directory):
            pid, _, rest = entry.removeprefix(durable.TEMPORARY).partition("-")
            if durable.is_temporary(entry) and pid.isdigit() and rest == name:
                os.unlink(os.path.join(directory, entry))


def is_serving(places: Layout, node: str) -> bool:
    """Tell whether a worker of this node holds its lock now, as far as this machine can see."""
    import fcntl  # the reading commands come here, and import no third-party library

    try:
        fd = os.open(os.path.join(places.nodes, f"{node}.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_all(places: Layout) -> dict[str, dict[str, object]]:
    """Return what each node last said, by name."""
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
