"""Make a spool, with a commented configuration and an example spec.

Running it again completes what is missing and changes nothing that is there.

examples:
  spooldadd init /srv/spool
  spooldadd init ~/spool --durability process    # survives killed processes, not power cuts; a third faster
"""

from __future__ import annotations

import argparse
import os
from importlib.resources import files

from spooldadd import durable, spool
from spooldadd.cli.common import say
from spooldadd.layout import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="where to make it")
    parser.add_argument(
        "--durability", choices=spool.DURABILITIES, default="power", help="what a finished step survives (default: power)"
    )


def run(options: argparse.Namespace) -> int:
    """Make the spool."""
    root = os.path.abspath(options.directory)
    spool.create(root, durability=options.durability)
    places = Layout(root)
    _write_once(os.path.join(places.internal, "worker.toml"), "worker.toml")
    _write_once(os.path.join(places.internal, "example.toml"), "example.toml")
    say(f"`{root}` is a spool. Serve it:\n  spooldadd worker {root}\nand, elsewhere, drop a spec into it:")
    say(f"  cp {os.path.join(places.internal, 'example.toml')} {os.path.join(root, 'hello.toml')}")
    return 0


def _write_once(path: str, template: str) -> None:
    if not os.path.lexists(path):
        text = files("spooldadd").joinpath("templates", template).read_text(encoding="utf-8")
        durable.write(path, text.encode(), sync=True)
