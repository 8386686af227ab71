"""Where a job may run: names of nodes, labels, and what it takes of a node's processors, memory and GPUs. Pure.

What a job takes is counted, not enforced: `[limits]` is what ends a job that uses more.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from spooldadd.units import format_size

MILLI: Final = 1000


class Needs(NamedTuple):
    """Amounts of what a node has. Processors in thousandths, so that many halves add up to whole ones."""

    millicpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def plus(self, other: Needs) -> Needs:
        """Return both together."""
        return Needs(self[0] + other[0], self[1] + other[1], self[2] + other[2])

    def minus(self, other: Needs) -> Needs:
        """Return what is left; below zero where there is not enough."""
        return Needs(self[0] - other[0], self[1] - other[1], self[2] - other[2])

    def fits_in(self, free: Needs) -> bool:
        """Tell whether there is enough of all that is needed. What is not needed may be overdrawn."""
        return all(need <= there for need, there in zip(self, free, strict=True) if need)

    def table(self) -> dict[str, object]:
        """Return it as it stands in files and JSON."""
        return {"cpus": self.millicpus / MILLI, "memory_bytes": self.memory_bytes, "gpus": self.gpus}


NOTHING: Final = Needs()


@dataclass(frozen=True, slots=True)
class Place:
    """What a spec says about where it may run; empty where it may run anywhere."""

    patterns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    needs: Needs = NOTHING

    def names(self, node: str) -> bool:
        """Tell whether the spec lets a node of this name run it."""
        return not self.patterns or any(fnmatch.fnmatchcase(node, pattern) for pattern in self.patterns)


ANYWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node is and has in all."""

    node: str
    labels: frozenset[str] = frozenset()
    capacity: Needs = NOTHING


class Objection(NamedTuple):
    """Why a node will never take a job, as long as both are as they are: a word for programs, and a sentence."""

    rule: str
    sentence: str


def objections(place: Place, offer: Offer) -> list[Objection]:
    """Return everything that keeps this node from ever taking a job with this place; nothing where it fits."""
    found = []
    if not place.names(offer.node):
        wanted = ", ".join(f"`{pattern}`" for pattern in place.patterns)
        found.append(Objection("place-node", f"its name does not match {wanted}"))
    missing = [label for label in place.labels if label not in offer.labels]
    if missing:
        names = ", ".join(f"`{label}`" for label in missing)
        found.append(Objection("place-labels", f"it has no label {names}"))
    if not place.needs.fits_in(offer.capacity):
        wanted = lacking(place.needs, offer.capacity, "in all")
        found.append(Objection("place-capacity", f"the job needs more than it has: {wanted}"))
    return found


def lacking(needs: Needs, there: Needs, what: str) -> str:
    """Say of what there is too little: `4 gpus, of 2 in all`."""
    pairs = zip(Needs._fields, needs, there, strict=True)
    return ", ".join(f"{amount(key, need)}, of {number(key, has)} {what}" for key, need, has in pairs if need and need > has)


def amount(key: str, value: int) -> str:
    """Write an amount with its unit."""
    text = number(key, value)
    if key == "memory_bytes":
        return f"{text} of memory"
    return f"{text} {'GPU' if key == 'gpus' else 'CPU'}{'' if text == '1' else 's'}"


def number(key: str, value: int) -> str:
    """Write an amount without its unit; nothing is less than nothing."""
    value = max(0, value)
    if key == "memory_bytes":
        return format_size(value)
    return f"{value / MILLI:g}" if key == "millicpus" else str(value)


# -- synced spools: one node for each path


def winner(key: str, nodes: Sequence[str]) -> str:
    """Return the node to which a drop of this name belongs: the highest hash wins, whether the node is alive or not.

    Where a node is added to the list, only drops that it wins change hands. Source: rendezvous hashing, Thaler and
    Ravishankar 1998.
    """
    return max(nodes, key=lambda node: (_hash(node, key), node))


def owner(place: Place, key: str, nodes: Sequence[str]) -> str:
    """Return the winner among the nodes that the spec names; among all where it names none of them, to say so."""
    return winner(key, [node for node in nodes if place.names(node)] or nodes)


def free_of(capacity: Needs, taken: Iterable[Needs]) -> Needs:
    """Return what is left of a capacity."""
    free = capacity
    for one in taken:
        free = free.minus(one)
    return free


def _hash(node: str, key: str) -> bytes:
    # Length first, so that no two pairs of names make one text.
    return hashlib.blake2b(f"{len(node)}:{node}{key}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
