"""Plans of drops that nobody has claimed yet, for supervisors that claim by themselves: only of the simplest kind.

A plan that depends on more than the bytes of its spec and the configuration is made when its job is claimed.

Nothing is held here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from spooldadd import claiming, forms, intake, names
from spooldadd.backlog import Entry
from spooldadd.config import Config
from spooldadd.launching import FAULTS, Launching
from spooldadd.mail.wishes import lacks_transport
from spooldadd.placement import NOTHING
from spooldadd.plan import to_table
from spooldadd.reading import Unreadable, read
from spooldadd.spec import InvalidSpec
from spooldadd.spec.plain import is_plain
from spooldadd.spool import Claim, Spool

# A plan goes with the bytes of its spec to a supervisor, several in one packet.
MOST_BYTES = 2048


class Ahead(NamedTuple):
    """The record that a drop would become, its plan as a table, what its file is told by, and its bytes."""

    record: str
    table: dict[str, object]
    signature: intake.Signature
    data: bytes


def plan_ahead(the_spool: Spool, config: Config, launching: Launching, entry: Entry) -> Ahead | None:
    """Plan a drop that nobody has claimed yet; None where its claim is not of the simplest kind. Raises: OSError."""
    if entry.is_record or "/" in entry.key or entry.needs != NOTHING or not entry.key.endswith(forms.TOML):
        return None
    if entry.queue in config.queues or config.trust.demand(entry.queue) != "no":
        return None
    path = os.path.join(the_spool.places.root, entry.key)
    found = intake.look(path)
    if found is None or found.writer or found.fault or launching.objection(found, MOST_BYTES):
        return None
    if found.status.st_mtime != entry.since_s:
        return None
    at_s = found.status.st_ctime  # a rename into the root has set it: see `spool`
    name = names.RecordName(the_spool.job_of(entry.key, entry.name, at_s), 1, names.random_part())
    record_path = os.path.join(the_spool.places.running, str(name))
    claimed = Claim(name, record_path, -1, entry.queue, at_s, at_s, entry.key)
    data = found.data or b""
    table = launching.repeats.table(data, claimed, launching.work_root)
    if table is None:
        table = _new_table(config, launching, (claimed, found, path))
    return None if table is None else Ahead(claimed.record, table, claiming.signature(found.status), data)


def _new_table(config: Config, launching: Launching, came: tuple[Claim, intake.Look, str]) -> dict[str, object] | None:
    """Return the plan of bytes that were not planned ahead before; None where more goes into it than these bytes."""
    claimed, found, path = came
    data = found.data or b""
    plain = None if launching.notices.is_on else _plain(data)  # who is told of a job depends on its name and its queue
    if plain is not None:
        shaped = launching.repeats.of_shape(plain, claimed, launching.work_root)
        if shaped is not None:
            return shaped if shaped["queue"] == claimed.queue else None
    try:
        spec, plan = launching.planned(claimed, found, path, None)
    except (InvalidSpec, *FAULTS):
        return None  # whoever claims it says what is wrong
    if not launching.repeats.knows(data) or plan.queue != claimed.queue:
        return None
    launching.complete(plan, spec)
    table = to_table(plan)
    if plain is not None:
        launching.repeats.keep_shape(plain, table)
    if not plan.telling.on and lacks_transport(config, spec) is None:
        launching.repeats.keep_table(data, table)
    return table


def _plain(data: bytes) -> dict[str, object] | None:
    """Return the data of a spec that is right without the models, or None."""
    try:
        _, table = read(data, "", max_bytes=MOST_BYTES)
    except Unreadable:
        return None
    return table if is_plain(table) else None
