"""Fetch finished records from other machines, and take in what they have sent.

The records of finished jobs, with their logs, are copied by rsync into `done/` and `failed/` of the spool at hand: only what
is new, and only whole. What was interrupted is gone on with. A NODE is a name from `[nodes]` in the configuration, or a
target as rsync writes it. They stay on their node unless `--delete` is given. Prints the id of each record that came.

Without a NODE, what nodes have sent by themselves (`[master]` in their configuration) is taken in. A worker on this spool
does so every few seconds, and every command that looks at jobs does, too.

Collecting again changes nothing. A record that came from elsewhere has a `manifest.toml`, which says from where.

examples:
  spooldadd collect web-1 web-2
  spooldadd collect --all --failed
  spooldadd collect --all --delete               # and remove there what has arrived here
  spooldadd collect jobs@web-3.example.org:/var/spool/spooldadd
  spooldadd collect                              # take in what nodes have sent
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from spooldadd import mark
from spooldadd.cli import choosing as choosing_jobs
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.layout import Layout
from spooldadd.remote import choosing, incoming
from spooldadd.remote.collecting import Collected, Collecting, Wish
from spooldadd.remote.targets import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# The disk here takes what a few bring; more would only wait for it.
AT_ONCE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("nodes", metavar="NODE", nargs="*", help="a name from `[nodes]`, or a target")
    parser.add_argument("--all", action="store_true", help="from every node of the configuration")
    parser.add_argument("--failed", action="store_true", help="only records of failed jobs")
    parser.add_argument("--delete", action="store_true", help="remove from the nodes what has arrived here")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Take in what lies ready, then fetch."""
    if options.all and options.nodes:
        raise UsageError(f"`--all` means every node of the configuration, so `{options.nodes[0]}` is too much")
    if not (options.all or options.nodes) and (options.failed or options.delete):
        raise UsageError("`--failed` and `--delete` go with nodes: name them, or use `--all`")
    root = spool_path(options)
    marked = mark.read(root)
    places = Layout(root, marked.id)
    arrivals = incoming.take_in_all(places, sync=marked.durability == "power", is_patient=True)
    for trouble in arrivals.troubles:
        say(f"spooldadd: {trouble}")
    came = [os.path.basename(took.path) for took in arrivals.news]
    if not options.json:
        _print(came)
    found = _fetch(options, places) if options.all or options.nodes else []
    if options.json:
        print_json({"spool": root, "arrived": came, "collected": [one.table() for one in found]})
    return int(bool(arrivals.troubles) or any(one.troubles for one in found))


def _fetch(options: argparse.Namespace, places: Layout) -> list[Collected]:
    """Raises: NoSuchNode; BadTarget; ConfigError."""
    config = choosing_jobs.config_of(options, places.root)
    words = [os.path.abspath(word) if os.path.isdir(word) and word not in config.nodes else word for word in options.nodes]
    targets = [choosing.target(config, word) for word in dict.fromkeys(words)] if words else choosing.every(config)
    rsync = choosing.rsync_of(config)

    is_over = threading.Event()  # an interrupt ends every rsync, too: that is no trouble of a node's

    def collect(target: Target) -> Collected:
        wish = Wish(target, is_failed_only=options.failed, is_deleting=options.delete)
        found = Collecting(rsync, places, wish, lambda done, of: _say_progress(target, done, of)).run()
        if not is_over.is_set():
            _say(found, is_json=options.json)
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(collect, targets))
        except KeyboardInterrupt:
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            say("spooldadd: interrupted; what was fetched is kept, and the next `collect` goes on from there")
            raise


def _say_progress(target: Target, done: int, of: int) -> None:
    """What is done at once needs no word on the way."""
    if done < of or sys.stderr.isatty():
        say(f"spooldadd: {target.name}: {done} of {of} records")


def _say(found: Collected, *, is_json: bool) -> None:
    for trouble in found.troubles:
        say(f"spooldadd: {found.target.shown}: {trouble}")
    if found.left:
        say(f"spooldadd: {found.target.shown}: {len(found.left)} went on there meanwhile, the next time brings them")
    if not is_json:
        _print(found.new)
        if not found.troubles:
            removed = f", {found.deleted} removed there" if found.deleted else ""
            say(f"spooldadd: {found.target.name}: {len(found.new)} new, {found.known} here already{removed}")


def _print(jobs: list[str]) -> None:
    sys.stdout.write("".join(f"{job}\n" for job in jobs))
    sys.stdout.flush()
