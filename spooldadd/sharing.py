"""What a worker does because other nodes may serve its spool: prove its name, watch the others, leave them their part.

On a spool of one node all of it is nothing.

If we die here: nothing is held here that is not seen anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from spooldadd import peers, recovery, takeover
from spooldadd.answering import Answering
from spooldadd.backlog import Backlog, Entry, rank_of
from spooldadd.config import Config
from spooldadd.identity import Identity
from spooldadd.log import Log
from spooldadd.notices import Notices
from spooldadd.sources import Sources
from spooldadd.spool import Spool
from spooldadd.spreading import Spread

# So that the others know us soon, the first beats come faster.
EARLY_BEATS, EARLY = 5, 5


class Sharing:
    """One worker among others."""

    def __init__(self, the_spool: Spool, config: Config, jobs: int, log: Log) -> None:
        places, own = the_spool.places, the_spool.holder.node
        self.rule = takeover.rule_of(the_spool.format.kind, config.takeover.after_s)
        self._own, self._jobs = own, jobs
        self._log = log
        self._takeover = takeover.Takeover(places, own, self.rule, log)
        self._identity = Identity(places, the_spool.holder, log)
        self._answering = Answering(places, own, log)
        self._early_beats = EARLY_BEATS if self.rule.is_shared else 0
        self.spread = Spread(own)

    def context(self, context: recovery.Context) -> recovery.Context:
        """Return what recovery needs, with our word on the records of others."""
        if not self.rule.is_shared:
            return context
        lost = self._takeover.function(time.monotonic)
        return replace(context, lost=lost, is_own_boot=self._identity.is_own_boot)

    def begin(self, is_stopping: Callable[[], bool]) -> None:
        """Wait until our name is known to be ours. Raises: NodeTaken."""
        if self.rule.is_shared:
            self._identity.settle(is_stopping)
            self._log.info("guarantees", kind=self.rule.kind, once="by the rename", takeover=self._takeover.outlook())

    def recovered(self) -> None:
        """All records were looked at once: those of our name were ours."""
        self._identity.begin()

    def inherit(self, notices: Notices, now: float) -> None:
        """Have us tell what lost nodes have not told. Raises: OSError."""
        if self.rule.is_shared and notices.is_on:
            for node in self._takeover.lost_nodes(now):
                notices.inherit(node)

    def next_beat_s(self) -> float:
        """Return how long to wait for the beat after this one."""
        if self._early_beats:
            self._early_beats -= 1
            return self.rule.beat_s / EARLY
        return self.rule.beat_s

    def look(self, now: float, backlog: Backlog, sources: Sources, *, takes_jobs: bool) -> bool:
        """Look at the other nodes, and reckon anew who takes what; return whether one has been lost. Raises: OSError."""
        if not self.rule.is_shared:
            return False
        self._answering.turn()
        self._takeover.peers.look(now, self.rule.beat_s)
        members = peers.living_names(self._takeover.peers.living())
        is_news = self.spread.meet([*members, (self._own, self._jobs)] if takes_jobs else members)
        if is_news:
            sources.share_out(now)
        if is_news or not self.spread.is_alone:
            self.spread.age(backlog.entries(), now)
            backlog.order = rank_of if self.spread.is_alone else self.spread.order
            backlog.reorder()
        return self._takeover.has_news()

    # -- taking turns

    def sift(self, entries: list[Entry], sources: Sources, now: float) -> list[Entry]:
        """Return what may be taken now; what belongs to others is kept back for a moment."""
        if self.spread.is_alone:
            return entries
        return self.spread.sift(entries, now, sources.leave_s)

    def is_stale(self, entry: Entry, sources: Sources) -> bool:
        """Tell whether to look again before this entry is claimed: it is another node's part, and our list is old."""
        return not self.spread.is_alone and not self.spread.is_mine(entry) and sources.is_list_old
