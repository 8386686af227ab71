"""Ask nodes how they stand: who lives, how wide it is, how much runs and waits. Clocks of others are not compared.

The other side's own `spooldadd` knows best: there, locks tell whether a worker lives. Where only rsync is allowed, the
node's heartbeat is fetched again and again: one that moves before our eyes is alive, one that stands still for longer than a
worker takes between two beats is not, however young the file looks.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spooldadd import forms, layout, record
from spooldadd.errors import SpooldaddError
from spooldadd.inspect.opening import open_places
from spooldadd.inspect.summary import look
from spooldadd.remote import listing, probing
from spooldadd.remote.rsync import Answer, Rsync, explain, own_words
from spooldadd.remote.targets import Target
from spooldadd.timers import BEAT_S

# Two beats and a bit: one that has not moved by then does not serve.
WATCH_S = 2.5 * BEAT_S
LOOK_S = 2.0
AT_ONCE = 8
ASKED, WATCHED = "asked", "watched"
_SSH_FAILED, _UNUSABLE = 255, 4


@dataclass(frozen=True)
class Standing:
    """How one node's spool stands. `trouble` says why it takes nothing now; `how` it was found out, and why not better."""

    target: Target
    width: int = 0
    busy: int = 0
    trouble: str = ""
    how: str = ASKED
    why: str = ""

    @property
    def load(self) -> float:
        """What runs and waits, in relation to what runs at once."""
        return self.busy / self.width if self.width else float("inf")

    def table(self) -> dict[str, object]:
        """Return what `--json` shows."""
        plain = {"node": self.target.name, "target": self.target.address, "width": self.width, "busy": self.busy}
        return {**plain, "asked": self.how, **({"trouble": self.trouble} if self.trouble else {})}


def ask_all(rsync: Rsync, targets: Iterable[Target]) -> list[Standing]:
    """Ask all of them at once; one that cannot be reached has its trouble."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda target: _ask(rsync, target), targets))


def least_busy(standings: Iterable[Standing]) -> Standing | None:
    """Return the one with the least load; of equal ones the one with most room, then by name; None where none takes jobs."""
    able = [one for one in standings if not one.trouble]
    return min(able, key=lambda one: (one.load, one.busy, -one.width, one.target.name), default=None)


def _ask(rsync: Rsync, target: Target) -> Standing:
    try:
        if not target.host:
            return _judge(target, look(open_places(target.path)))
        answer = rsync.ask(target, "status", "--summary", "--json")
        table = _json(answer)
        if table is not None:
            return _judge(target, table)
        if answer.code == _SSH_FAILED:
            return Standing(target, trouble=explain(answer, target))
        if answer.code == _UNUSABLE:
            return Standing(target, trouble=own_words(answer))
        return _watch(rsync, target, f"`{target.command[0]}` cannot be asked there ({own_words(answer)})")
    except (SpooldaddError, OSError) as error:
        return Standing(target, trouble=str(error))


def _json(answer: Answer) -> Mapping[str, object] | None:
    """Read what `status --json` printed, behind whatever a login prints."""
    if answer.code:
        return None
    try:
        table = json.loads(answer.out[answer.out.index("{") :])
    except ValueError:
        return None
    return table if isinstance(table, dict) and isinstance(table.get("nodes"), list) else None


def _judge(target: Target, table: Mapping[str, object]) -> Standing:
    nodes = table["nodes"]
    counts = table.get("counts")
    assert isinstance(nodes, list)
    serving = [node for node in nodes if isinstance(node, dict) and node.get("serving")]
    width = sum(_number(node.get("jobs")) for node in serving if node.get("state", "serving") == "serving")
    busy = sum(_number(counts.get(state)) for state in (layout.RUNNING, layout.WAITING)) if isinstance(counts, dict) else 0
    return Standing(target, width, busy, _trouble(serving, width, is_paused=bool(table.get("paused"))))


def _trouble(serving: list[dict[str, object]], width: int, *, is_paused: bool) -> str:
    if not serving:
        return "no worker serves its spool"
    if is_paused:
        return "its spool is paused"
    return "" if width else f"its worker is {serving[0].get('state', 'not serving')}"


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


# -- where only rsync is allowed


def _watch(rsync: Rsync, target: Target, why: str) -> Standing:
    """Judge by heartbeats that move. Raises: Unreachable."""
    probing.probe(rsync, target)
    end = time.monotonic() + WATCH_S
    first = _nodes(rsync, target)
    alive: dict[str, dict[str, object]] = {}
    while len(alive) < len(first) and time.monotonic() < end:
        time.sleep(LOOK_S)
        now = _nodes(rsync, target)
        alive |= {name: node for name, node in now.items() if node.get("heartbeat") != first.get(name, {}).get("heartbeat")}
    busy, is_paused = _count(rsync, target)
    width = sum(_number(node.get("jobs")) for node in alive.values() if node.get("state", "serving") == "serving")
    return Standing(target, width, busy, _trouble(list(alive.values()), width, is_paused=is_paused), WATCHED, why)


def _nodes(rsync: Rsync, target: Target) -> dict[str, dict[str, object]]:
    """Fetch what the nodes of a spool say of themselves. Raises: Unreachable."""
    with tempfile.TemporaryDirectory(prefix="spooldadd-nodes-") as scratch:
        source = target.at(layout.INTERNAL, "nodes") + "/"
        rsync.copy(["-t", "-d", "--no-links", "--include=/*.toml", "--exclude=*", source, scratch], target)
        found = {name: record.read_table(os.path.join(scratch, name)) for name in os.listdir(scratch)}
    return {name: table for name, table in found.items() if table is not None}


def _count(rsync: Rsync, target: Target) -> tuple[int, bool]:
    """Return how many jobs run and wait there, and whether all is paused. Raises: Unreachable."""
    patterns = [f"/{layout.RUNNING}/", f"/{layout.WAITING}/", f"/{layout.RUNNING}/*/", f"/{layout.WAITING}/*/"]
    patterns += [f"/{layout.PAUSED}", *(f"/*{suffix}" for suffix in forms.SUFFIXES)]
    seen = listing.names(rsync, target, patterns)
    records = sum(1 for name, one in seen.items() if one.is_directory and "/" in name)
    drops = sum(1 for name, one in seen.items() if not one.is_directory and not name.startswith((".", layout.PAUSED)))
    return records + drops, layout.PAUSED in seen
