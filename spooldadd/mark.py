"""What marks a directory as a spool, and says how it is to be used: `.spool/format.toml`. Also: making a spool.

If we die here: `create` is repeated and completes what is missing; the mark is written last.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from spooldadd import durable, filesystem, layout, names, tomltext
from spooldadd.errors import NotASpool, SpoolError

FORMAT = 1
DURABILITIES = ("power", "process")
LOCAL, SHARED, SYNCED = "local", "shared", "synced"
KINDS = (LOCAL, SHARED, SYNCED)


@dataclass(frozen=True)
class Format:
    """What `.spool/format.toml` says."""

    durability: str = "power"
    kind: str = LOCAL
    id: str = ""  # tells the spools of one node apart, wherever they are mounted
    nodes: tuple[str, ...] = ()  # of a synced spool: all nodes that serve it, the same list on each
    many_users: bool = False  # everybody on the machine may drop into it, and a worker of root runs it


def create(
    root: str,
    *,
    durability: str = "power",
    kind: str | None = None,
    nodes: Sequence[str] = (),
    many_users: bool = False,
) -> None:
    """Make a spool, or complete one. Without a kind: shared where other machines may write there. Raises: SpoolError."""
    places = layout.Layout(root)
    try:
        complete(places)
        if not os.path.lexists(places.format):
            if kind is None:
                kind = SHARED if filesystem.is_network(filesystem.kind(root)) else LOCAL
            identity = names.random_part() + names.random_part()
            table: dict[str, object] = {"format": FORMAT, "kind": kind, "durability": durability, "id": identity}
            if nodes:
                table["nodes"] = list(nodes)
            if many_users:
                table["many_users"] = True
            durable.write(places.format, tomltext.flat(table).encode(), sync=True)
    except OSError as error:
        raise SpoolError(f"cannot make a spool in `{root}`: {error.strerror} (`{error.filename}`)") from error


def complete(places: layout.Layout) -> None:
    """Make the directories of a spool that are missing: a sync tool may have left empty ones out. Raises: OSError."""
    for directory in (places.root, places.internal, places.locks, places.nodes):
        os.makedirs(directory, exist_ok=True)
    for state in layout.STATES:
        os.makedirs(places.state_directory(state), exist_ok=True)


def read(root: str) -> Format:
    """Return what marks this directory as a spool. Raises: NotASpool, SpoolError."""
    path = layout.Layout(root).format
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        remedy = "is the share mounted? `spooldadd init` makes a new spool"
        raise NotASpool(f"`{root}` is not a spool: it has no `.spool/format.toml`; {remedy}") from error
    except OSError as error:
        raise SpoolError(f"`{path}` cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SpoolError(f"`{path}` is damaged: {error}") from error
    return _check(path, table)


def is_common(root: str) -> bool:
    """Tell whether this is a spool for many users; what is no spool is none."""
    try:
        return read(root).many_users
    except SpoolError:
        return False


def _check(path: str, table: dict[str, object]) -> Format:
    version = table.get("format")
    if version != FORMAT:
        raise SpoolError(f"`{path}` says format {version}; this release understands {FORMAT}: use a newer release")
    durability = table.get("durability", "power")
    if durability not in DURABILITIES:
        raise SpoolError(f"`{path}`: durability is `{durability}`; it must be `power` or `process`")
    kind = table.get("kind", LOCAL)
    if kind not in KINDS:
        raise SpoolError(f"`{path}`: kind is `{kind}`; it must be `local`, `shared` or `synced`")
    nodes = table.get("nodes", [])
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        raise SpoolError(f"`{path}`: nodes must be a list of node names")
    many_users = table.get("many_users", False)
    if not isinstance(many_users, bool) or (many_users and kind != LOCAL):
        raise SpoolError(f"`{path}`: many_users must be true or false, and is for local spools only")
    return Format(str(durability), str(kind), str(table.get("id", "")), tuple(nodes), many_users)
