"""Which names in the root of a spool and in its inboxes are specs that wait. Names only, but for Python files: their
beginning is looked at. A drop in an inbox is called by its key, `@web-3/nightly.toml`.

The same rules as `intake`, which is too heavy for a reader; a test holds the two together.
"""

from __future__ import annotations

import os

from spooldadd import forms, layout, names

SUFFIXES = forms.SUFFIXES
_CONFLICT_MARKS = (".sync-conflict-", "(conflicted copy", "_conflict-")
_TEMPORARY_STARTS = (".", "~", "#")


def is_drop(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Tell whether a name in the root is a spec's, held ones included."""
    bare = os.path.basename(name).removesuffix(layout.HELD_SUFFIX)
    if not bare.endswith(suffixes) or bare.startswith(_TEMPORARY_STARTS):
        return False
    return not is_conflict_copy(bare)


def is_conflict_copy(name: str) -> bool:
    """Tell whether a sync tool made this name for the loser of a conflict."""
    return any(mark in name for mark in _CONFLICT_MARKS)


def is_waiting(root: str, name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Tell whether a file in the root is a spec that waits. Opens Python files only: most of them are none."""
    return is_drop(name, suffixes) and forms.is_meant(os.path.join(root, name), layout.bare_name(name))


def keys(root: str, start: str = "") -> list[str]:
    """List the root, and every inbox in it, as keys that begin with this text. Only those in inboxes have a `/`."""
    found: list[str] = []
    for name in _entries(root):
        if name.startswith(start):
            found.append(name)
        if name.startswith(layout.INBOX) and layout.inbox_node(name):
            found += [key for entry in _entries(os.path.join(root, name)) if (key := f"{name}/{entry}").startswith(start)]
    return found


def in_inboxes(root: str, start: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """Return the keys of the specs that wait in inboxes and whose own names begin with this text."""
    found = [key for key in keys(root, layout.INBOX) if "/" in key and os.path.basename(key).startswith(start)]
    return [key for key in found if is_waiting(root, key, suffixes)]


def is_held(name: str) -> bool:
    """Tell whether the name says that the spec is held."""
    return name.endswith(layout.HELD_SUFFIX)


def carried_job_id(name: str) -> str | None:
    """Return the job id that a file name carries, as `spooldadd submit` gives it, or None."""
    bare = os.path.basename(name).removesuffix(layout.HELD_SUFFIX)
    return names.source_job_id(bare, os.path.splitext(bare)[1])


def job_name(name: str) -> str:
    """Return what a job of this file will be called, unless its spec says otherwise."""
    bare = os.path.basename(name).removesuffix(layout.HELD_SUFFIX)
    stem = os.path.splitext(bare)[0]
    return names.job_name(stem)


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
