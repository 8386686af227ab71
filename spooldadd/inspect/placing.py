"""Which of the nodes that are known would take a waiting job, and what keeps each of the others from it.

What a node is and has is what it noted itself with its last heartbeat. Of one that has never served nothing is known but the
name. Heavy: only `explain` needs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spooldadd import layout, mark
from spooldadd.inspect import words, workers
from spooldadd.inspect.explanation import Rule
from spooldadd.inspect.job import Job
from spooldadd.placement import ANYWHERE, MILLI, NOTHING, Needs, Objection, Offer, Place, lacking, objections, owner
from spooldadd.spec import Spec
from spooldadd.usage import taken_by


@dataclass(frozen=True)
class Placing:
    """Where a job may run: what its spec says, the nodes that it is bound to, and the spool's fixed list of them."""

    place: Place
    bound: tuple[str, ...]
    key: str  # of a drop in the root of a synced spool; else empty
    fixed: tuple[str, ...]
    nodes: tuple[workers.Node, ...]
    root: str = ""

    def never(self, name: str) -> list[Objection]:
        """Return everything that keeps this node from ever taking the job, as long as all stays as it is."""
        found = []
        if self.bound and name not in self.bound:
            whose = ", ".join(f"`{words.show(node)}`" for node in self.bound)
            found.append(Objection("inbox", f"the job is for {whose} alone"))
        if self.key and self.fixed:
            winner = owner(self.place, self.key, self.fixed)
            if winner != name:
                found.append(Objection("hash", f"by its name the drop belongs to `{words.show(winner)}`"))
        return found + objections(self.place, self._offer(name))

    def names(self) -> list[str]:
        """Return every node that is known, that the spool lists, or that the job is bound to."""
        return sorted({*(node.name for node in self.nodes), *self.fixed, *self.bound})

    def node(self, name: str) -> workers.Node | None:
        """Return what the node said of itself, or None where it never has."""
        return next((node for node in self.nodes if node.name == name), None)

    def has_room(self, node: workers.Node, running: Iterable[Job]) -> Objection | None:
        """Return what the node has too little of now, or None."""
        capacity = _needs(node.table.get("capacity"))
        if self.place.needs == NOTHING or capacity is None:
            return None
        free = capacity
        for job in running:
            free = free.minus(taken_by(dict(job.claim())).needs)
        if self.fixed:  # what runs elsewhere is not to be seen in our copy of the spool
            free = capacity.minus(_needs(node.table.get("taken")) or NOTHING)
        if self.place.needs.fits_in(free):
            return None
        return Objection("place-busy", f"too little is free: {lacking(self.place.needs, free, 'now')}")

    def _offer(self, name: str) -> Offer:
        """What a node has not noted, because it never served or is of an older release, is taken for enough."""
        node = self.node(name)
        labels = node.table.get("labels") if node else None
        capacity = _needs(node.table.get("capacity")) if node else None
        has = frozenset(map(str, labels)) if isinstance(labels, list) else frozenset(self.place.labels)
        return Offer(name, has, capacity or self.place.needs)


def look(job: Job, place: Place, nodes: Sequence[workers.Node]) -> Placing:
    """Look at where a job lies and how its spool is served."""
    marked = mark.read(job.places.root)
    bound = list(filter(None, [layout.drop_node(job.id)])) if job.is_drop else layout.bound_nodes(_entries(job.path))
    fixed = marked.nodes if marked.kind == mark.SYNCED else ()
    key = layout.bare_name(job.id) if job.is_drop and not bound else ""
    return Placing(place, tuple(bound), key, fixed, tuple(nodes), job.places.root)


def offer_of(node: workers.Node, place: Place) -> list[Objection]:
    """Return what keeps a node from ever taking a job of that place."""
    return Placing(place, (), "", (), (node,)).never(node.name)


def owner_of(job: Job, spec: Spec | None, nodes: Sequence[str]) -> str:
    """Return the node of a synced spool to which a drop in the root belongs."""
    return owner(spec.place.place() if spec else ANYWHERE, layout.bare_name(job.id), nodes)


def rules(placing: Placing) -> list[Rule]:
    """Return what keeps each node from ever taking the job; it waits for that where nobody else serves who would."""
    takers = [node for node in placing.nodes if node.is_serving and not placing.never(node.name)]
    found = []
    for name in placing.names():
        node = placing.node(name)
        shown = f"node `{words.show(name)}`"
        for objection in placing.never(name):
            found.append(Rule(objection.rule, not takers, {"node": name}, f"{shown} does not take it: {objection.sentence}"))
        if placing.never(name) or (node is not None and node.is_serving):
            continue
        if placing.fixed:
            sentence = f"it is for {shown}, which serves a copy of this spool of its own; from here it is not seen to serve"
        elif node is None:
            start = f"`spooldadd worker {words.show(placing.root)} --node {words.show(name)}`"
            sentence = f"it is for {shown}, and no worker of that name has ever served this spool; start one: {start}"
        else:
            sentence = f"{shown} would take it and does not serve now, as far as this machine can see"
        found.append(Rule("node-away", not takers, {"node": name}, sentence))
    return found


def by_node(placing: Placing, found: Iterable[Rule]) -> list[dict[str, object]]:
    """Return for each node whether it takes the job now, and every reason why not: what JSON says."""
    tables = []
    every = list(found)
    for name in placing.names():
        node = placing.node(name)
        own = [rule for rule in every if isinstance(rule.value, dict) and rule.value.get("node") == name]
        general = [
            rule for rule in every if rule.rule in ("held", "paused", "queue-paused", "quiet", "not-before", "backoff")
        ]
        reasons = [rule for rule in own if rule.rule not in ("room", "worker")]
        reasons += [rule for rule in own if rule.rule == "worker" and rule.value["state"] != "serving"]  # type: ignore[index]
        reasons += [rule for rule in general if rule.keeps_waiting]
        tables.append(
            {
                "node": name,
                "is_serving": bool(node and node.is_serving),
                "takes": not reasons and bool(node and node.is_serving),
                "reasons": [{"rule": rule.rule, "sentence": rule.sentence} for rule in reasons],
            }
        )
    return tables


def _needs(table: object) -> Needs | None:
    if not isinstance(table, dict):
        return None
    cpus, memory, gpus = (table.get(key, 0) for key in ("cpus", "memory_bytes", "gpus"))
    if not all(isinstance(value, (int, float)) for value in (cpus, memory, gpus)):
        return None
    return Needs(round(cpus * MILLI), int(memory), int(gpus))


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
