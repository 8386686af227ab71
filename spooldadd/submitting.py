"""Put specs into a spool: each by one rename, under a name that carries its job's id.

A drop is written under a temporary name that holds the job's id, made durable, and renamed. The temporary name is made
exclusively, so of two submitters that draw one id only one looks whether the name behind it is free: no drop overwrites
another.

If we die here: a temporary name (`.tmp-…`) in the root, which no worker looks at; the doctor reports it when it is old.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from spooldadd import durable, forms, layout, names
from spooldadd.errors import SpecError, SpoolError
from spooldadd.layout import Layout

if TYPE_CHECKING:
    from spooldadd.inspect.workers import Node

# Two draws of one id within one second are a matter of 1 in 14 million; a hundred in a row are a broken random source.
MAX_DRAWS = 100


class PartlyDropped(SpoolError):
    """The spool failed on the way: `jobs` holds the ids of those that were dropped before, the others were not."""

    def __init__(self, message: str, jobs: list[str]) -> None:
        super().__init__(message)
        self.jobs = jobs


class Droppable(Protocol):
    """What can be dropped: a job's name, the suffix of its file, and what writes the file."""

    @property
    def name(self) -> str:
        """The name of the job."""

    @property
    def suffix(self) -> str:
        """The suffix that tells the form of the spec."""

    def write(self, fd: int) -> None:
        """Write the whole file. Raises: OSError; SpecError where what is to be written is no longer there."""


class Text(NamedTuple):
    """A spec that is at hand whole."""

    name: str
    data: bytes
    suffix: str = forms.TOML

    def write(self, fd: int) -> None:
        """Write it."""
        durable.write_all(fd, self.data)


# -- dropping


def drop(places: Layout, data: bytes, name: str, *, sync: bool) -> str:
    """Drop a TOML file as a new job of this name; return the job's id. `sync` makes it survive a power cut.

    Raises: SpoolError where the spool cannot be written; then nothing was dropped.
    """
    return drop_all(places, [Text(name, data)], sync=sync)[0]


def drop_all(
    places: Layout, specs: Iterable[Droppable], *, sync: bool, is_held: bool = False, node: str | None = None
) -> list[str]:
    """Drop specs in this order, into the inbox of a node where one is named; return the ids of their jobs.

    Raises: PartlyDropped, a SpoolError, with those that were dropped before the spool failed; SpecError where the first
    of them could not be written because of itself.
    """
    jobs: list[str] = []
    directory = places.root if node is None else os.path.join(places.root, layout.inbox(node))
    try:
        if node is not None:
            from spooldadd import inbox  # late: few drops are for one node, and it brings trust and log along

            inbox.make(places.root, layout.inbox(node))
        for spec in specs:
            jobs.append(_drop_one(places, directory, spec, is_held=is_held, sync=sync))
        if sync:
            durable.sync_directory(directory)
    except OSError as error:
        raise PartlyDropped(_trouble(places, error), jobs) from error
    except SpecError as error:
        if not jobs:
            raise
        raise PartlyDropped(str(error), jobs) from error
    return jobs


def _drop_one(places: Layout, directory: str, spec: Droppable, *, is_held: bool, sync: bool) -> str:
    suffix = spec.suffix + layout.HELD_SUFFIX if is_held else spec.suffix
    for _ in range(MAX_DRAWS):
        job = names.new_job_id(spec.name, time.time(), names.random_part())
        temporary = os.path.join(directory, f"{durable.TEMPORARY}{job}")  # without the suffix: one for all forms
        try:
            durable.write_new_by(temporary, spec.write, sync=sync, mode=0o600 if places.is_common else durable.FILE_MODE)
        except FileExistsError:
            continue
        try:
            if not _is_known(places, directory, job):
                os.rename(temporary, os.path.join(directory, job + suffix))
                return job
        except OSError:
            os.unlink(temporary)
            raise
        os.unlink(temporary)
    raise SpoolError(f"no free job id for `{spec.name}` in `{places.root}` after {MAX_DRAWS} draws")


def _is_known(places: Layout, directory: str, job: str) -> bool:
    """Tell whether this id is in use. Looks in the order in which a job moves, so none slips through while it moves on."""
    running = places.running
    for suffix in forms.SUFFIXES:
        if any(os.path.lexists(os.path.join(directory, job + suffix + held)) for held in ("", layout.HELD_SUFFIX)):
            return True
    if any(entry.startswith(f"{job}.") for entry in os.listdir(running)):
        return True
    return any(os.path.lexists(os.path.join(parent, job)) for parent in (places.waiting, places.done, places.failed))


def _trouble(places: Layout, error: OSError) -> str:
    where = os.fsdecode(error.filename2 or error.filename or places.root)
    return f"`{places.root}` cannot be written: {error.strerror} (`{where}`)"


# -- who will take it


def unserved(places: Layout, suffixes: Iterable[str] = (forms.TOML,), node: str | None = None) -> str | None:
    """Say that nobody takes files with one of these suffixes, or return None where somebody does, or we cannot know.

    With a node: that this one does not. Another node of a synced spool serves its own copy, which cannot be seen from here;
    to start a worker under its name on this copy would be two nodes of one name.
    """
    from spooldadd.inspect import workers  # late: `drop` alone does not ask

    found = [one for one in workers.all_nodes(places) if node in (None, one.name)]
    serving = [one for one in found if one.is_serving]
    refused = [suffix for suffix in suffixes if not any(_takes(one, suffix) for one in serving)]
    if not refused:
        return None
    who = "worker" if node is None else f"worker of node `{node}`"
    if serving:
        return f"no {who} of `{places.root}` takes `{refused[0]}` files, which is how what was submitted is called"
    if node is not None and _is_synced(places):
        return f"no {who} serves this copy of a synced spool; it runs when the copy of `{node}` has it and is served"
    option = "" if node is None else f" --node {node}"
    remedy = f"the job waits until one does: `spooldadd worker {places.root}{option}`"
    if not found:
        return f"no {who} has ever served `{places.root}`; {remedy}"
    from spooldadd import filesystem  # late: most spools are served

    if filesystem.is_network(filesystem.kind(places.root)):
        return None
    return f"no {who} serves `{places.root}` now; {remedy}"


def _is_synced(places: Layout) -> bool:
    from spooldadd import mark  # late: few drops are for one node

    return bool(mark.read(places.root).nodes)


def _takes(node: Node, suffix: str) -> bool:
    return not node.suffixes or suffix in node.suffixes
