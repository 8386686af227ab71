"""Bring specs to the spools of other machines.

Every spec is checked and frozen as by `submit`, local files that it names included; then rsync copies them over ssh, with
the user's own configuration of ssh, to each node at once. A NODE is a name from `[nodes]` in the configuration, or a target
as rsync writes it: `[user@]host:/path`, or a directory. Prints a line for each job that arrived: the node and the job's id,
by which `spooldadd status` finds it there and, once it was collected, here.

With `--least-busy` the specs go to one node: the one that has the least to do in relation to its width, of those whose
worker lives. A node that allows nothing but rsync is watched for half a minute instead of asked.

Exit 1 where a spec did not arrive at every node; what arrived, stays. A node that is away for a moment is tried again.

examples:
  spooldadd push nightly.toml web-1 web-2
  spooldadd push nightly.toml --all --var day=2026-11-20
  spooldadd push specs/*.toml --least-busy
  spooldadd push train.toml --least-busy --labels gpu
  spooldadd push nightly.toml jobs@web-3.example.org:/var/spool/spooldadd
  spooldadd push nightly.toml web-1:/srv/spool/@web-2   # into the directory for one node of a spool that many share
  spooldadd push backfill.py web-1 -- --day 2026-11-20
  spooldadd push nightly.toml web-1 --wait && echo loaded
  spooldadd push nightly.toml web-1 --follow    # its output, as it is printed there; exits as the job did
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from spooldadd import forms, layout
from spooldadd.cli import moments, push_following, spec_files
from spooldadd.cli.common import UsageError, add_json, print_json, say
from spooldadd.cli.plain import Options
from spooldadd.config import Config
from spooldadd.preparing import Prepared
from spooldadd.remote import asking, choosing, pushing
from spooldadd.remote.asking import Standing
from spooldadd.remote.pushing import Delivery, Load
from spooldadd.remote.rsync import Rsync, Unreachable, own_words
from spooldadd.remote.targets import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

NOT_FOUND = 127  # what a shell says of a command
TAKES_ARGUMENTS = True  # behind `--`, for a script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "words", metavar="SPEC|NODE", nargs="+", help="files (`-` reads standard input), then nodes or targets"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="to every node of the configuration")
    which.add_argument(
        "--least-busy", action="store_true", help="to one node: of those that are named, else of all, the least busy one"
    )
    parser.add_argument("--labels", metavar="L,M", help="only to nodes that have all these labels")
    spec_files.add_variables(parser)
    spec_files.add_changes(parser)
    parser.add_argument("--wait", action="store_true", help="wait for the end on each node; exit 1 where a job failed")
    parser.add_argument(
        "--follow", action="store_true", help="of one job on one node: print its output; exit as the job did"
    )
    parser.add_argument("--timeout", metavar="TIME", type=moments.duration, help="wait no longer than this")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check all specs, choose the nodes, bring them there."""
    config = _config(options)
    specs, words = _told_apart(options.words, config)
    _refuse_contradictions(options, words)
    targets = _targets(options, config, words)
    prepared = _prepare(options, specs)
    if prepared is None:
        return 1
    rsync = choosing.rsync_of(config)
    chosen, standings = _chosen(options, rsync, targets)
    if chosen is None:
        return _nobody(options, standings)
    if options.follow:
        push_following.refuse_many(len(prepared), len(chosen))
    loads = [Load(one.source, one) for one in prepared]
    found = pushing.push_all(rsync, loads, chosen, lambda done: _say(done, is_json=options.json))
    if options.follow:
        return push_following.follow(rsync, found[0], options.timeout) if found[0].state == pushing.ARRIVED else 1
    is_whole = all(delivery.state == pushing.ARRIVED for delivery in found)
    ends = _wait(rsync, found, options) if options.wait else {}
    if options.json:
        tables = [{**one.table(), **({"ended": ends[one.job]} if one.job in ends else {})} for one in found]
        print_json({"pushed": tables, **({"asked": [one.table() for one in standings]} if standings else {})})
    return 0 if is_whole and all(end == "done" for end in ends.values()) else 1


def _config(options: argparse.Namespace) -> Config:
    """A spool is not needed; where one is named, its configuration holds. Raises: ConfigError."""
    from spooldadd.cli.configured import load_config

    root = getattr(options, "spool", None) or os.environ.get("SPOOLDADD_SPOOL")
    if root is None and os.path.exists(os.path.join(".spool", "format.toml")):
        root = os.getcwd()
    return load_config(Options(config=getattr(options, "config", None)), root)


def _told_apart(words: list[str], config: Config) -> tuple[list[str], list[str]]:
    """A node of the table is one, then what is a file or is called like a spec is one; a directory is a target."""
    specs, nodes = [], []
    for word in words:
        if word in config.nodes:
            nodes.append(word)
        elif word == spec_files.STDIN or os.path.isfile(word) or layout.bare_name(word).endswith(forms.SUFFIXES):
            specs.append(word)
        else:
            nodes.append(os.path.abspath(word) if os.path.isdir(word) else word)
    return specs, nodes


