"""Bring back what a dead worker or node left behind.

Looks once at every record in `running/`, as each worker does at its start and every half minute, and says what it found.
Jobs that run are left alone. With `--node`, on your word that this node is dead, its jobs are brought back too: it may
still run them, if it is not; then it finds that they are no longer its own, ends them, and files nothing. Refused while
the node's heartbeat moves.

On a spool that nodes share, workers do so by themselves where they have seen that locks reach from one node to the other;
where they may not, they say why in their log. Exits with 1 where a record could not be brought back.

examples:
  spooldadd recover
  spooldadd recover --node web-3                 # watches its heartbeat first, for half a minute at least
  spooldadd recover --node web-3 --force-dead    # does not watch it
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spooldadd import mark, names, nodes, peers, permission, recovery, spool
from spooldadd.cli import choosing, moments
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.cli.configured import holder
from spooldadd.errors import SpooldaddError
from spooldadd.identity import Identity
from spooldadd.inspect import roster
from spooldadd.launching import read_policy
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.notices import Notices
from spooldadd.recovery import Found
from spooldadd.takeover import Lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# A worker beats every 10 s: three of them, so that one late beat does not make it dead.
WATCH_S = 30.0
LOOK_S = 0.5
STRAYS_LOOK_S = 0.1
SENTENCES = {
    Found.RUNNING: "runs; left alone",
    Found.ENDING: "was lost; what it left running does not end yet: try again in a moment",
    Found.UNCLAIMED: "had never been claimed; removed",
    Found.FINISHED: "had ended; filed",
    Found.NEVER_STARTED: "had been claimed and never started; put back to `waiting/`",
    Found.LOST: "was lost; filed, or put back to `waiting/` where its spec says so",
    Found.FOREIGN: "belongs to another node; left alone",
    Found.GONE: "has just been filed by somebody else",
    Found.IN_TROUBLE: "cannot be brought back now; try again when what stands above is mended",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--node", metavar="NAME", help="bring back the jobs of this node too: it is dead")
    parser.add_argument("--force-dead", action="store_true", help="with --node: do not watch its heartbeat first")
    parser.add_argument(
        "--watch",
        metavar="TIME",
        type=moments.duration,
        help="with --node: how long to watch its heartbeat (default: 30s, or three of its heartbeats)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Recover once."""
    if options.node is None and (options.force_dead or options.watch is not None):
        raise UsageError("`--force-dead` and `--watch` are about a node that is dead: say which, `--node NAME`")
    root = spool_path(options)
    config = choosing.config_of(options, root)
    the_spool = spool.open_spool(root, holder(config.node))
    permission.require_root(the_spool)
    log = Log(2, level="warning")
    if options.node and not options.force_dead:
        refuse_synced(the_spool, options.node)
        refuse_living(the_spool.places, options.node, options.watch)
    notices = Notices(the_spool, config, log)
    context = recovery.Context(
        the_spool,
        log,
        read_policy,
        the_spool.work_root(config.work_dir),
        note=notices.leave,
        lost=_lost(options.node, config.node),
        is_own_boot=_own_boot(the_spool, log, options.node),
    )
    found = _recover(context)
    if options.node and notices.inherit(options.node):
        say(f"spooldadd: what `{options.node}` had not told yet of jobs that had ended, a worker of `{config.node}` tells")
    locks = recovery.remove_stale_locks(context)
    code = 1 if {Found.IN_TROUBLE, Found.ENDING} & set(found.values()) else 0
    if options.json:
        records = [{"record": name, "job": _job(name), "found": what.value} for name, what in found.items()]
        print_json({"spool": root, "records": records, "stale_locks": locks})
        return code
    for name, what in found.items():
        print(f"{name}  {SENTENCES[what]}")
    if not found:
        say("spooldadd: `running/` is empty; there is nothing to bring back")
    return code


def _lost(node: str | None, own: str) -> Callable[[str], Lost | None]:
    """Return whose records are brought back: this node's, and those of which nobody can say whose they are."""
    if node is None:
        return lambda _node: None
    words = f"`spooldadd recover` on `{own}` was told that its node `{node}` is dead"
    return lambda other: Lost(other, words) if other in (node, "") else None


def _own_boot(the_spool: spool.Spool, log: Log, node: str | None) -> Callable[[str], bool]:
    """Return whether a record of our name and of another boot is ours: looked into when there is one. Raises: NodeTaken."""
    identity = Identity(the_spool.places, the_spool.holder, log)
    is_asked = the_spool.format.kind != mark.SHARED or node == the_spool.holder.node

    def is_own_boot(_boot_id: str) -> bool:
        nonlocal is_asked
        if not is_asked:
            identity.settle(lambda: False)
            is_asked = True
        return True

    return is_own_boot


def _recover(context: recovery.Context) -> dict[str, Found]:
    """Recover every record; wait for what is left of a lost one to end."""
    found = recovery.recover_all(context)
    while True:
        ending = [name for name, what in found.items() if what is Found.ENDING]
        if not ending:
            return found
        time.sleep(STRAYS_LOOK_S)
        again = recovery.recover_all(context, skip=frozenset(found.keys() - set(ending)))
        found |= {name: again.get(name, Found.GONE) for name in ending}


def refuse_synced(the_spool: spool.Spool, node: str) -> None:
    """On a synced spool what is moved here, its node moves there, too. Raises: SpooldaddError."""
    if the_spool.format.kind == mark.SYNCED and node != the_spool.holder.node:
        raise SpooldaddError(
            f"`{the_spool.places.root}` is a synced spool: only `{node}` itself brings its jobs back, or both copies would "
            f"change. Run `spooldadd recover` there; where `{node}` will never come back, add `--force-dead`"
        )


def refuse_living(places: Layout, node: str, watch_s: float | None) -> None:
    """Watch the heartbeat of a node that is said to be dead. Raises: SpooldaddError where it moves.

    An entry that is not there may have been removed from under a living worker, which writes it again with its next beat; so
    where there are records of that node, it is waited for.
    """
    before = nodes.read_all(places).get(node)
    if before is None:
        say(f"spooldadd: the node `{node}` has never served this spool, or its file is gone")
        if not roster.records_of(places, node):
            return
        before = {}
    if watch_s is None:
        watch_s = max(WATCH_S, peers.LIVING_BEATS * peers.beat_s_of(before))
    deadline = time.monotonic() + watch_s
    remedy = "stop its worker first; `--force-dead` does not look"
    if not nodes.is_serving(places, node):
        say(f"spooldadd: watching the heartbeat of `{node}` for {watch_s:g} s")
    while True:
        if nodes.is_serving(places, node):
            raise SpooldaddError(f"a worker of `{node}` serves this spool now; {remedy}")
        now = nodes.read_all(places).get(node, before)
        if (now.get("heartbeat"), now.get("pid")) != (before.get("heartbeat"), before.get("pid")):
            raise SpooldaddError(f"the node `{node}` is alive: its heartbeat moves; {remedy}")
        if time.monotonic() >= deadline:
            return
        time.sleep(min(LOOK_S, max(0.0, deadline - time.monotonic())))


def _job(record: str) -> str | None:
    parsed = names.parse_record_name(record)
    return parsed.job if parsed else None
