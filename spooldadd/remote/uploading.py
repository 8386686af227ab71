"""Send this node's finished records to its master: those of failed jobs, or all; each until it has arrived whole.

What waits to be sent is what the directories say: a finished record without `uploaded.toml`. So nothing can be forgotten,
whoever filed it, and removing that file sends the record again. A later attempt makes room by moving the file to
`attempts/N/`, so its record is sent anew, even a success where only failures are sent: the master has to hear of it.

A batch goes in three steps: the files, then, when all of them are there and none has changed meanwhile, the manifests, then
the marks. Names on the way hold the digest of the content, so that no step ever changes what the master may already take in.

If we die here: before the marks, the batch is sent again, where rsync skips what is there; the master removes a record that
it has. `.spool/upload/<node>.toml` says how many wait, and since when the master is away; it is a hint for people.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from spooldadd import durable, layout, locking, mark, names, record
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.remote import incoming, manifest, probing
from spooldadd.remote.manifest import Manifest
from spooldadd.remote.rsync import PARTIAL, Rsync, Unreachable
from spooldadd.remote.targets import Target
from spooldadd.tomltext import flat

FAILED_ONLY, ALL = "failed", "all"
# So many records, or so many bytes, are marked together: what a death in between sends again.
BATCH_RECORDS, BATCH_BYTES = 100, 64 << 20


@dataclass(frozen=True)
class Sender:
    """Whose records are sent, where to, and which."""

    places: Layout
    node: str
    target: Target
    what: str
    rsync: Rsync


@dataclass(frozen=True)
class Parcel:
    """One record on its way, and how its files looked when the manifest was made."""

    path: str
    manifest: Manifest
    seen: tuple[tuple[str, int, int], ...]

    @property
    def entry(self) -> str:
        """What it is called on the way."""
        return incoming.entry_of(self.manifest)


def upload(sender: Sender, log: Log) -> int:
    """Send what waits; return how many records are left. Another one that is at it already counts as one."""
    with locking.Alone(os.path.join(sender.places.upload, f"{names.safe_name(sender.node)}.lock")) as is_ours:
        if not is_ours:
            return 1
        left = pending(sender)
        before = read_state(sender.places, sender.node)
        sent, trouble = 0, ""
        try:
            if left:
                sent = _send_all(sender, left, log)
        except (Unreachable, OSError) as error:
            trouble = str(error)
        left = pending(sender)
        if left and not trouble and not sent:
            trouble = "what waits changes all the time, or cannot be read"
        _note(sender, len(left), trouble, before, log)
        return len(left)


def pending(sender: Sender) -> list[str]:
    """Return the paths of the finished records that wait to be sent, oldest first. Raises: SpoolError."""
    is_own = mark.read(sender.places.root).kind == mark.LOCAL  # elsewhere other nodes file their records beside ours
    found = []
    for state in (layout.FAILED, layout.DONE):
        directory = sender.places.state_directory(state)
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if names.parse_job_id(name) and waits(path, state, sender.what) and (is_own or _node_of(path) == sender.node):
                found.append((name.rsplit(".", 2)[1], path))
    return [path for _, path in sorted(found)]


def waits(path: str, state: str, what: str) -> bool:
    """Tell whether a finished record still has to be sent, where the configuration says to send this much."""
    if any(os.path.lexists(os.path.join(path, note)) for note in (layout.UPLOADED, layout.MANIFEST)):
        return False
    return what == ALL or state == layout.FAILED or _was_sent_before(path)


def _was_sent_before(path: str) -> bool:
    """The master knows an earlier end of this job, and is to hear of this one."""
    attempts = os.path.join(path, layout.ATTEMPTS)
    try:
        return any(os.path.lexists(os.path.join(attempts, number, layout.UPLOADED)) for number in os.listdir(attempts))
    except OSError:
        return False


def _node_of(path: str) -> str:
    for name in (layout.RESULT, layout.CLAIM):
        table = record.read_table(os.path.join(path, name))
        if table is not None and table.get("node"):
            return str(table["node"])
    return ""


# -- sending


def _send_all(sender: Sender, paths: list[str], log: Log) -> int:
    """Return how many were sent. Raises: Unreachable; OSError."""
    marked = mark.read(sender.places.root)
    master = probing.probe(sender.rsync, sender.target)
    if master.id and master.id == marked.id:
        raise Unreachable("the master is this very spool; `[master] target` must name another one")
    origin = incoming.origin_of(sender.node, marked.id)
    _make_origin(sender, origin)
    sent = 0
    for batch in _batches(sender, paths, marked.id):
        for parcel in _send_batch(sender, origin, batch):
            _mark(parcel, sender.target, master.id, sync=marked.durability == "power")
            log.info("uploaded", job=parcel.manifest.job, attempt=parcel.manifest.attempt, to=sender.target.address)
            sent += 1
    return sent


def _batches(sender: Sender, paths: list[str], spool: str) -> Iterator[list[Parcel]]:
    batch: list[Parcel] = []
    for path in paths:
        parcel = _parcel(path, sender, spool)
        if parcel is None:
            continue
        batch.append(parcel)
        if len(batch) >= BATCH_RECORDS or sum(each.manifest.size_bytes for each in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _parcel(path: str, sender: Sender, spool: str) -> Parcel | None:
    """Return None where the record went elsewhere, or cannot be read now."""
    try:
        seen = _look(path)
        found = manifest.describe(path, os.path.basename(path), os.path.basename(os.path.dirname(path)))
    except OSError:
        return None
    return Parcel(path, replace(found, node=sender.node, spool=spool, source="upload"), seen)


def _look(path: str) -> tuple[tuple[str, int, int], ...]:
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in manifest.paths_of(path))


def _make_origin(sender: Sender, origin: str) -> None:
    """Make `incoming/<origin>` there. Raises: Unreachable."""
    with tempfile.TemporaryDirectory(prefix="spooldadd-upload-") as scratch:
        os.makedirs(os.path.join(scratch, layout.INCOMING, origin))
        # Of a directory that is there, nothing is changed.
        arguments = ["-r", "--ignore-existing", f"{scratch}/{layout.INCOMING}", sender.target.at(layout.INTERNAL) + "/"]
        sender.rsync.copy(arguments, sender.target)


def _send_batch(sender: Sender, origin: str, batch: list[Parcel]) -> list[Parcel]:
    """Send the files, then the manifests; return those that arrived whole. Raises: Unreachable; OSError."""
    if not _send_files(sender, origin, batch):
        # One of them cannot be read, or was moved: the others shall not wait for it.
        batch = [parcel for parcel in batch if _send_files(sender, origin, [parcel])] if len(batch) > 1 else []
    batch = [parcel for parcel in batch if _is_unchanged(parcel)]
    return batch if batch and _send_manifests(sender, origin, batch) else []


def _send_files(sender: Sender, origin: str, batch: list[Parcel]) -> bool:
    """Tell whether every file arrived: rsync puts one in its place only when its checksum is right."""
    listed = [os.path.join(parcel.entry, file.path) for parcel in batch for file in parcel.manifest.files]
    with tempfile.TemporaryDirectory(prefix="spooldadd-upload-") as scratch:
        for parcel in batch:
            os.symlink(parcel.path, os.path.join(scratch, parcel.entry))
        # Every file by its name, so that no link in a record is followed.
        return _send(sender, origin, scratch, listed)


def _send_manifests(sender: Sender, origin: str, batch: list[Parcel]) -> bool:
    with tempfile.TemporaryDirectory(prefix="spooldadd-upload-") as scratch:
        for parcel in batch:
            directory = os.path.join(scratch, parcel.entry)
            os.mkdir(directory)
            manifest.write(directory, parcel.manifest, sync=False)
        return _send(sender, origin, scratch, [os.path.join(parcel.entry, manifest.FILE) for parcel in batch])


def _send(sender: Sender, origin: str, scratch: str, listed: list[str]) -> bool:
    there = sender.target.at(layout.INTERNAL, layout.INCOMING, origin) + "/"
    arguments = ["-t", "--no-implied-dirs", f"--partial-dir={PARTIAL}", "--chmod=Du+rwx,Fu+rw", f"{scratch}/", there]
    return sender.rsync.send(arguments, sender.target, names=map(os.fsencode, listed)).code == 0


def _is_unchanged(parcel: Parcel) -> bool:
    try:
        return _look(parcel.path) == parcel.seen
    except OSError:
        return False


def _mark(parcel: Parcel, target: Target, master: str, *, sync: bool) -> None:
    """Note in the record that it has arrived; one that went on meanwhile is sent again when it ends."""
    table = {"schema": 1, "to": target.address, "spool": master, "digest": parcel.manifest.digest}
    text = flat({**table, "uploaded_at": record.moment(time.time())})
    try:
        for entry in os.listdir(parcel.path):
            if durable.is_temporary(entry) and entry.endswith(layout.UPLOADED):  # one of us died here
                durable.unlink_if_there(os.path.join(parcel.path, entry))
        durable.write(os.path.join(parcel.path, layout.UPLOADED), text.encode(), sync=sync)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise


# -- how it stands


def read_state(places: Layout, node: str) -> dict[str, object]:
    """Return what the last upload of this node noted; empty where none did."""
    return record.read_table(_state_path(places, node)) or {}


def _note(sender: Sender, waiting: int, trouble: str, before: dict[str, object], log: Log) -> None:
    """Write down how it stands, and warn once when the master goes away."""
    since = before.get("away_since") or record.moment(time.time()) if trouble else None
    table = {"schema": 1, "node": sender.node, "to": sender.target.address, "waiting": waiting}
    table |= {"away_since": since, "error": trouble or None}
    if {key: value for key, value in table.items() if value is not None} != before:
        durable.write(_state_path(sender.places, sender.node), flat(table).encode(), sync=False)
    if trouble and not before.get("away_since"):
        then = "trying again for as long as it takes; they stay here until they have arrived"
        log.warning("upload-waits", to=sender.target.address, waiting=waiting, error=trouble, then=then)
    elif before.get("away_since") and not trouble:
        log.info("upload-back", to=sender.target.address, waiting=waiting)


def _state_path(places: Layout, node: str) -> str:
    return os.path.join(places.upload, f"{names.safe_name(node)}.toml")
