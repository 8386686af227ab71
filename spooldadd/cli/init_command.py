"""Make a spool, with a commented configuration and an example spec.

Running it again completes what is missing and changes nothing that is there.

examples:
  spooldadd init /srv/spool
  spooldadd init ~/spool --durability process    # survives killed processes, not power cuts; a third faster
  spooldadd init /mnt/share/spool --kind shared  # several nodes' workers on one directory
  spooldadd init /srv/jobs --many-users          # as root: everybody drops, each job runs as who dropped it
  spooldadd init ~/Sync/spool --kind synced --nodes alpha,beta    # then let it sync, and run `init` on each node once
"""

from __future__ import annotations

import os
from importlib.resources import files

from spooldadd import commons, durable, mark, names
from spooldadd.cli.common import UsageError, say
from spooldadd.cli.plain import unfit
from spooldadd.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="where to make it")
    parser.add_argument(
        "--durability", choices=mark.DURABILITIES, default="power", help="what a finished step survives (default: power)"
    )
    parser.add_argument(
        "--kind",
        choices=mark.KINDS,
        help="who may claim: this node only, several nodes on one directory, or copies that a tool keeps in step "
        "(default: shared on a network file system, else local)",
    )
    parser.add_argument(
        "--nodes",
        metavar="NAME,…",
        type=_node_names,
        default=(),
        help="of a synced spool: all nodes that will ever serve it, the same on each",
    )
    parser.add_argument(
        "--many-users",
        action="store_true",
        help="everybody on this machine may drop into it; a worker of root runs each job as who dropped it",
    )


def run(options: argparse.Namespace) -> int:
    """Make the spool."""
    root = os.path.abspath(options.directory)
    if options.kind == mark.SYNCED and not options.nodes:
        raise UsageError("a synced spool needs `--nodes`: each drop belongs to one node of that list")
    if options.nodes and options.kind != mark.SYNCED:
        raise UsageError("`--nodes` is for `--kind synced`; other spools are served by whoever starts a worker")
    if options.many_users:
        _require_root(options.kind)
    mark.create(root, durability=options.durability, kind=options.kind, nodes=options.nodes, many_users=options.many_users)
    places = Layout(root)
    if mark.read(root).many_users:
        commons.open_to_all(places)
    elif options.many_users:
        raise UsageError(f"`{root}` is a spool already, of another kind; make one for many users in another directory")
    _refuse_another_kind(root, options)
    _write_once(os.path.join(places.internal, "worker.toml"), "worker.toml")
    _write_once(os.path.join(places.internal, "example.toml"), "example.toml")
    if mark.read(root).kind == mark.SYNCED:  # also where only the copy of another node's mark was there
        _write_once(os.path.join(root, ".stignore"), "stignore")
        _write_once(os.path.join(root, ".rsync-filter"), "rsync-filter")
    say(f"`{root}` is a spool. Serve it:\n  spooldadd worker {root}\nand, elsewhere, drop a spec into it:")
    say(f"  cp {os.path.join(places.internal, 'example.toml')} {os.path.join(root, 'hello.toml')}")
    return 0


def _refuse_another_kind(root: str, options: argparse.Namespace) -> None:
    """A spool that is there keeps its kind and its list. Raises: UsageError where another one was asked for."""
    marked = mark.read(root)
    if options.kind not in (None, marked.kind):
        raise UsageError(
            f"`{root}` is a spool already, of the kind `{marked.kind}`; make one of the kind `{options.kind}` in another "
            f"directory, or stop all workers here and change `kind` in `{Layout(root).format}`"
        )
    if options.nodes and sorted(options.nodes) != sorted(marked.nodes):
        listed = ", ".join(f"`{name}`" for name in marked.nodes)
        raise UsageError(
            f"`{root}` is a synced spool of the nodes {listed} already; that list is fixed, the same in each copy"
        )


def _require_root(kind: str | None) -> None:
    if os.geteuid() != 0:
        raise UsageError("`--many-users` is for root, whose worker runs each job as the user who dropped it")
    if kind not in (None, mark.LOCAL):
        raise UsageError(f"`--many-users` is for a spool of one machine's own disk, not for `--kind {kind}`")


def _node_names(value: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    for name in found:
        if name != names.safe_name(name):
            raise unfit(f"`{name}` is no node name: letters, digits, `.`, `_` and `-` only")
    return found


def _write_once(path: str, template: str) -> None:
    if not os.path.lexists(path):
        text = files("spooldadd").joinpath("templates", template).read_text(encoding="utf-8")
        durable.write(path, text.encode(), sync=True)
