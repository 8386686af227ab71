"""The entry of a worker's node in `.spool/nodes/`, written with each heartbeat.

One worker of a node holds the node's lock and writes; another of the same name serves all the same and stays silent. The
file holds a counter, not a time to be compared: other hosts' clocks are never trusted. On a spool that several machines
serve, an entry with another boot id that was written after ours is that of another machine that uses our name.

If we die here: a stale file without a lock; the next worker of that node writes over it.
"""

from __future__ import annotations

import os

from spooldadd import durable, record
from spooldadd.errors import SpoolError
from spooldadd.layout import Layout
from spooldadd.nodes import lock_path_of, path_of
from spooldadd.tomltext import dumps


class NodeTaken(SpoolError):
    """The operator must act: another machine serves this spool under our node's name."""


class NodeFile:
    """The entry of this worker's node. With a boot id, an entry of another machine or boot is never written over unseen."""

    def __init__(self, places: Layout, node: str, boot_id: str = "") -> None:
        self._places = places
        self._node = node
        self._boot_id = boot_id
        self._path = path_of(places, node)
        self._lock_path = lock_path_of(places, node)
        self._lock: int | None = None
        self._has_written = False
        self._heartbeat = 0

    def beat(self, table: dict[str, object]) -> bool:
        """Write the entry with the next heartbeat; return whether it is ours to write. Raises: OSError, NodeTaken."""
        self._let_go_of_removed()
        is_ours = self._lock is not None or self._take()
        if self._boot_id and (self._has_written or not is_ours):
            self._refuse_stranger()
        if not is_ours:
            return False
        self._heartbeat += 1
        text = dumps({"schema": record.SCHEMA, "heartbeat": self._heartbeat, **table})
        durable.write(self._path, text.encode(), sync=False)
        self._has_written = True
        return True

    def leave(self) -> None:
        """Let go of the entry; the last words stay."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def is_ours(self) -> bool:
        """Tell whether we hold the node's lock."""
        return self._lock is not None

    def _let_go_of_removed(self) -> None:
        """A person may have removed the lock file: what we hold keeps nobody out then."""
        if self._lock is None:
            return
        try:
            seen, own = os.stat(self._lock_path), os.fstat(self._lock)
        except FileNotFoundError:
            self.leave()
            return
        if (seen.st_dev, seen.st_ino) != (own.st_dev, own.st_ino):
            self.leave()

    def _refuse_stranger(self) -> None:
        said = record.read_table(self._path) or {}
        stranger = str(said.get("boot_id") or "")
        if stranger and stranger != self._boot_id:
            raise NodeTaken(taken_sentence(self._places, self._node, said))

    def _take(self) -> bool:
        from filelock import lock_descriptor  # late: readers load this module, and take no lock

        # All may ask, but where anybody could be a user: who can open it can hold it.
        mode = 0o600 if self._places.is_common else 0o644
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
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
        before = (record.read_table(self._path) or {}).get("heartbeat")
        self._heartbeat = max(self._heartbeat, before if isinstance(before, int) else 0)  # so that it only ever grows
        return True

    def _remove_temporaries(self) -> None:
        """Remove what a worker of this node that died here had not finished. We have its lock, so nobody writes it now."""
        directory, name = os.path.split(self._path)
        for entry in os.listdir(directory):
            pid, _, rest = entry.removeprefix(durable.TEMPORARY).partition("-")
            if durable.is_temporary(entry) and pid.isdigit() and rest == name:
                durable.unlink_if_there(os.path.join(directory, entry))


def taken_sentence(places: Layout, node: str, said: dict[str, object]) -> str:
    """Say that another machine uses a node's name, and what to do; `said` is its entry."""
    where = f"the machine `{said['host']}`" if said.get("host") else "another machine"
    return (
        f"{where} serves the spool `{places.root}` as the node `{node}`, as `{path_of(places, node)}` says; two machines "
        "under one name would take each other's jobs for their own. Give this one a name of its own: `--node NAME`, or "
        "`node` in its configuration"
    )
