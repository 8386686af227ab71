"""What waits to be sent to the master, and what arrived damaged. Only reads, and loads little."""

from __future__ import annotations

import os

from spooldadd import layout
from spooldadd.baretime import datetime
from spooldadd.inspect import tables, words
from spooldadd.inspect.listing import entries
from spooldadd.layout import Layout

DAMAGED = "damaged"


def uploads(places: Layout) -> list[tables.Table]:
    """Return what each node's last upload noted: `node`, `to`, `waiting`, and while its master is away `away_since`."""
    names = [name for name in sorted(entries(places.upload)) if name.endswith(".toml")]
    found = (tables.read(os.path.join(places.upload, name)) for name in names)
    return [table for table in found if table is not None]


def damaged(places: Layout) -> list[str]:
    """Return the names of what arrived damaged and was put aside."""
    return sorted(entries(os.path.join(places.internal, DAMAGED)))


def waiting(table: tables.Table, now: datetime.datetime) -> str:
    """Say of one node how many records wait for its master, and why; empty where none waits for long."""
    since = table.get("away_since")
    if not isinstance(since, datetime.datetime):
        return ""
    count = table.get("waiting", 0)
    records = "1 record waits" if count == 1 else f"{count} records wait"
    away = words.duration(max(0.0, (now - since).total_seconds()))
    return f"{records} on node `{table.get('node')}` for the master `{table.get('to')}`, for {away}: {table.get('error')}"


def journeys(record: str) -> list[tuple[str, str]]:
    """Say where a record came from, which master has it, and where its spec went again; what does not apply is left out."""
    notes = (layout.MANIFEST, layout.UPLOADED, layout.RETURNED, layout.RETURNING)
    came, sent, back, leaving = (tables.read(os.path.join(record, name)) for name in notes)
    found = []
    if came:
        how = "it was sent from" if came.get("source") == "upload" else "it was collected from"
        found.append(("came from", f"{how} `{came.get('address') or came.get('node')}`, where it is `{came.get('job')}`"))
    if sent:
        found.append(("sent to", str(sent.get("to"))))
    if back:
        found.append(("sent back", f"to `{back.get('node')}`, as `{back.get('job')}`"))
    if leaving:
        where = f"to `{leaving.get('node')}`, as `{leaving.get('job')}`, or not: `spooldadd retry` finds out"
        found.append(("sent back", where))
    return found


def notices(places: Layout) -> list[str]:
    """Return a sentence for each node whose master is away, and one where something arrived damaged."""
    now = datetime.datetime.now(datetime.UTC)
    found = [sentence for table in uploads(places) if (sentence := waiting(table, now))]
    aside = damaged(places)
    if aside:
        found.append(f"{len(aside)} arrived damaged from other machines and lie in `.spool/{DAMAGED}/`; `spooldadd doctor`")
    return found
