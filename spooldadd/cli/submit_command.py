"""Validate specs and drop them into the spool.

Every file is checked before the first is dropped: with one error in one of them, nothing is. What the options change is
written into the dropped spec; without any, the file is dropped as it is. Local files that a spec names go with it, in a
bundle, so what is edited afterwards does not run. Prints one job id a line.

With `--wait` it ends when the jobs have, and exits as the job did: with its exit code, 124 for a timeout, 128+n for a
signal, 1 for any other failure, 5 where `--timeout` passes first. Of several jobs the first that failed decides.

examples:
  spooldadd submit nightly.toml
  spooldadd submit nightly.toml --var day=2026-11-20 --queue etl --priority 5
  spooldadd submit specs/*.toml --not-before 2h
  spooldadd submit nightly.toml --node web-3     # for this node alone
  spooldadd submit backfill.py -- --day 2026-11-20   # a script with inline metadata, and its arguments
  spooldadd submit nightly.toml --var day=2026-11-20 --sign   # freeze, then sign: see `spooldadd sign`
  spooldadd submit nightly.toml --wait --timeout 1h && echo loaded
  spooldadd submit nightly.toml --follow         # show what it prints, exit as it does
  generate-spec | spooldadd submit - --name report
"""

from __future__ import annotations

import sys

from spooldadd import names, submitting
from spooldadd.cli import moments, sealing, spec_files
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.cli.plain import unfit
from spooldadd.inspect import tables
from spooldadd.inspect.opening import open_places
from spooldadd.layout import Layout
from spooldadd.preparing import Prepared
from spooldadd.submitting import PartlyDropped

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

TAKES_ARGUMENTS = True  # behind `--`, for a script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    spec_files.add_arguments(parser)
    spec_files.add_changes(parser)
    parser.add_argument(
        "--node", metavar="NAME", type=_node_name, help="only this node may run the jobs: they go into its inbox, `@NAME/`"
    )
    parser.add_argument("--sign", action="store_true", help="sign what is dropped with an ssh key, its files included")
    sealing.add_arguments(parser)
    parser.add_argument("--hold", action="store_true", help="hold the jobs until `spooldadd release`")
    parser.add_argument("--wait", action="store_true", help="wait for the end, and exit as the job did")
    parser.add_argument("--timeout", metavar="TIME", type=moments.duration, help="wait no longer than this")
    parser.add_argument("--follow", action="store_true", help="wait, and show what the jobs print meanwhile")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check all, drop all, wait where asked."""
    is_waiting = options.wait or options.follow
    _refuse_contradictions(options, is_waiting=is_waiting)
    places = open_places(spool_path(options))
    _refuse_unlisted(places, options.node)
    prepared = _prepare(options, places)
    if prepared is None:
        return 1
    jobs = _drop(places, prepared, options)
    if not (options.json and is_waiting):
        _say_dropped(options, places, prepared, jobs)
    if not options.hold:
        _warn_if_unserved(places, prepared, options.node)
    if not is_waiting:
        return 0
    sys.stdout.flush()  # whoever reads the ids may want to act on them while we wait
    from spooldadd.cli import waiting  # late: only some submitters wait

    return waiting.wait_for(places, jobs, waiting.Wish.of(options))


def _refuse_contradictions(options: argparse.Namespace, *, is_waiting: bool) -> None:
    if options.hold and is_waiting:
        raise UsageError("`--hold` keeps the jobs from being started, so there is nothing to wait for")
    if options.timeout is not None and not is_waiting:
        raise UsageError("`--timeout` says how long to wait; use it with `--wait` or `--follow`")
    if (options.key or options.expires) and not options.sign:
        raise UsageError("`--key` and `--expires` say how to sign; use them with `--sign`")
    if options.follow and options.json:
        raise UsageError("`--follow` prints what the jobs print; use `--wait` with `--json`")


def _prepare(options: argparse.Namespace, places: Layout) -> list[Prepared] | None:
    """Return all specs, or None after saying everything that is wrong with any of them."""
    reads = spec_files.read_all(options.specs, spec_files.changes_of(options), places.root)
    prepared = [read.prepared for read in reads if read.prepared is not None]
    if len(prepared) < len(reads):
        if options.json:
            print_json({"jobs": [], "files": [read.table() for read in reads]})
        sys.stderr.write("".join(read.render() for read in reads))
        say("spooldadd: nothing was dropped")
        return None
    for one in prepared:
        for warning in one.warnings:
            say(f"spooldadd: {one.source}: {warning}")
    return sealing.signed(prepared, options) if options.sign else prepared


def _refuse_unlisted(places: Layout, node: str | None) -> None:
    """The nodes of a synced spool are a fixed list; a drop for any other would wait for ever."""
    table = tables.read(places.format) or {}
    nodes = table.get("nodes")
    if node is not None and table.get("kind") == "synced" and isinstance(nodes, list) and node not in nodes:
        raise UsageError(f"`{node}` is none of the nodes of this synced spool: {', '.join(map(str, nodes))}")


def _drop(places: Layout, prepared: list[Prepared], options: argparse.Namespace) -> list[str]:
    sync = _must_last(places)
    try:
        return submitting.drop_all(places, prepared, sync=sync, is_held=options.hold, node=options.node)
    except PartlyDropped as error:
        for job in error.jobs:
            print(job)
        say(f"spooldadd: {len(error.jobs)} of {len(prepared)} specs were dropped before the spool failed")
        raise


def _must_last(places: Layout) -> bool:
    """Read from the format alone: the module that owns it brings locks along, which takes a fifth of our time."""
    return (tables.read(places.format) or {}).get("durability", "power") == "power"


def _say_dropped(options: argparse.Namespace, places: Layout, prepared: list[Prepared], jobs: list[str]) -> None:
    if not options.json:
        sys.stdout.write("".join(f"{job}\n" for job in jobs))
        return
    pairs = zip(prepared, jobs, strict=True)
    dropped = [{"job": job, "name": one.name, "queue": one.queue, "file": one.source} for one, job in pairs]
    print_json({"spool": places.root, "jobs": dropped})


def _warn_if_unserved(places: Layout, prepared: list[Prepared], node: str | None) -> None:
    sentence = submitting.unserved(places, {one.suffix for one in prepared}, node)
    if sentence:
        say(f"spooldadd: {sentence}")
        return
    for one in prepared:
        if one.is_placed:
            _warn_if_unplaced(places, one, node)


def _warn_if_unplaced(places: Layout, prepared: Prepared, node: str | None) -> None:
    """Say so where none of the nodes that are known would ever take it, or not the one that is to."""
    from spooldadd.inspect import placing, workers  # late: few specs say where they may run

    found = [one for one in workers.all_nodes(places) if node in (None, one.name)]
    never = [(one.name, placing.offer_of(one, prepared.spec.place.place())) for one in found]
    if never and all(objections for _, objections in never):
        first, objections = never[0]
        more = f", nor would any other of the {len(never)} nodes that are known" if len(never) > 1 else ""
        say(f"spooldadd: {prepared.source}: node `{first}` will not take it: {objections[0].sentence}{more}")


def _node_name(value: str) -> str:
    if value != names.safe_name(value):
        raise unfit(f"`{value}` is no node name: letters, digits, `.`, `_` and `-` only")
    return value
