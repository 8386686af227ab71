"""What a record of a synced spool says of the drop that it was made of: its name, and its content.

A sync tool may bring a claimed drop back from another copy of the spool, days later. Name and content together tell it from
a new one. They stand in the file that binds the job to its node (`@NODE`), which stays with the record, whatever comes.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from typing import NamedTuple

from spooldadd import layout
from spooldadd.tomltext import flat

BLOCK_BYTES = 1 << 20
# A job can write into its record; what is longer than this is none of ours.
MAX_BYTES = 4096


class Origin(NamedTuple):
    """A drop: its key, as it is called while nobody holds it, and the checksum of its bytes."""

    key: str
    content: str

    def mark(self) -> str:
        """Return both as one short text."""
        return hashlib.blake2b(f"{self.content}/{self.key}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def of_drop(root: str, key: str) -> Origin | None:
    """Return what a drop is now; None where it cannot be read. Follows no link and waits for nothing."""
    try:
        fd = os.open(os.path.join(root, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = hashlib.blake2b(digest_size=32)
    try:
        while data := os.read(fd, BLOCK_BYTES):
            found.update(data)
    except OSError:  # a directory, or a disk in trouble
        return None
    finally:
        os.close(fd)
    return Origin(layout.bare_name(key), found.hexdigest())


def text(found: Origin | None) -> bytes:
    """Return what to write into a record; nothing where nobody could read the drop."""
    return flat(found._asdict()).encode() if found else b""


def of_record(path: str) -> Origin | None:
    """Return of what drop a record was made, or None where it does not say so."""
    try:
        nodes = layout.bound_nodes(os.listdir(path))
    except OSError:
        return None
    for node in nodes:
        found = _read(os.path.join(path, layout.inbox(node)))
        if found is not None:
            return found
    return None


def _read(path: str) -> Origin | None:
    try:
        with open(path, "rb") as file:
            table = tomllib.loads(file.read(MAX_BYTES).decode())
    except (OSError, ValueError):
        return None
    key, content = table.get("key"), table.get("content")
    return Origin(key, content) if isinstance(key, str) and isinstance(content, str) else None
