"""The other nodes of a shared spool, as this one sees them: who lives, who is silent and for how long, whose locks reach us.

Clocks of other machines are never compared, nor times of files. What counts is the counter in a node's entry, and for how
long *we* have looked at it standing still, by our own monotonic clock. Time in which we did not look counts as nothing: a
worker that was stopped for an hour has not seen anybody be silent.

**Proof of locks.** While a node's counter is seen to move, and its entry says that it holds its lock, we try that lock. We
are kept out: our locks reach each other (`shared`). We get it: twice, and each time the same worker's counter went on
afterwards, so that it lived and held the lock while we did: `private`. It is written to `.spool/proofs/`.

If we die here: the silence that was seen is forgotten, and counted anew. What was proven stays.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field

from spooldadd import durable, names, nodes, proof
from spooldadd.layout import Layout
from spooldadd.log import Log

# What a node beats when its entry does not say: the time of all releases so far.
USUAL_BEAT_S = 10.0
# A node that beats this often and no more is still there: one late beat is none.
LIVING_BEATS = 3
# Between two looks at most this much counts as silence, in our own beats.
MOST_GAP_BEATS = 2
# A lock that was granted once may have been free for a moment, between two workers. Twice in a row it was not.
GRANTS = 2
# Mounts change while workers live: what was proven is looked at again after this time.
PROVE_AGAIN_S = 300.0

Mark = tuple[object, object, object]
Worker = tuple[object, object]


@dataclass
class Peer:
    """One other node: what its entry said last, and how long we have seen it say nothing new."""

    name: str
    table: dict[str, object] = field(default_factory=dict)
    looked_at: float = 0.0
    silent_s: float = 0.0
    has_moved: bool = False  # since we began to look
    grants: int = 0
    granted_at: Mark | None = None  # what the entry said right after the lock was granted to us
    proven: Worker | None = None  # the worker whose lock we tried last with an answer
    prove_at: float = 0.0

    @property
    def mark(self) -> Mark:
        """What changes whenever a worker of this node has written."""
        return self.table.get("boot_id"), self.table.get("pid"), self.table.get("heartbeat")

    @property
    def worker(self) -> Worker:
        """Which worker wrote it."""
        return self.table.get("boot_id"), self.table.get("pid")

    @property
    def beat_s(self) -> float:
        """How often it says that it writes."""
        return beat_s_of(self.table)

    @property
    def jobs(self) -> int:
        """How many jobs it says that it runs at once."""
        said = self.table.get("jobs")
        return said if isinstance(said, int) and said > 0 else 1

    @property
    def is_living(self) -> bool:
        """Tell whether it serves: it was seen to move and has not been silent for long since."""
        return self.has_moved and self.silent_s < LIVING_BEATS * self.beat_s and self.table.get("state") == "serving"


class Peers:
    """Watches the entries of all nodes but ours."""

    def __init__(self, places: Layout, own: str, log: Log) -> None:
        self._places = places
        self._own = own
        self._log = log
        self._peers: dict[str, Peer] = {}

    def look(self, now: float, beat_s: float) -> None:
        """Look at every entry once, and prove what can be proven; `beat_s` is how often we do so. Raises: OSError."""
        most_s = MOST_GAP_BEATS * beat_s
        seen = {entry.removesuffix(".toml") for entry in os.listdir(self._places.nodes) if _is_entry(entry)}
        for name in sorted(seen | self._peers.keys()):
            if name == self._own:
                continue
            try:
                table = self._read(name) if name in seen else None
            except OSError:
                continue  # it was just being replaced, or the share is in trouble: we have seen nothing
            self._note(name, table, now, most_s)

    def silent_s(self, name: str, now: float) -> float:
        """Return for how long this node has been silent, as far as we looked; from now on where we never heard of it."""
        if name not in self._peers:
            self._peers[name] = Peer(name, looked_at=now)
        return self._peers[name].silent_s

    def beat_s(self, name: str) -> float:
        """Return how often this node says that it beats."""
        return self._peers[name].beat_s if name in self._peers else USUAL_BEAT_S

    def all(self) -> list[Peer]:
        """Return all that we know of, by name."""
        return [self._peers[name] for name in sorted(self._peers)]

    def living(self) -> list[Peer]:
        """Return those that serve now."""
        return [peer for peer in self.all() if peer.is_living]

    def _read(self, name: str) -> dict[str, object] | None:
        """Return what the entry says; None where there is none, or what is there cannot be understood. Raises: OSError."""
        try:
            with open(nodes.path_of(self._places, name), "rb") as file:
                return tomllib.load(file)
        except (FileNotFoundError, ValueError):
            return None

    def _note(self, name: str, table: dict[str, object] | None, now: float, most_s: float) -> None:
        peer = self._peers.get(name)
        if peer is None:
            self._peers[name] = Peer(name, table or {}, now)
            return
        before = peer.mark
        if table is not None:
            peer.table = table
        if peer.mark == before:
            peer.silent_s += min(now - peer.looked_at, most_s)
        else:
            peer.silent_s = 0.0
            peer.has_moved = True
        peer.looked_at = now
        if table is not None and peer.has_moved and peer.silent_s == 0.0:
            self._prove(peer, now)

    # -- proof

    def _prove(self, peer: Peer, now: float) -> None:
        """The counter has just moved: try its lock, or take what an earlier try says now."""
        if peer.table.get("holds_lock") is not True or peer.proven not in (None, peer.worker):
            peer.grants, peer.granted_at, peer.proven, peer.prove_at = 0, None, None, 0.0
        if peer.table.get("holds_lock") is not True or (peer.proven is not None and now < peer.prove_at):
            return
        if peer.granted_at is not None:
            is_same = peer.granted_at[:2] == peer.worker and peer.granted_at != peer.mark
            peer.grants = peer.grants + 1 if is_same else 0
            peer.granted_at = None
        if peer.grants >= GRANTS:
            self._conclude(peer, proof.PRIVATE, now)
            return
        granted = nodes.try_lock(self._places, peer.name)
        if granted is False:
            self._conclude(peer, proof.SHARED, now)
        elif granted:
            peer.granted_at = self._mark_now(peer)

    def _mark_now(self, peer: Peer) -> Mark | None:
        try:
            table = self._read(peer.name)
        except OSError:
            return None
        return None if table is None else Peer(peer.name, table).mark

    def _conclude(self, peer: Peer, verdict: str, now: float) -> None:
        peer.grants, peer.granted_at = 0, None
        peer.proven, peer.prove_at = peer.worker, now + PROVE_AGAIN_S
        if not proof.note(self._places, self._own, peer.name, verdict):
            return
        if verdict == proof.SHARED:
            self._log.info("locks-proven", peer=peer.name, reason="the lock of its living worker keeps us out")
        else:
            self._log.warning(
                "locks-private",
                peer=peer.name,
                reason="we got the lock that its living worker holds: locks do not reach from one node to the other",
                then="its jobs are not taken over by themselves; mount the spool with locks that the server keeps",
            )


def beat_s_of(table: dict[str, object]) -> float:
    """Return how often a node beats, as its entry says."""
    said = table.get("beat_s")
    return float(said) if isinstance(said, int | float) and said > 0 else USUAL_BEAT_S


def living_names(peers: Iterable[Peer]) -> list[tuple[str, int]]:
    """Return name and width of each."""
    return [(peer.name, peer.jobs) for peer in peers]


def _is_entry(entry: str) -> bool:
    name = entry.removesuffix(".toml")
    return entry.endswith(".toml") and not durable.is_temporary(entry) and names.safe_name(name) == name
