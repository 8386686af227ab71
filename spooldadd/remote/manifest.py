"""The manifest of a record that travels: whose it is, from which spool, and each file with its size and its sha256.

`manifest.toml` is written last, so a record that has one is whole, and what does not match it is damaged. It stays in the
record: by it the collecting host knows which node to send a spec back to, and that a record is none of its own.

Only regular files travel. A link in a record would be followed by readers on another machine, and lead them anywhere.

If we die here: `durable.write` leaves the old manifest or the new one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from spooldadd import durable, layout, names, record
from spooldadd.remote.rsync import PARTIAL

SCHEMA = 1
FILE = layout.MANIFEST
# What this program notes in a record about its way, and what stands in none: no part of what happened to the job.
_NOTES = frozenset({FILE, layout.UPLOADED, layout.RETURNING, layout.RETURNED, PARTIAL})
# A manifest of 100,000 kept files has ten megabytes.
MAX_BYTES = 64 << 20


class Damaged(Exception):
    """A record does not match its manifest, or has none that can be read; the message says how."""


class Newer(Damaged):
    """A manifest of a release that is newer than this one: the record waits until this one is, too."""


@dataclass(frozen=True)
class File:
    """One file of a record: its path within it, as the file system has it."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a record says about itself on its way. `address` is where its spool can be reached, where that is known."""

    job: str
    state: str
    attempt: int
    node: str
    spool: str
    finished_at: str = ""
    source: str = ""
    address: str = ""
    files: tuple[File, ...] = ()

    @property
    def digest(self) -> str:
        """What names this content: two records of one digest are the same."""
        lines = (os.fsencode(file.path) + f"\0{file.size_bytes}\0{file.sha256}\n".encode() for file in self.files)
        return hashlib.sha256(b"".join(sorted(lines))).hexdigest()

    @property
    def origin(self) -> tuple[str, str]:
        """The spool and the job in it: what tells two jobs of one id apart."""
        return self.spool, self.job

    @property
    def size_bytes(self) -> int:
        """What all files take together."""
        return sum(file.size_bytes for file in self.files)

    def table(self) -> dict[str, object]:
        """Return it as it is written."""
        plain: dict[str, object] = {"schema": SCHEMA, "job": self.job, "state": self.state, "attempt": self.attempt}
        plain |= {"node": self.node, "spool": self.spool, "finished_at": self.finished_at, "source": self.source}
        plain |= {"address": self.address, "digest": self.digest, "size_bytes": self.size_bytes}
        files = [_written(file) for file in self.files]
        return {**{key: value for key, value in plain.items() if value != ""}, **({"files": files} if files else {})}


def paths_of(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Give every regular file of a record that travels, by its path within it. Follows no link. Raises: OSError."""
    todo = [""]
    while todo:
        inner = todo.pop()
        with os.scandir(os.path.join(directory, inner) if inner else directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = os.path.join(inner, entry.name) if inner else entry.name
                if _is_note(path) or durable.is_temporary(entry.name):
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    todo.append(path)
                elif stat.S_ISREG(status.st_mode):
                    yield path, status


def describe(directory: str, job: str, state: str) -> Manifest:
    """Read a record and return what is in it; spool, source and address are the caller's. Raises: OSError."""
    files = tuple(File(path, status.st_size, _sha256(directory, path)) for path, status in paths_of(directory))
    result = record.read_table(os.path.join(directory, layout.RESULT)) or {}
    claim = record.read_table(os.path.join(directory, layout.CLAIM)) or {}
    finished_s = record.seconds(result.get("finished_at"))
    attempt = result.get("attempt", claim.get("attempt"))
    return Manifest(
        job=job,
        state=state,
        attempt=attempt if isinstance(attempt, int) else 0,
        node=str(result.get("node") or claim.get("node") or ""),
        spool="",
        finished_at=record.moment(finished_s).isoformat() if finished_s else "",
        files=tuple(sorted(files, key=lambda file: os.fsencode(file.path))),
    )


def write(directory: str, manifest: Manifest, *, sync: bool) -> None:
    """Write a manifest into a directory: from this instant on the record is whole. Raises: OSError."""
    from spooldadd.tomltext import dumps

    durable.write(os.path.join(directory, FILE), dumps(manifest.table()).encode(), sync=sync)


def read(directory: str) -> Manifest | None:
    """Return the manifest in a record, or None where it has none. Raises: Damaged where it cannot be read."""
    path = os.path.join(directory, FILE)
    if not os.path.lexists(path):
        return None
    table = record.read_table(path) if os.path.isfile(path) and os.lstat(path).st_size <= MAX_BYTES else None
    schema = (table or {}).get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise Newer(f"`{FILE}` is of schema {schema}, and this release understands {SCHEMA}: use a newer release")
    try:
        return _parsed(table or {})
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"`{FILE}` cannot be read") from error


def check(directory: str, manifest: Manifest, *, sync: bool) -> None:
    """See that a record is what its manifest says, file by file. `sync` makes the files last. Raises: Damaged; OSError."""
    expected = {file.path: file for file in manifest.files}
    for path, status in paths_of(directory):
        file = expected.pop(path, None)
        if file is None:
            raise Damaged(f"`{durable.printable(path)}` does not stand in its manifest")
        if status.st_size != file.size_bytes:
            raise Damaged(f"`{durable.printable(path)}` has {status.st_size} bytes, not {file.size_bytes}")
        if _sha256(directory, path, sync=sync) != file.sha256:
            raise Damaged(f"`{durable.printable(path)}` has another content than its manifest says")
    for path in expected:
        raise Damaged(f"`{durable.printable(path)}` is missing")


def _is_note(path: str) -> bool:
    """Of the record itself, and of its earlier attempts, which were records once."""
    parts = path.split(os.sep)
    if len(parts) == 3 and parts[0] == layout.ATTEMPTS:
        parts = parts[2:]
    return (len(parts) == 1 and parts[0] in _NOTES) or parts[-1] == PARTIAL


def _sha256(directory: str, path: str, *, sync: bool = False) -> str:
    fd = os.open(os.path.join(directory, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb", buffering=0) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return found


def _written(file: File) -> dict[str, object]:
    """A name that is no text stands there by its bytes as well: TOML can hold no others."""
    table: dict[str, object] = {"path": durable.printable(file.path), "size": file.size_bytes, "sha256": file.sha256}
    if table["path"] != file.path:
        table["path_hex"] = os.fsencode(file.path).hex()
    return table


def _parsed(table: dict[str, object]) -> Manifest:
    listed = table.get("files", [])
    if not isinstance(listed, list):
        raise TypeError
    job, state = str(table["job"]), str(table["state"])
    if table["schema"] != SCHEMA or not names.parse_job_id(job) or names.safe_name(job) != job:
        raise ValueError
    if state not in (layout.DONE, layout.FAILED):
        raise ValueError
    return Manifest(
        job=job,
        state=state,
        attempt=int(str(table["attempt"])),
        node=str(table.get("node", "")),
        spool=str(table.get("spool", "")),
        finished_at=str(table.get("finished_at", "")),
        source=str(table.get("source", "")),
        address=str(table.get("address", "")),
        files=tuple(_parsed_file(part) for part in listed),
    )


def _parsed_file(part: dict[str, object]) -> File:
    by_bytes = part.get("path_hex")
    path = os.fsdecode(bytes.fromhex(str(by_bytes))) if by_bytes else str(part["path"])
    return File(path, int(str(part["size"])), str(part["sha256"]))
