"""What a waiting spec says about its turn: queue, priority, earliest time.

As `spooldadd.spec.peek`, which is too heavy here. A wrong value counts as absent: what is wrong with a
spec is said after the claim.
"""

from __future__ import annotations

import os
import stat

from spooldadd import forms, layout
from spooldadd.baretime import datetime
from spooldadd.inspect import tables

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_QUEUE = "default"
# As in `spec.reading`; a larger file is refused there.
MAX_BYTES = 1 << 20
# A key may hide behind an escape, so a text with one is looked at too.
_TELLING = (b"name", b"queue", b"priority", b"not_before", b"\\u", b"\\U", b"\\x")


class Peek:
    """What decides the turn of a spec."""

    __slots__ = ("name", "not_before", "priority", "queue")

    def __init__(self) -> None:
        self.name: str | None = None
        self.queue = DEFAULT_QUEUE
        self.priority = 0
        self.not_before: datetime.datetime | None = None


def peek(path: str) -> Peek:
    """Return what the spec at this path says; the defaults where it cannot be read. Follows no link, waits for nothing."""
    name = layout.bare_name(path)
    name, data = _read_member(path) if forms.is_bundle(name) else (name, _read(path))
    if not any(word in data for word in _TELLING):
        return Peek()
    return _found(_script_table(data) if forms.is_script(name) else _table(data))


def _read_member(path: str) -> tuple[str, bytes]:
    """Return name and bytes of the spec in a bundle."""
    from spooldadd import bundle  # late: few specs are one

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "", b""
    try:
        found = bundle.find_spec(fd)
        return found.name, found.data
    except (OSError, bundle.NoBundle):
        return "", b""
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(fd)
        is_readable = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES
        return os.read(fd, MAX_BYTES) if is_readable else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _script_table(data: bytes) -> dict[str, object]:
    """Return the `[tool.spooldadd]` table of a script."""
    text = data.decode("utf-8-sig", "replace")
    found = [block for block in forms.blocks(text) if block.kind == "script"]
    tool = _table(found[0].toml().encode()).get("tool") if len(found) == 1 else None
    own = tool.get("spooldadd") if isinstance(tool, dict) else None
    return own if isinstance(own, dict) else {}


def _table(data: bytes) -> dict[str, object]:
    return tables.parse(data.removeprefix(b"\xef\xbb\xbf")) or {}


def _found(table: Mapping[str, object]) -> Peek:
    found = Peek()
    name, queue, priority, run = (table.get(key) for key in ("name", "queue", "priority", "run"))
    if isinstance(name, str) and name:
        found.name = name
    if isinstance(queue, str) and queue:
        found.queue = queue
    if isinstance(priority, int) and not isinstance(priority, bool):
        found.priority = priority
    not_before = run.get("not_before") if isinstance(run, dict) else None
    if isinstance(not_before, datetime.datetime) and not_before.tzinfo:
        found.not_before = not_before
    return found
