"""Bring back what a dead worker or node left behind.

Looks once at every record in `running/`, as each worker does at its start and every half minute, and says what it found.
Jobs that run are left alone. With `--node`, on your word that this node is dead, its jobs are brought back too: it may
still run them, if it is not. Refused while the node's heartbeat moves.

examples:
  spooldadd recover
  spooldadd recover --node web-3                 # watches its heartbeat for half a minute first
  spooldadd recover --node web-3 --force-dead    # does not watch it
"""

from __future__ import annotations

import argparse
import time

from spooldadd import names, nodes, recovery, spool
from spooldadd.cli import choosing, moments
from spooldadd.cli.common import add_json, print_json, say, spool_path
from spooldadd.cli.worker_command import holder
from spooldadd.errors import SpooldaddError
from spooldadd.launching import read_policy
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.notices import Notices
from spooldadd.recovery import Found

# A worker beats every 10 s (`worker.BEAT_S`): three of them, so that one late beat does not make it dead.
WATCH_S = 30.0
LOOK_S = 0.5
SENTENCES = {
    Found.RUNNING: "runs; left alone",
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
        default=WATCH_S,
        help="with --node: how long to watch its heartbeat (default: 30s)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Recover once."""
    root = spool_path(options)
    config = choosing.config_of(options, root)
    the_spool = spool.open_spool(root, holder(config.node))
    if options.node and not options.force_dead:
        refuse_living(the_spool.places, options.node, options.watch)
    log = Log(2, level="warning")
    note = Notices(the_spool, config, log).leave
    work_root = the_spool.work_root(config.work_dir)
    context = recovery.Context(the_spool, log, read_policy, work_root, note=note, dead_node=options.node)
    found = recovery.recover_all(context)
    locks = recovery.remove_stale_locks(context)
    if options.json:
        records = [{"record": name, "job": _job(name), "found": what.value} for name, what in found.items()]
        print_json({"spool": root, "records": records, "stale_locks": locks})
        return 0
    for name, what in found.items():
        print(f"{name}  {SENTENCES[what]}")
    if not found:
        say("spooldadd: `running/` is empty; there is nothing to bring back")
    return 0


def refuse_living(places: Layout, node: str, watch_s: float) -> None:
    """Watch the heartbeat of a node that is said to be dead. Raises: SpooldaddError where it moves."""
    before = nodes.read_all(places).get(node)
    if before is None:
        say(f"spooldadd: the node `{node}` has never served this spool, or its file is gone")
        return
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
