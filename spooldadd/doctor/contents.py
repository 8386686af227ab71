"""Checks of what lies in a spool: what nobody runs, what nobody looks at, what keeps jobs from starting. Reads only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from spooldadd import claim, durable, forms, intake, layout, mark, names, nodes
from spooldadd.doctor.model import Check, Subject, counted, listed, ok, warned
from spooldadd.inspect import drops

# A claim or a filing takes milliseconds; on a hung network file system a minute.
YOUNG_S = 120.0
# Longer than any upload takes that somebody still waits for.
OLD_WRITE_S = 86400.0
# Clocks of two machines differ by seconds; a minute is a wrong clock or a wrong time zone.
FUTURE_S = 60.0
# Each is listed to find what a sync tool left in it; the newest are what a person still looks at.
MOST_RECORDS = 2000
# What tools keep in a directory on purpose.
KEPT = frozenset({layout.INTERNAL, layout.WAKE, ".stignore", ".stfolder", ".stversions", ".gitignore", ".rsync-filter"})


def check_running(subject: Subject) -> Iterator[Check]:
    """Has every record in `running/` a living process that holds its lease?"""
    orphans, strange = [], []
    entries = sorted(os.listdir(subject.places.running))
    for entry in entries:
        if names.parse_record_name(entry) is None:
            strange.append(entry)
        elif _is_left(subject, entry, os.path.join(subject.places.running, entry)):
            orphans.append(entry)
    if orphans:
        what = counted(len(orphans), "record in `running/` that nobody holds", "records in `running/` that nobody holds")
        remedy = "a worker of their node recovers them; `spooldadd recover` does it now, `--node` for a dead node"
        yield warned("running", f"{what}: {listed(orphans)}", remedy)
    if strange:
        yield warned("running", f"no record, and yet in `running/`: {listed(strange)}", "move it out of the spool")
    if not orphans and not strange:
        held = counted(len(entries), "record", "records")
        yield ok("running", f"{held} in `running/`, all held" if entries else "nothing runs")


def check_locks(subject: Subject) -> Iterator[Check]:
    """Are there lock files of records that are filed?"""
    stale = []
    for entry in sorted(os.listdir(subject.places.locks)):
        record = entry.removesuffix(".lock")
        path = os.path.join(subject.places.locks, entry)
        is_filed = not os.path.lexists(os.path.join(subject.places.running, record))
        if is_filed and names.parse_record_name(record) and _is_left(subject, record, path):
            stale.append(entry)
    if stale:
        what = counted(len(stale), "lock file without a record", "lock files without a record")
        yield warned("locks", f"{what}: {listed(stale)}", "they do no harm; workers remove them, or `spooldadd recover`")
    else:
        yield ok("locks", "no lock file is left over")


def check_names(subject: Subject) -> Iterator[Check]:
    """Are there files that a person may expect to be run, and that are not?"""
    suffixes = subject.config.intake.suffixes
    entries = [key for key in drops.keys(subject.root) if key not in layout.ROOT_ENTRIES and not layout.is_inbox(key)]
    conflicts = sorted(filter(intake.is_conflict_copy, entries))
    ignored = sorted(key for key in entries if _is_ignored(subject, key))
    if conflicts:
        what = counted(len(conflicts), "conflict copy", "conflict copies")
        yield warned("conflict-copies", f"{what} of a sync tool, never run: {listed(conflicts)}", "compare, then remove")
    if ignored:
        what = counted(len(ignored), "file that is", "files that are")
        remedy = f"rename specs to `…{suffixes[0]}`; a Python file is one with a line `{forms.OPENING}`"
        yield warned("ignored-names", f"{what} no spec: {listed(ignored)}", remedy)
    if not conflicts and not ignored:
        yield ok("names", "every file in the spool is one that somebody looks at")


def check_unfinished(subject: Subject) -> Iterator[Check]:
    """Are there temporary files that nobody can still be writing?"""
    old = []
    for name in sorted(set(drops.keys(subject.root)) - KEPT):
        path = os.path.join(subject.root, name)
        if _is_temporary(os.path.basename(name)) and _is_file(path) and _age_s(subject, path) > OLD_WRITE_S:
            old.append(name)
    if old:
        what = counted(len(old), "temporary file", "temporary files")
        remedy = "whoever wrote them was interrupted: submit again what is missing, then remove them"
        yield warned("temporary-files", f"{what} older than a day: {listed(old)}", remedy)
    else:
        yield ok("temporary-files", "no write was left unfinished")


def check_future(subject: Subject) -> Iterator[Check]:
    """Do files come from the future?"""
    late = []
    for name in sorted(os.listdir(subject.root)):
        if _age_s(subject, os.path.join(subject.root, name)) < -FUTURE_S:
            late.append(name)
    if late:
        what = counted(len(late), "file was", "files were")
        remedy = "set the clock of this machine, or of the one that wrote them (`timedatectl`)"
        yield warned("future-files", f"{what} changed in the future: {listed(late)}", remedy)
    else:
        yield ok("future-files", "no file is from the future")


def check_paused(subject: Subject) -> Iterator[Check]:
    """Does a file keep jobs from being started?"""
    found = sorted(name for name in os.listdir(subject.root) if _is_pause(name))
    for name in found:
        queue = name.removeprefix(layout.PAUSED).removeprefix(".")
        option = f"--queue {queue}" if queue else "--all"
        what = f"of the queue `{queue}` " if queue else ""
        yield warned("paused", f"nothing {what}is started: `{name}` exists", f"`spooldadd release {option}`")
    if not found:
        yield ok("paused", "nothing is paused")


def check_inboxes(subject: Subject) -> Iterator[Check]:
    """Are there drops for nodes that never served this spool?"""
    known = {*nodes.read_all(subject.places), subject.config.node}
    waiting: dict[str, list[str]] = {}
    for key in drops.in_inboxes(subject.root, "", subject.config.intake.suffixes):
        if layout.drop_node(key) not in known:
            waiting.setdefault(layout.drop_node(key), []).append(key)
    for node, keys in sorted(waiting.items()):
        what = counted(len(keys), "drop waits", "drops wait")
        remedy = f"start a worker with `--node {node}`, or move them into the root or another inbox"
        yield warned("inboxes", f"{what} for the node `{node}`, which has never served this spool: {listed(keys)}", remedy)
    no_inboxes = sorted(name for name in drops.keys(subject.root, layout.INBOX) if _is_no_inbox(subject, name))
    if no_inboxes:
        what = counted(
            len(no_inboxes), "name begins as an inbox's does and is none", "names begin as an inbox's do and are none"
        )
        remedy = "an inbox is a directory called `@` and the name of a node; nobody looks at anything else"
        yield warned("inboxes", f"{what}: {listed(no_inboxes)}", remedy)
    if not waiting and not no_inboxes:
        yield ok("inboxes", "no drop waits for a node that nobody knows")


def check_synced(subject: Subject) -> Iterator[Check]:
    """In one of several copies of a spool: is what should stay at home told to stay, and what has come back?"""
    if mark.read(subject.root).kind != mark.SYNCED:
        return
    missing = [name for name in (".stignore", ".rsync-filter") if not os.path.lexists(os.path.join(subject.root, name))]
    if missing:
        what = f"{listed(missing)} is not in this copy of the synced spool"
        yield warned("synced", what, f"`spooldadd init {subject.root}` writes what the tools leave at home")
    back = sorted(_listed(subject.places.aside))
    if back:
        what = counted(len(back), "drop that came back was set aside", "drops that came back were set aside")
        remedy = (
            f"nobody needs them; remove `{subject.places.aside}` when you like. To run one again, drop it under a new name"
        )
        yield warned("synced", f"{what}: {listed(back)}", remedy)
    conflicts = sorted(_conflicts(subject))
    if conflicts:
        what = counted(len(conflicts), "conflict copy", "conflict copies")
        remedy = "two nodes wrote to one path: do both have the same name, or did a person edit there? Compare, then remove"
        yield warned("synced", f"{what} in records or among the spool's own files, never read: {listed(conflicts)}", remedy)
    if not missing and not back and not conflicts:
        yield ok("synced", "nothing has come back, and no two nodes wrote to one path")


def _conflicts(subject: Subject) -> Iterator[str]:
    places = subject.places
    records = [os.path.join(state, name) for state in layout.STATES for name in _listed(places.state_directory(state))]
    newest = sorted(records, key=lambda path: path[-22:], reverse=True)[:MOST_RECORDS]
    for directory in (layout.INTERNAL, os.path.join(layout.INTERNAL, "nodes"), *newest):
        for name in _listed(os.path.join(places.root, directory)):
            if intake.is_conflict_copy(name):
                yield os.path.join(directory, name)


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_no_inbox(subject: Subject, name: str) -> bool:
    """A directory that is called as no node can be, or a file in the place of an inbox, as `cp` makes it for one missing."""
    if "/" in name or drops.is_drop(name, subject.config.intake.suffixes):
        return False
    return not (layout.is_inbox(name) and os.path.isdir(os.path.join(subject.root, name)))


def _is_ignored(subject: Subject, key: str) -> bool:
    suffixes, name = subject.config.intake.suffixes, os.path.basename(key)
    if _is_no_inbox(subject, key) and key.startswith(layout.INBOX):
        return False  # told as such
    if intake.is_candidate(name, suffixes):
        return not forms.is_meant(os.path.join(subject.root, key), name)
    return intake.is_unexpected(name, suffixes)


def _is_left(subject: Subject, record: str, path: str) -> bool:
    return _age_s(subject, path) > YOUNG_S and not claim.is_held(subject.places, record)


def _is_pause(name: str) -> bool:
    return name == layout.PAUSED or name.startswith(f"{layout.PAUSED}.")


def _is_temporary(name: str) -> bool:
    is_marked = name.startswith(intake.TEMPORARY_STARTS) or name.endswith(intake.TEMPORARY_END)
    return is_marked or durable.is_temporary(name)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _age_s(subject: Subject, path: str) -> float:
    """Return how long ago this was changed, by what the file system says; 0 for what is gone meanwhile."""
    try:
        return subject.now_s - os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


CHECKS = {
    "running": check_running,
    "locks": check_locks,
    "names": check_names,
    "temporary-files": check_unfinished,
    "future-files": check_future,
    "paused": check_paused,
    "inboxes": check_inboxes,
    "synced": check_synced,
}
