"""Run a failed job again that came from another spool: its spec goes back to its node, or into the spool at hand, as a new
job.

The record stays where it is, as the history of what happened there; `returned.toml` in it says where its spec went and under
which id, so that nobody sends it twice without meaning to.

If we die here: `returning.toml`, which is written first, has the id under which the spec may be there. Whoever sends it
again looks there for that id, so it runs once. Where nobody could know whether it arrived, that file stays, too.
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


def may_be_at(path: str) -> str:
    """Say where the spec of this record may be already, because nobody heard whether it arrived; else empty."""
    table = _begun(path)
    return f"{table.get('node')} as `{table['job']}`" if table else ""


def send_back(config: Config, path: str, found: Manifest, *, sync: bool) -> str:
    """Send the spec of this record to the node that it came from; return the new job's id. Raises: CannotReturn."""
    target, spec = _target(config, found), _stored(path, found)
    begun = _begun(path)
    job = str(begun["job"]) if begun else pushing.new_id(spec.name)
    about: dict[str, object] = {"node": target.name, "to": target.address, "job": job}
    _note(path, layout.RETURNING, about, sync=sync)
    load = pushing.Load(path, spec, job, is_begun=begun is not None)
    (delivery,) = pushing.push(choosing.rsync_of(config), [load], target)
    if delivery.state == pushing.UNKNOWN:
        again = f"`spooldadd retry {os.path.basename(path)}` does that, and sends it only where it is not there"
        raise CannotReturn(f"`{found.job}` may or may not have been sent back to {target.shown}: {delivery.reason}; {again}")
    if delivery.state == pushing.ARRIVED:
        _note(path, layout.RETURNED, about, sync=sync)
    _forget(path)
    if delivery.state == pushing.FAILED:
        raise CannotReturn(f"`{found.job}` was not sent back to {target.shown}: {delivery.reason}; `--here` runs it here")
    return delivery.job


def drop_here(places: Layout, path: str, found: Manifest, *, sync: bool) -> str:
    """Drop the spec of this record into the spool at hand; return the new job's id. Raises: SpoolError."""
    (job,) = drop_all(places, [_stored(path, found)], sync=sync)
    _note(path, layout.RETURNED, {"node": HERE, "job": job}, sync=sync)
    _forget(path)  # who runs it here has decided what to make of a sending that nobody heard of
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


def _begun(path: str) -> dict[str, object] | None:
    """Return what was noted before the spec was sent, where nobody noted afterwards what came of it."""
    table = record.read_table(os.path.join(path, layout.RETURNING))
    return dict(table) if table is not None and names.parse_job_id(str(table.get("job"))) else None


def _forget(path: str) -> None:
    try:
        os.unlink(os.path.join(path, layout.RETURNING))
    except OSError:
        pass  # the next one looks there for the id, and finds what we know


def _note(path: str, file: str, table: dict[str, object], *, sync: bool) -> None:
    """What cannot be noted costs a note; the job is on its way."""
    text = flat({"schema": 1, **table, "returned_at": record.moment(time.time())})
    try:
        durable.write(os.path.join(path, file), text.encode(), sync=sync)
    except OSError:
        pass
