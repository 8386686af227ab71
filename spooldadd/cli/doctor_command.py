"""Examine a spool and this node.

Looks at the directories, owners and modes, tries out what the file system really does, looks for what nobody runs or looks
at, and at what this machine allows. Changes nothing. Exit 1 where something keeps the spool from working; a warning is
something that may do harm, or that somebody may have forgotten.

examples:
  spooldadd doctor
  spooldadd doctor /srv/spool
  spooldadd doctor --json
"""

from __future__ import annotations

import argparse
import os
import time

from spooldadd import intake
from spooldadd.cli import choosing
from spooldadd.cli.common import add_json, print_json, spool_path
from spooldadd.config import Config, load
from spooldadd.doctor import FAIL, OK, WARN, Check, Subject, examine
from spooldadd.errors import ConfigError
from spooldadd.layout import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the spool (default: --spool)")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Examine, and say what was found."""
    root = spool_path(options, options.directory)
    intake.ignore_lease_breaks()
    config, about_config = _config(options, root)
    checks = [about_config, *examine(Subject(Layout(root), config, time.time()))]
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
