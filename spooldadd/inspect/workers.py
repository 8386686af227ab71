"""Who serves a spool: what the nodes say about themselves, and whether their workers live."""

from __future__ import annotations

import os

from spooldadd import forms, nodes
from spooldadd.inspect import drops, tables
from spooldadd.inspect.listing import entries
from spooldadd.layout import Layout

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Mapping


class Node:
    """One node as its worker last described it."""

    __slots__ = ("is_serving", "name", "table")

    def __init__(self, name: str, table: Mapping[str, object], *, is_serving: bool) -> None:
        self.name = name
        self.table = table
        self.is_serving = is_serving

    @property
    def state(self) -> str:
        """What its worker does: `serving`, `draining`, `away` or `troubled`."""
        return str(self.table.get("state", "serving"))

    @property
    def jobs(self) -> int | None:
        """How many jobs it runs at once, where it says so."""
        return _number(self.table.get("jobs"))

    def width(self, queue: str) -> int | None:
        """Return how many jobs of this queue it runs at once, or None where the queue has no width of its own."""
        queues = self.table.get("queues")
        return _number(queues.get(queue)) if isinstance(queues, dict) else None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Which files it takes for specs; empty where it does not say."""
        found = self.table.get("suffixes")
        return tuple(part for part in found if isinstance(part, str)) if isinstance(found, list) else ()


def all_nodes(places: Layout) -> list[Node]:
    """Return every node that ever served this spool."""
    found = []
    for entry in sorted(entries(places.nodes)):
        # Not by `nodes.read_all`: `tomllib` would take half the time of `status`.
        table = tables.read(os.path.join(places.nodes, entry)) if is_entry(entry) else None
        if table is not None:
            name = entry.removesuffix(".toml")
            found.append(Node(name, table, is_serving=is_serving(places, name, table)))
    return found


def is_entry(name: str) -> bool:
    """Tell whether this is what a node says, and no conflict copy of it that a sync tool made."""
    return name.endswith(".toml") and drops.is_drop(name)


def suffixes(found: list[Node]) -> tuple[str, ...]:
    """Return the suffixes of specs, as the nodes that serve say; where none does, those of any release like ours."""
    said = {suffix for node in found if node.is_serving for suffix in node.suffixes}
    return tuple(sorted({forms.TOML, *said} if said else forms.SUFFIXES))


def is_serving(places: Layout, name: str, table: Mapping[str, object]) -> bool:
    """Its lock says so; where we may not open that, a living process of its number on this boot does."""
    lock = os.path.join(places.nodes, f"{name}.lock")
    if os.access(lock, os.R_OK | os.W_OK) or not os.path.lexists(lock):
        return nodes.is_serving(places, name)
    return table.get("boot_id") == _boot_id() and os.path.exists(f"/proc/{table.get('pid')}")


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
