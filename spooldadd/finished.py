"""What a finished record shows to whoever walks thousands of them: its name, when and how it ended, how large it is.

Only reads. What goes away meanwhile is no error: it is not there.
"""

from __future__ import annotations

import datetime
import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass

from spooldadd import layout, names
from spooldadd.inspect import tables


@dataclass(frozen=True)
class Seen:
    """What tells one end of a job from another."""

    ended_s: float
    queue: str
    result: tuple[int, int, int]


def look(path: str) -> Seen | None:
    """Return how a record ended; None where it is no directory, or gone."""
    try:
        status = os.lstat(os.path.join(path, layout.RESULT))
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
    except NotADirectoryError:
        return None
    except OSError:
        seen = (0, 0, 0)
    table = tables.read(os.path.join(path, layout.RESULT)) or {}
    ended_at = table.get("finished_at")
    if isinstance(ended_at, datetime.datetime):
        ended_s = (ended_at if ended_at.tzinfo else ended_at.replace(tzinfo=datetime.UTC)).timestamp()
    else:  # damaged, or moved here by a person: since its last change
        try:
            status = os.lstat(path)
        except OSError:
            return None
        ended_s = max(status.st_ctime, status.st_mtime)
    return Seen(ended_s, str(table.get("queue", "default")), seen)


def records(directory: str) -> Iterator[str]:
    """Yield the names of records, in no order. By the places of the dots first: the full check is slow."""
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            name = entry.name
            if name[-7:-5] == "Z." and name[-23:-22] == "." and name[0] != "." and names.parse_job_id(name):
                yield name


def oldest(directory: str, most: int, after: tuple[str, str], until: str) -> tuple[list[tuple[str, str]], int]:
    """Return the next records by the time in their ids, none later than `until`; and how many there are of all times."""
    total = 0

    def keys() -> Iterator[tuple[str, str]]:
        nonlocal total
        for name in records(directory):
            total += 1
            key = (name[-22:-6], name)
            if after < key and key[0] <= until:
                yield key

    found = heapq.nsmallest(most, keys())
    return found, total


def size_of(path: str) -> int:
    """Return the bytes in a directory's files; links are not followed."""
    total, todo = 0, [path]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
