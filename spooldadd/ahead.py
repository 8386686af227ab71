"""Plans of drops that nobody has claimed yet, for supervisors that claim by themselves: only of the simplest kind.

A plan that depends on more than the bytes of its spec and the configuration is made when its job is claimed.

Nothing is held here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from spooldadd import claiming, forms, intake, looking, names
from spooldadd.backlog import Entry
from spooldadd.config import Config
from spooldadd.launching import FAULTS, Launching
from spooldadd.mail.wishes import lacks_transport
from spooldadd.placement import NOTHING
from spooldadd.plan import to_table
from spooldadd.reading import Unreadable, read
from spooldadd.repeats import Table
from spooldadd.spec import InvalidSpec
from spooldadd.spec.plain import is_plain
from spooldadd.spool import Claim, Spool

# A plan goes with the bytes of its spec to a supervisor, several in one packet.
MOST_BYTES = intake.KEPT_BYTES


class Named(NamedTuple):
    """What a drop would be called as a job, and since when it is there."""

    job: names.JobId
    record: str
    submitted_at_s: float


class Ahead(NamedTuple):
    """The record that a drop would become, its plan, what its file is told by, and its bytes."""

    record: str
    table: Table
    signature: intake.Signature
    data: bytes


def plan_ahead(the_spool: Spool, config: Config, launching: Launching, entry: Entry) -> Ahead | None:
    """Plan a drop that nobody has claimed yet; None where its claim is not of the simplest kind. Raises: OSError."""
    key, queue = entry.key, entry.queue
    if entry.is_record or "/" in key or entry.needs != NOTHING or not key.endswith(forms.TOML):
        return None
    if queue in config.queues or config.trust.demand(queue) != "no":
        return None
    path = f"{the_spool.places.root}/{key}"
    found = _look(path, entry.data)
    if found is None or found.writer or found.fault or launching.objection(found, MOST_BYTES):
        return None
    status, data = found.status, found.data or b""
    if status.st_mtime != entry.since_s:
        return None
    at_s = status.st_ctime  # a rename into the root has set it: see `spool`
    of_job, token = names.random_parts()
    job = the_spool.job_of(key, entry.name, at_s, of_job)
    named = Named(job, f"{job}.1.{token}", at_s)
    table = launching.repeats.table(data, named, launching.work_root)
    if table is None:
        table = _new_table(config, launching, named, (found, path, entry))
    return None if table is None else Ahead(named.record, table, claiming.signature(status), data)


def _look(path: str, kept: bytes | None) -> looking.Look | None:
    """Look at a drop; where its bytes are kept and may be the same still, with one system call in place of five.

    Whoever claims it asks for a writer and reads it again, under the claim. Raises: OSError.
    """
    if kept is not None:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        if status.st_size == len(kept):
            return looking.Look(status, kept, None)
    return looking.look(path)


def _new_table(config: Config, launching: Launching, named: Named, came: tuple[looking.Look, str, Entry]) -> Table | None:
    """Return the plan of bytes that were not planned ahead before; None where more goes into it than these bytes."""
    found, path, entry = came
    data = found.data or b""
    plain = None if launching.notices.is_on else _plain(data)  # who is told of a job depends on its name and its queue
    if plain is not None:
        shaped = launching.repeats.of_shape(plain, named, launching.work_root)
        if shaped is not None:
            return shaped if shaped.own["queue"] == entry.queue else None
    record = names.parse_record_name(named.record)
    assert record is not None
    claimed = Claim(record, "", -1, entry.queue, named.submitted_at_s, named.submitted_at_s, entry.key)
    try:
        spec, plan = launching.planned(claimed, found, path, None)
    except (InvalidSpec, *FAULTS):
        return None  # whoever claims it says what is wrong
    if not launching.repeats.knows(data) or plan.queue != entry.queue:
        return None
    launching.complete(plan, spec, claimed)
    table = to_table(plan)
    if plain is not None:
        launching.repeats.keep_shape(plain, table)
    if plan.telling.on or lacks_transport(config, spec) is not None:
        return Table({}, table)
    launching.repeats.keep_table(data, table)
    return launching.repeats.table(data, named, launching.work_root)


def _plain(data: bytes) -> dict[str, object] | None:
    """Return the data of a spec that is right without the models, or None."""
    try:
        _, table = read(data, "", max_bytes=MOST_BYTES)
    except Unreadable:
        return None
    return table if is_plain(table) else None
