"""Make sure that a directory is a spool before reading it."""

from __future__ import annotations

from spooldadd.inspect import tables
from spooldadd.layout import Layout

# What this reader knows. Where the file says anything else, the module that owns the format says what that means.
_FORMAT = 1


def open_places(root: str) -> Layout:
    """Return the paths of the spool in this directory.

    Raises: NotASpool where it is none; SpoolError where it is of a newer release or cannot be read.
    """
    places = Layout(root)
    if (tables.read(places.format) or {}).get("format") != _FORMAT:
        from spooldadd import mark  # late: needed to explain trouble only

        mark.read(root)
    return places