def _refuse_contradictions(options: argparse.Namespace, words: list[str]) -> None:
    if options.all and words:
        raise UsageError(f"`--all` means every node of the configuration, so `{words[0]}` is too much")
    if not (words or options.all or options.least_busy or options.labels):
        raise UsageError("name a node, or use `--all` or `--least-busy`")
    if options.timeout is not None and not (options.wait or options.follow):
        raise UsageError("`--timeout` says how long to wait; use it with `--wait` or `--follow`")
    if options.follow and options.json:
        raise UsageError("`--follow` prints what the job prints; use `--wait` with `--json`")


def _targets(options: argparse.Namespace, config: Config, words: list[str]) -> list[Target]:
    """Raises: NoSuchNode; BadTarget."""
    found = [choosing.target(config, word) for word in dict.fromkeys(words)] if words else choosing.every(config)
    return choosing.labelled(found, options.labels.split(",")) if options.labels else found


def _prepare(options: argparse.Namespace, specs: list[str]) -> list[Prepared] | None:
    """Return all specs, or None after saying everything that is wrong with any of them."""
    if not specs:
        raise UsageError("name a spec: a file that ends in `.toml`, `.py` or `.tar`, or `-` for standard input")
    reads = spec_files.read_all(specs, spec_files.changes_of(options))
    prepared = [read.prepared for read in reads if read.prepared is not None]
    if len(prepared) < len(reads):
        if options.json:
            print_json({"pushed": [], "files": [read.table() for read in reads]})
        sys.stderr.write("".join(read.render() for read in reads))
        say("spooldadd: nothing was pushed")
        return None
    for one in prepared:
        for warning in one.warnings:
            say(f"spooldadd: {one.source}: {warning}")
    return prepared


# -- choosing


def _chosen(options: argparse.Namespace, rsync: Rsync, targets: list[Target]) -> tuple[list[Target] | None, list[Standing]]:
    if not options.least_busy:
        return targets, []
    standings = asking.ask_all(rsync, targets)
    for one in standings:
        if one.how == asking.WATCHED:
            say(f"spooldadd: {one.target.shown} was watched, not asked: {one.why}")
        if one.trouble:
            say(f"spooldadd: {one.target.shown} is left out: {one.trouble}")
    best = asking.least_busy(standings)
    return (None if best is None else [best.target]), standings


def _nobody(options: argparse.Namespace, standings: list[Standing]) -> int:
    if options.json:
        print_json({"pushed": [], "asked": [one.table() for one in standings]})
    say("spooldadd: nothing was pushed: none of the nodes takes jobs now; name one to push there all the same")
    return 1


# -- telling


def _say(done: list[Delivery], *, is_json: bool) -> None:
    for delivery in done:
        if delivery.state != pushing.ARRIVED:
            what = "did not arrive at" if delivery.state == pushing.FAILED else "may or may not have arrived at"
            say(f"spooldadd: {delivery.source} {what} {delivery.target.shown}: {delivery.reason}")
        elif not is_json:
            print(f"{delivery.target.name} {delivery.job}", flush=True)


def _wait(rsync: Rsync, found: list[Delivery], options: argparse.Namespace) -> dict[str, str]:
    """Let each node's own `spooldadd wait` tell; return how each job ended, by its id."""
    arrived = [delivery for delivery in found if delivery.state == pushing.ARRIVED]
    with ThreadPoolExecutor(max(1, len(arrived))) as pool:
        ends = list(pool.map(lambda delivery: _end_of(rsync, delivery, options.timeout), arrived))
    for delivery, (end, said) in zip(arrived, ends, strict=True):
        if end == "unknown" or not options.json:
            say(f"spooldadd: {delivery.target.name}: {delivery.job} {said}")
    return {delivery.job: end for delivery, (end, _) in zip(arrived, ends, strict=True)}


def _remedy(delivery: Delivery, code: int) -> str:
    if code != NOT_FOUND:
        return ""
    return f", because `{delivery.target.command[0]}` is not found there: set `command` of the node in `[nodes]`"


def _end_of(rsync: Rsync, delivery: Delivery, timeout_s: float | None) -> tuple[str, str]:
    limit = ["--timeout", f"{timeout_s:g}s"] if timeout_s is not None else []
    try:
        answer = rsync.ask_patiently(delivery.target, "wait", delivery.job, *limit)
    except Unreachable as error:
        return "unknown", str(error)
    ends = {0: "done", 1: "failed", 5: "timeout"}
    if answer.code not in ends:
        return "unknown", f"cannot be waited for there ({own_words(answer)}){_remedy(delivery, answer.code)}; it goes on"
    said = (answer.out or answer.err).strip().removeprefix("spooldadd: ").removeprefix(delivery.job).strip()
    return ends[answer.code], said
