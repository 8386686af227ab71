"""Run a failed job again that came from another spool: its spec goes back to its node, or into the spool at hand, as a new
job.

The record stays where it is, as the history of what happened there; `returned.toml` in it says where its spec went and under
which id, so that nobody sends it twice without meaning to.

If we die here: the spec may be there without a word in the record; whoever sends it again runs it again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from spooldadd import durable, layout, names, record
from spooldadd.config import Config
from spooldadd.errors import SpooldaddError
from spooldadd.layout import Layout
from spooldadd.remote import choosing, manifest, pushing
from spooldadd.remote.manifest import Damaged, Manifest
from spooldadd.remote.targets import Target, parse
from spooldadd.submitting import drop_all
from spooldadd.tomltext import flat

HERE = "this spool"


class CannotReturn(SpooldaddError):
    """The person who asked must act: the spec was not sent; the message says why, and what can be done."""


@dataclass(frozen=True)
class Stored:
    """The spec of a record, as it was submitted."""

    name: str
    path: str

    @property
    def suffix(self) -> str:
        """The suffix that tells its form."""
        return os.path.splitext(self.path)[1]

    def write(self, fd: int) -> None:
        """Write it. Raises: OSError."""
        with open(self.path, "rb") as source:
            while part := source.read(1 << 20):
                durable.write_all(fd, part)


def arrived(path: str) -> Manifest | None:
    """Return the manifest of a record that came from another spool, None for one of our own. Raises: CannotReturn."""
    try:
        return manifest.read(path)
    except Damaged as error:
        raise CannotReturn(f"`{path}`: {error}; `retry --here` runs its spec in this spool") from error


def went_to(path: str) -> str:
    """Say where the spec of this record was sent already; empty where it was not."""
    table = record.read_table(os.path.join(path, layout.RETURNED))
    return f"{table.get('node')} as `{table.get('job')}`" if table is not None else ""


def send_back(config: Config, path: str, found: Manifest, *, sync: bool) -> str:
    """Send the spec of this record to the node that it came from; return the new job's id. Raises: CannotReturn."""
    target = _target(config, found)
    load = pushing.Load(path, _stored(path, found))
    (delivery,) = pushing.push(choosing.rsync_of(config), [load], target)
    if delivery.state != pushing.ARRIVED:
        raise CannotReturn(f"`{found.job}` was not sent back to {target.shown}: {delivery.reason}; `--here` runs it here")
    _note(path, {"node": target.name, "to": target.address, "job": delivery.job}, sync=sync)
    return delivery.job


def drop_here(places: Layout, path: str, found: Manifest, *, sync: bool) -> str:
    """Drop the spec of this record into the spool at hand; return the new job's id. Raises: SpoolError."""
    (job,) = drop_all(places, [_stored(path, found)], sync=sync)
    _note(path, {"node": HERE, "job": job}, sync=sync)
    return job


def _stored(path: str, found: Manifest) -> Stored:
    return Stored(names.job_name(found.job), layout.find_spec(path))


def _target(config: Config, found: Manifest) -> Target:
    """Return the node by the name that it was collected by, by its own, or by its address. Raises: CannotReturn."""
    for name in (found.source, found.node):
        if name in config.nodes:
            return choosing.target(config, name)
    if found.address:
        return parse(found.address)
    raise CannotReturn(
        f"`{found.job}` came from the node `{found.node}`, and the configuration does not say where that is: "
        f'add `{found.node} = {{ target = "host:/path" }}` to `[nodes]`, or use `--here`'
    )


def _note(path: str, table: dict[str, object], *, sync: bool) -> None:
    """What cannot be noted costs a note; the job is on its way."""
    text = flat({"schema": 1, **table, "returned_at": record.moment(time.time())})
    try:
        durable.write(os.path.join(path, layout.RETURNED), text.encode(), sync=sync)
    except OSError:
        pass
