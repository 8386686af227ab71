"""Whether this machine may use its node's name on a shared spool: two machines of one name would recover each other's jobs.

Looked at once, before anything is claimed or recovered. An entry of our own boot, or none, is ours. One of another boot is
either another machine that serves under our name, or our own machine before it was started again. Only time tells: while the
lock of that entry is held, or its counter moves within three of its own beats, the name is taken. Nothing is served
meanwhile: what would be claimed then, the other machine could take for its own.

A worker that took its leave says so in its entry, so that after an orderly restart nothing has to be waited for.

If we die here: nothing was changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spooldadd import nodes, peers, record
from spooldadd.claim import Holder
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.nodefile import NodeTaken, taken_sentence

LOOK_S = 0.2


class Identity:
    """Knows which boots are this machine's own: this one, and those that had left records before we began."""

    def __init__(self, places: Layout, holder: Holder, log: Log) -> None:
        self._places = places
        self._holder = holder
        self._log = log
        self._boots = {holder.boot_id}
        self._strangers: set[str] = set()
        self._is_settled = False

    def settle(self, is_stopping: Callable[[], bool]) -> None:
        """Wait until the name is known to be ours, or we are to stop. Raises: NodeTaken."""
        before = self._entry()
        if not before or before.get("boot_id") in (None, "", self._holder.boot_id):
            return
        self._refuse_held(before)
        if before.get("state") == "stopped":
            return
        wait_s = peers.LIVING_BEATS * peers.beat_s_of(before)
        self._log.info(
            "name-watched",
            node=self._holder.node,
            reason="its entry is of another machine, or of this one before it was started again",
            then=f"serving in {wait_s:g} s if its counter stands still",
        )
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not is_stopping():
            time.sleep(LOOK_S)
            now = self._entry()
            self._refuse_held(before)
            if now and _mark(now) != _mark(before):
                raise NodeTaken(taken_sentence(self._places, self._holder.node, now))

    def begin(self) -> None:
        """All that is of our name by now was left by our own machine; what comes later is not."""
        self._is_settled = True

    def is_own_boot(self, boot_id: str) -> bool:
        """Tell whether a record of our name and of this boot may be ours."""
        if boot_id in self._boots:
            return True
        if not self._is_settled:
            self._boots.add(boot_id)
            return True
        if boot_id not in self._strangers:
            self._strangers.add(boot_id)
            self._log.error(
                "name-taken",
                node=self._holder.node,
                reason="another machine has claimed jobs under the name of this node",
                then="leaving them alone; give one of the two a name of its own, by `--node NAME`",
            )
        return False

    def _refuse_held(self, said: dict[str, object]) -> None:
        if nodes.is_serving(self._places, self._holder.node):
            raise NodeTaken(taken_sentence(self._places, self._holder.node, said))

    def _entry(self) -> dict[str, object]:
        return record.read_table(nodes.path_of(self._places, self._holder.node)) or {}


def _mark(said: dict[str, object]) -> tuple[object, ...]:
    return said.get("boot_id"), said.get("pid"), said.get("heartbeat")
