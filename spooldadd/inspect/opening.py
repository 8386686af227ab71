"""Make sure that a directory is a spool before reading it, and that what has arrived there is to be seen."""

from __future__ import annotations

import os

from spooldadd import layout
from spooldadd.inspect import tables
from spooldadd.layout import Layout

# What this reader knows. Where the file says anything else, the module that owns the format says what that means.
_FORMAT = 1


def open_places(root: str) -> Layout:
    """Return the paths of the spool in this directory.

    Raises: NotASpool where it is none; SpoolError where it is of a newer release or cannot be read.
    """
    places = Layout(root)
    table = tables.read(places.format) or {}
    if table.get("format") != _FORMAT:
        from spooldadd import mark  # late: needed to explain trouble only

        mark.read(root)
    places.is_common = table.get("many_users") is True
    _take_in(places)
    return places


def _take_in(places: Layout) -> None:
    """Take in records that nodes have sent, where no worker has yet: who looks is to see them (decision record 0042).

    One who may only read, or comes while another one is at it, sees what is there.
    """
    if not _has_arrivals(places.incoming):
        return
    from spooldadd.remote import incoming  # late: nothing has arrived nearly always, and it reads every file

    try:
        if incoming.whole(places):
            is_lasting = (tables.read(places.format) or {}).get("durability", "power") == "power"
            incoming.take_in_all(places, sync=is_lasting, is_patient=False)
    except OSError:
        pass


def _has_arrivals(directory: str) -> bool:
    try:
        origins = [name for name in os.listdir(directory) if not name.startswith(".")]
        return any(
            os.path.lexists(os.path.join(directory, origin, entry, layout.MANIFEST))
            for origin in origins
            for entry in os.listdir(os.path.join(directory, origin))
        )
    except OSError:
        return False
