"""Show the nodes that serve a spool, and those that did.

Alive means that the node's lock is held, or that its heartbeat moves while we look. Where neither can be known at once, its
heartbeat is watched for a moment, or for as long as `--watch` says: three beats without a change make a node silent. `CLOCK`
is how far its clock is ahead of this one, for information: nothing is decided by it. `LOCKS` says whether nodes have seen
each other's locks; only where they are `shared` are jobs of a silent node taken over by themselves.

examples:
  spooldadd nodes
  spooldadd nodes --watch 30s            # look at the heartbeats of those whose lock does not tell
  spooldadd nodes --forget web-3         # a node that is gone for good
  spooldadd nodes --json | jq -r '.nodes[] | select(.state == "silent") | .node'
"""

from __future__ import annotations

import os
import sys
import time

from spooldadd import names
from spooldadd.cli import common, moments
from spooldadd.errors import SpooldaddError
from spooldadd.inspect import rescue, roster, tables, words, workers
from spooldadd.inspect.opening import open_places
from spooldadd.layout import Layout
from spooldadd.release import __version__

# Long enough for a node of a spool with a short takeover time, short enough for a person.
LOOK_S = 2.0
HEADER = ("NODE", "STATE", "RUN", "WAIT", "LOAD", "SEEN", "RELEASE", "CLOCK", "LOCKS", "LABELS")
COLOURS = {roster.ALIVE: "green", roster.SILENT: "red", roster.STOPPED: "dim", roster.UNKNOWN: "yellow"}
# Less than people set clocks apart, more than a look takes on a slow share.
CLOCK_S = 1.0

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time
if TYPE_CHECKING:
    import argparse

    from spooldadd.inspect.roster import Seen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--watch",
        metavar="TIME",
        type=moments.duration,
        help="how long to look at heartbeats where a lock does not tell (default: 2s; with --forget three beats)",
    )
    parser.add_argument("--forget", metavar="NAME", help="remove the entry of a node that is gone")
    common.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Look, and show."""
    root = common.spool_path(options)
    places = open_places(root)
    if options.forget is not None:
        return _forget(places, options)
    try:
        found = roster.look(places, LOOK_S if options.watch is None else options.watch)
    except FileNotFoundError:
        found = []
    kind = str((tables.read(places.format) or {}).get("kind", "local"))
    if options.json:
        common.print_json(
            {"spool": root, "kind": kind, "release": __version__, "nodes": [_table(seen, kind) for seen in found]}
        )
        return 0
    if not found:
        common.say("spooldadd: no node has ever served this spool, or all were forgotten; `spooldadd worker` serves it")
        return 0
    _print(found, places)
    return 0


def _print(found: list[Seen], places: Layout) -> None:
    screen = words.Screen(sys.stdout, os.environ)
    lines = words.columns([HEADER, *(_row(seen) for seen in found)], screen.width)
    print(screen.paint(lines[0], "dim"))
    for seen, line in zip(found, lines[1:], strict=True):
        print(screen.paint(line, COLOURS[seen.state]))
    for seen in found:
        for sentence in _remarks(seen):
            common.say(f"spooldadd: {sentence}")
    for sentence in _abandoned(places, found):
        common.say(f"spooldadd: {sentence}")


def _row(seen: Seen) -> tuple[str, ...]:
    said = seen.table
    release = str(said.get("release", ""))
    labels = said.get("labels")
    cells = (
        seen.name,
        seen.state,
        f"{said.get('running', '?')}/{said.get('jobs', '?')}",
        said.get("waiting", "?"),
        said.get("load", ""),
        _ago(seen),
        release + ("*" if release != __version__ else ""),
        _clock(seen.clock_s),
        "" if seen.locks == roster.UNKNOWN else seen.locks,
        ",".join(map(str, labels)) if isinstance(labels, list) else "",
    )
    return tuple(words.show(cell) for cell in cells)


def _ago(seen: Seen) -> str:
    """For how long it has been alive, or how long ago it spoke last: by our clock, as well as that can be known."""
    since = seen.table.get("started_at") if seen.state == roster.ALIVE else None
    if since is not None and hasattr(since, "timestamp"):
        return f"for {words.duration(max(0.0, time.time() + (seen.clock_s or 0.0) - since.timestamp()))}"
    if seen.state == roster.ALIVE or seen.said_at_s is None:
        return ""
    return f"{words.duration(max(0.0, time.time() - seen.said_at_s))} ago"


def _clock(clock_s: float | None) -> str:
    if clock_s is None:
        return ""
    return "same" if abs(clock_s) < CLOCK_S else f"{'+' if clock_s > 0 else ''}{words.duration(clock_s)}"


def _remarks(seen: Seen) -> list[str]:
    name = words.show(seen.name)
    found = []
    if not seen.table:
        found.append(f"the entry of `{name}` cannot be read; a worker of that name writes it anew")
    schema = seen.table.get("schema", 1)
    if isinstance(schema, int) and schema > common.SCHEMA:
        found.append(
            f"`{name}` says schema {schema}: it is of a newer release, and what this one does not know is not shown"
        )
    if seen.state == roster.UNKNOWN:
        found.append(
            f"`{name}`: {seen.how}; `--watch {words.duration(roster.SILENT_BEATS * seen.beat_s).replace(' ', '')}` tells"
        )
    return found


def _abandoned(places: Layout, found: list[Seen]) -> list[str]:
    """Say of each silent node with jobs what becomes of them."""
    silent = [(seen, roster.records_of(places, seen.name)) for seen in found if seen.state == roster.SILENT]
    nodes = [workers.Node(seen.name, seen.table, is_serving=seen.state == roster.ALIVE) for seen in found]
    return [
        f"`{words.show(seen.name)}` is silent and left {words.counted(len(left), 'running job')}: "
        f"{rescue.prospect(places, left[0], seen.name, nodes)}"
        for seen, left in silent
        if left
    ]


def _may_be_taken_over(seen: Seen, kind: str) -> bool:
    return kind == "shared" and seen.locks == "shared"


def _table(seen: Seen, kind: str) -> dict[str, object]:
    said = {key: tables.plain(value) for key, value in seen.table.items() if key not in ("schema", "node", "state")}
    at = seen.said_at_s
    return {
        "node": seen.name,
        "state": seen.state,
        "how": seen.how,
        "worker_state": seen.table.get("state"),
        "said_ago_s": None if at is None else round(max(0.0, time.time() - at), 3),
        "clock_s": None if seen.clock_s is None else round(seen.clock_s, 3) + 0.0,  # never -0.0
        "is_other_release": seen.table.get("release") != __version__,
        "locks": seen.locks,
        "may_be_taken_over": _may_be_taken_over(seen, kind),
        **{key: value for key, value in said.items() if key not in ("how", "locks")},
    }


def _forget(places: Layout, options: argparse.Namespace) -> int:
    """Remove what a node that is gone left in `.spool/nodes/` and `.spool/proofs/`."""
    from spooldadd import proof  # late: few forget one, and it brings along what writes

    node = options.forget
    if names.safe_name(node) != node or not os.path.lexists(os.path.join(places.nodes, f"{node}.toml")):
        raise SpooldaddError(f"`{node}` has no entry in `{places.nodes}`; `spooldadd nodes` shows those that have")
    beat_s = roster.look(places, 0.0, node)[0].beat_s
    watch_s = roster.SILENT_BEATS * beat_s if options.watch is None else options.watch
    seen = roster.look(places, watch_s, node)[0]
    if seen.state == roster.ALIVE:
        raise SpooldaddError(f"`{node}` is alive: {seen.how}; stop its worker first")
    if seen.state == roster.UNKNOWN:
        raise SpooldaddError(
            f"`{node}` may be alive: {seen.how}; `--watch {roster.SILENT_BEATS * beat_s:g}s` looks for longer"
        )
    left = roster.records_of(places, node)
    if left:
        remedy = f"`spooldadd recover --node {node}` brings them back"
        raise SpooldaddError(
            f"`{node}` still has {words.counted(len(left), 'record')} in `{places.running}`: {left[0]}; {remedy}"
        )
    proof.forget(places, node)
    # The entry last: while it is there, this can be repeated.
    for path in (f"{places.proofs}/{node}.toml", f"{places.nodes}/{node}.lock", f"{places.nodes}/{node}.toml"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    if options.json:
        common.print_json({"spool": places.root, "forgotten": node})
    else:
        common.say(f"spooldadd: `{node}` is forgotten; a worker of that name may come at any time")
    return 0
