"""When the jobs of a lost node may be taken over by another one, and what is said where they may not.

Only on a spool of kind `shared`, and only where all of this holds:

| what | how it is known |
|---|---|
| the node is silent | its counter stood still under our eyes for `[takeover] after` and three of its own beats (`peers`) |
| nobody of it holds the record | its lease can be taken (`recovery`) |
| that means something | our locks reach each other: one of the two nodes has proven it, and none the contrary (`proof`) |

The silent node may live all the same, cut off from the spool. So the first step gives the record a name of our own (`spool.
take_over`): from then on whoever still works on it finds its name gone, stops, and files nothing.

If we die here: `spool.take_over` says what is left at each step; what it leaves is a record that may be taken over again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from spooldadd import mark, proof
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.peers import Peers
from spooldadd.units import format_duration

# One late beat makes nobody dead.
LEAST_BEATS = 3
# How often a worker beats: seldom enough for forty on one server, often enough for `after` to be seen in six of them.
BEAT_S, LEAST_BEAT_S, BEATS_IN_AFTER = 10.0, 0.25, 6


class Verdict(Enum):
    """Whether the jobs of another node may be taken over."""

    ALIVE = "alive"  # or not silent for long enough
    TAKE = "take"
    OFF = "off"
    UNPROVEN = "unproven"
    PRIVATE = "private"


@dataclass(frozen=True)
class Rule:
    """What the spool and the configuration say. `after_s` is None where takeover is turned off."""

    kind: str
    after_s: float | None

    @property
    def is_shared(self) -> bool:
        """Tell whether several machines may serve this spool."""
        return self.kind == mark.SHARED

    @property
    def words(self) -> str:
        """When jobs of others are taken over, as the configuration writes it."""
        return "never" if self.after_s is None or not self.is_shared else format_duration(self.after_s)

    @property
    def beat_s(self) -> float:
        """How often our own worker says that it lives."""
        if not self.is_shared or self.after_s is None:
            return BEAT_S
        return min(BEAT_S, max(LEAST_BEAT_S, self.after_s / BEATS_IN_AFTER))


@dataclass(frozen=True)
class Lost:
    """A node whose jobs may be taken over: the words that say so in a reason, and for how long it was silent."""

    node: str
    words: str
    silent_s: float | None = None


def rule_of(kind: str, after: float | str) -> Rule:
    """Return the rule for a spool of this kind where the configuration says this: seconds, or `never`."""
    return Rule(kind, after if isinstance(after, float) else None)


def threshold_s(rule: Rule, beat_s: float) -> float:
    """Return how long a node that beats this often must be silent. Where it is never taken over: before we speak of it."""
    after_s = BEAT_S * BEATS_IN_AFTER if rule.after_s is None else rule.after_s
    return max(after_s, LEAST_BEATS * beat_s)


def decide(rule: Rule, silent_s: float, beat_s: float, locks: str) -> Verdict:
    """Say whether a node's jobs may be taken over: pure, from what was seen of it."""
    if not rule.is_shared or silent_s < threshold_s(rule, beat_s):
        return Verdict.ALIVE
    if rule.after_s is None:
        return Verdict.OFF
    if locks == proof.PRIVATE:
        return Verdict.PRIVATE
    return Verdict.TAKE if locks == proof.SHARED else Verdict.UNPROVEN


def refusal(verdict: Verdict, node: str) -> str:
    """Say why the jobs of a silent node are not taken over."""
    return {
        Verdict.OFF: "`[takeover] after` is `never`",
        Verdict.UNPROVEN: f"nobody has seen a lock of `{node}` keep another node out, so a free lease says nothing",
        Verdict.PRIVATE: f"the locks of `{node}` do not reach other nodes, so a free lease says nothing",
    }[verdict]


class Takeover:
    """Judges the nodes of the records that recovery meets, and says once of each why not."""

    def __init__(self, places: Layout, own: str, rule: Rule, log: Log) -> None:
        self.rule = rule
        self.peers = Peers(places, own, log)
        self._places = places
        self._own = own
        self._log = log
        self._said: set[tuple[str, Verdict]] = set()
        self._silent: set[str] = set()

    def lost(self, node: str, now: float) -> Lost | None:
        """Return what is to be said of a node whose jobs may be taken over now, else None. Without a name: of nobody's."""
        silent_s = self.peers.silent_s(node, now)
        beat_s = self.peers.beat_s(node)
        if silent_s < threshold_s(self.rule, beat_s):
            self._said = {(said, verdict) for said, verdict in self._said if said != node}
            return None
        locks = proof.between(self._places, self._own, node) if node else proof.SHARED
        verdict = decide(self.rule, silent_s, beat_s, locks)
        if verdict is Verdict.TAKE:
            return Lost(node, self._words(node, silent_s), silent_s)
        self._say(node, verdict, silent_s)
        return None

    def lost_nodes(self, now: float) -> list[str]:
        """Return all nodes whose jobs may be taken over now."""
        found = [peer.name for peer in self.peers.all() if peer.silent_s >= threshold_s(self.rule, peer.beat_s)]
        return [name for name in found if self.lost(name, now) is not None]

    def outlook(self) -> str:
        """Say whose jobs would be taken over from here if they were lost, as far as it is known now."""
        if self.rule.after_s is None:
            return "never: `[takeover] after` is `never`"
        seen = proof.read(self._places, self._own)
        if seen.get(proof.MOUNTS) == proof.PRIVATE:
            return "never: locks do not reach other nodes here"
        proven = ", ".join(sorted(peer for peer, locks in seen.items() if locks == proof.SHARED and peer != proof.MOUNTS))
        return f"after {format_duration(self.rule.after_s)}, from nodes whose locks were proven: {proven or 'none yet'}"

    def has_news(self) -> bool:
        """Tell whether a node has fallen silent for long enough since the last call: recovery has something to look at."""
        silent = {peer.name for peer in self.peers.all() if peer.silent_s >= threshold_s(self.rule, peer.beat_s)}
        news = silent - self._silent
        self._silent = silent
        return bool(news)

    def function(self, clock: Callable[[], float]) -> Callable[[str], Lost | None]:
        """Return `lost` with this clock, as recovery asks it."""
        return lambda node: self.lost(node, clock()) if self.rule.is_shared else None

    def _words(self, node: str, silent_s: float) -> str:
        who = f"its node `{node}` was" if node else "whoever claimed it was"
        return f"{who} silent for {format_duration(math.floor(silent_s))} as seen from `{self._own}`, which took it over"

    def _say(self, node: str, verdict: Verdict, silent_s: float) -> None:
        if verdict is Verdict.ALIVE or (node, verdict) in self._said:
            return
        self._said.add((node, verdict))
        self._log.warning(
            "not-taken-over",
            node=node,
            silent_s=float(math.floor(silent_s)),
            reason=refusal(verdict, node),
            then=f"its jobs wait for it; when it is dead, `spooldadd recover --node {node}` brings them back",
        )
