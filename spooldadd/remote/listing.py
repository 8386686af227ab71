"""Look at a spool on another machine by rsync alone: the names in it, without copying anything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from spooldadd.remote.rsync import Rsync
from spooldadd.remote.targets import Target

_LINE = re.compile(r"(?P<mode>\S{10,11}) +(?P<size>[\d,.]+) (?P<at>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (?P<name>.+)\Z")


class Seen(NamedTuple):
    """One name: whether it is a directory, and what tells one version of a file from another, by the other side's clock."""

    is_directory: bool
    stamp: str


def names(rsync: Rsync, target: Target, patterns: Iterable[str]) -> dict[str, Seen]:
    """Return what is there of these patterns, as in rsync's filters; a directory on the way has to be one of them.

    Raises: Unreachable.
    """
    words = ["-r", "-8", "--list-only", *(f"--include={pattern}" for pattern in patterns), "--exclude=*"]
    return parse(rsync.copy([*words, target.at() + "/"], target).out)


def files(rsync: Rsync, target: Target, wanted: Iterable[str]) -> dict[str, Seen]:
    """Return which of these files are there. Raises: Unreachable."""
    return parse(rsync.copy(["-8", "--list-only", target.at() + "/", "."], target, names=map(str.encode, wanted)).out)


def parse(text: str) -> dict[str, Seen]:
    """Read what `rsync --list-only` prints."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            size = re.sub(r"\D", "", match["size"])
            found[match["name"]] = Seen(match["mode"].startswith("d"), f"{size} {match['at']}")
    return found
