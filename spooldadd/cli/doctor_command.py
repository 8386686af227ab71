"""Examine a spool and this node.

Looks at the directories, owners and modes, tries out what the file system really does, looks for what nobody runs or looks
at, and at what this machine allows. Changes nothing. Exit 1 where something keeps the spool from working; a warning is
something that may do harm, or that somebody may have forgotten.

With `--peer`, find out what the directory can do between two: whether a rename has one winner, whether locks keep others
out, after how long each sees what the other did. The peer is another path to the same spool, or the name of another node,
whose worker answers; where none serves there, run the command on both nodes at the same time. What was seen is written into
the spool, in `.spool/proofs/`, and workers act on it.

examples:
  spooldadd doctor
  spooldadd doctor /srv/spool
  spooldadd doctor --json
  spooldadd doctor /mnt/spool --peer /mnt/again/spool
  spooldadd doctor /mnt/spool --peer web-2
  sudo spooldadd doctor /srv/spool --restart     # restarts the service, and shows that a job lives through it
"""

from __future__ import annotations

import os
import time

from spooldadd import mark, names, permission, spool, writers
from spooldadd.cli import choosing, moments
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.config import Config, load
from spooldadd.doctor import FAIL, OK, WARN, Check, Subject, examine, peer, service
from spooldadd.errors import ConfigError
from spooldadd.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--restart", action="store_true", help="restart the worker's service while a probe job runs")
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the spool (default: --spool)")
    parser.add_argument("--peer", metavar="DIR|NODE", help="try the spool with another mount, or with another node")
    parser.add_argument(
        "--timeout",
        type=moments.duration,
        metavar="D",
        default=peer.MEET_S,
        help="how long to wait for the node (90s)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Examine, and say what was found."""
    root = spool_path(options, options.directory)
    if options.restart:
        return _tell(options, root, list(service.prove_restart(Layout(root))))
    if mark.is_common(root):
        permission.require_root(spool.open_spool(root))
    writers.ignore_lease_breaks()
    config, about_config = _config(options, root)
    found = None
    if options.peer is None:
        checks = [about_config, *examine(Subject(Layout(root), config, time.time()))]
    else:
        _refuse_no_peer(options.peer, config.node)
        found = peer.examine_with(root, config.node, options.peer, options.timeout)
        checks = [about_config, *found.checks]
    if options.json:
        more = {} if found is None else {"peer": found.table()}
        print_json({"spool": root, "checks": [check.table() for check in checks], **more})
    else:
        _print(checks)
    return int(any(check.status == FAIL for check in checks))


def _refuse_no_peer(word: str, own: str) -> None:
    """Refuse at once what can never answer. Raises: UsageError."""
    if peer.is_directory(word):
        return
    if word != names.safe_name(word):
        raise UsageError(f"`{word}` is no node name, and a directory is written with a slash: `--peer ./DIR`")
    if word == own:
        raise UsageError(
            f"`{own}` is this node itself: name another one, or another path to the spool; where two have one name, "
            "give this one another: `node` in the configuration, or `SPOOLDADD_NODE`"
        )
    if os.path.isdir(word):
        say(f"spooldadd: `{word}` is taken for the name of a node; a directory is written with a slash: `--peer ./{word}`")


def _tell(options: argparse.Namespace, root: str, checks: list[Check]) -> int:
    if options.json:
        print_json({"spool": root, "checks": [check.table() for check in checks]})
    else:
        _print(checks)
    return int(any(check.status == FAIL for check in checks))


def _config(options: argparse.Namespace, root: str) -> tuple[Config, Check]:
    """Return the configuration; where it cannot be used, the defaults, so that everything else is examined all the same."""
    try:
        config = choosing.config_of(options, root)
    except ConfigError as error:
        remedy = "`spooldadd config` shows every error with its place"
        return load(None, environ={"HOME": os.environ.get("HOME", "")}), Check("configuration", FAIL, str(error), remedy)
    if config.warnings:
        remedy = "remove it, or correct its name; `spooldadd config --example` lists the keys"
        return config, Check("configuration", WARN, "; ".join(config.warnings), remedy)
    return config, Check("configuration", OK, f"it can be used; this node is `{config.node}`, {config.jobs} jobs at once")


def _print(checks: list[Check]) -> None:
    width = max(len(check.check) for check in checks)
    for check in checks:
        print(f"{check.status:<4}  {check.check:<{width}}  {check.sentence}")
        if check.remedy:
            print(f"      {'':<{width}}  = {check.remedy}")
    counts = {status: sum(check.status == status for check in checks) for status in (OK, WARN, FAIL)}
    print(f"\n{counts[OK]} ok, {counts[WARN]} to look at, {counts[FAIL]} to mend")
