"""One `[[files]]` entry: bring it, check it, render it, put it into the work directory.

A file is written under a temporary name beside its place and renamed, so a step never sees half of it. Nothing is ever
written outside of the work directory, whatever links earlier archives have put there.

If we die here: a `.file-…` in the work directory, which goes with it.
"""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from spooldadd.environment.blobs import Blob, Blobs, sha256_of
from spooldadd.environment.credentials import Secrets
from spooldadd.environment.fetch import Fetcher, Request
from spooldadd.environment.models import FileEntry
from spooldadd.environment.ready import find_file
from spooldadd.environment.report import Report, megabytes
from spooldadd.environment.unpack import unpack
from spooldadd.errors import BuildError

DEFAULT_MODE: Final = 0o644
# A template is read into memory; what the sandbox renders has a limit of the same size.
MAX_TEMPLATE_BYTES: Final = 1 << 20
# A blob can be pruned between the fetch and the copy, once; twice within moments is no accident.
_TRIES: Final = 3


@dataclass(frozen=True)
class Desk:
    """What placing files needs."""

    work_dir: str
    base_dirs: tuple[str, ...]  # where `source` is looked for, in order: beside the spec, then the spool
    fetcher: Fetcher
    secrets: Secrets
    report: Report
    variables: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def place_file(entry: FileEntry, desk: Desk) -> None:
    """Put one entry in place. Raises: `BuildError` that names it."""
    try:
        if entry.url is not None:
            _place_fetched(entry, desk)
        elif entry.source is not None:
            _place_local(entry, _source(entry.source, desk), desk)
        else:
            _place_content(entry, desk)
    except OSError as error:
        raise BuildError(f"`{entry.place}` cannot be written: {error.strerror or error}") from error


def _source(name: str, desk: Desk) -> str:
    path = find_file(name, desk.base_dirs)
    if path is None:
        raise BuildError(f"`{name}` is not there: a `source` is looked for beside the spec and in the spool")
    return path


def _place_fetched(entry: FileEntry, desk: Desk) -> None:
    request = Request(entry.url or "", entry.sha256, desk.secrets.headers(entry.headers))
    for attempt in range(_TRIES):
        blob = desk.fetcher.fetch(request).blob
        try:
            _place_blob(entry, blob, desk)
            return
        except FileNotFoundError:
            if attempt + 1 == _TRIES or os.path.exists(blob.path):
                raise


def _place_blob(entry: FileEntry, blob: Blob, desk: Desk) -> None:
    if entry.unpack or entry.template:
        _place_path(entry, blob.path, desk)
        return
    target = _target(entry.place, desk)
    temporary = _temporary(target)
    Blobs(os.path.dirname(blob.path)).copy(blob, temporary, entry.mode or DEFAULT_MODE)
    _put(temporary, target)


def _place_local(entry: FileEntry, path: str, desk: Desk) -> None:
    """Copy a file of this node. A pinned one is copied first and then summed, so that what was checked is what runs."""
    target = _target(entry.place if not entry.unpack else f"{entry.place}/.archive", desk)
    temporary = _temporary(target)
    mode = entry.mode or os.stat(path).st_mode & 0o755
    Blobs(os.path.dirname(path)).copy(Blob("", 0, path), temporary, mode)
    try:
        found = sha256_of(temporary) if entry.sha256 else None
        if found != entry.sha256:
            raise BuildError(f"`{entry.source}` has the sha256 {found}, but the spec says {entry.sha256}")
        if entry.unpack or entry.template:
            _place_path(entry, temporary, desk, name=os.path.basename(path))
        else:
            os.rename(temporary, target)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    desk.report.line(f"{entry.source}: copied")


def _place_path(entry: FileEntry, path: str, desk: Desk, name: str = "") -> None:
    name = name or entry.url or entry.place
    if entry.template:
        if os.path.getsize(path) > MAX_TEMPLATE_BYTES:
            raise BuildError(f"`{name}` is too large for a template: above {megabytes(MAX_TEMPLATE_BYTES)}")
        with open(path, "rb") as file:
            _place_text(entry, _decoded(file.read(), name), desk)
        return
    try:
        done = unpack(path, desk.work_dir, entry.place, strip=entry.strip)
    except BuildError as error:
        raise BuildError(f"`{name.partition('?')[0]}`: {error}") from error
    desk.report.line(f"{entry.place}: unpacked {done.members} members, {megabytes(done.size_bytes)}")


def _place_content(entry: FileEntry, desk: Desk) -> None:
    text = entry.content or ""
    if entry.sha256:
        _check_content(entry, text)
    _place_text(entry, text, desk)
    desk.report.line(f"{entry.place}: written")


def _check_content(entry: FileEntry, text: str) -> None:
    import hashlib  # beside its one use: `content` is pinned only by generated specs

    found = hashlib.sha256(text.encode()).hexdigest()
    if found != entry.sha256:
        raise BuildError(f"`{entry.place}` has the sha256 {found}, but the spec says {entry.sha256}")


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BuildError(f"`{name}` cannot be a template: it is not UTF-8") from error


def _place_text(entry: FileEntry, text: str, desk: Desk) -> None:
    if entry.template:
        text = render(text, desk.variables, entry.place)
    target = _target(entry.place, desk)
    temporary = _temporary(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    mode = entry.mode or DEFAULT_MODE
    with os.fdopen(os.open(temporary, flags, mode), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    _put(temporary, target)


def render(text: str, variables: Mapping[str, Mapping[str, object]], name: str) -> str:
    """Render a file in the sandbox that the values of a spec have too. Raises: `BuildError` with its name."""
    from spooldadd.sandbox import Sandbox, TemplateFault  # imports Jinja2, which most builds do not need

    try:
        return Sandbox(variables).render(text)
    except TemplateFault as fault:
        hint = f"; {fault.hint}" if fault.hint else ""
        raise BuildError(f"the template `{name}`: {fault.message}{hint}") from fault


def _target(place: str, desk: Desk) -> str:
    """Return where a file goes, its directory made. Raises: `BuildError` where a link leads out."""
    root = os.path.realpath(desk.work_dir)
    path = os.path.normpath(os.path.join(root, place))
    directory = os.path.realpath(os.path.dirname(path))
    if os.path.commonpath((root, directory)) != root or path == root:
        raise BuildError(f"`{place}` leads out of the work directory: refused")
    os.makedirs(directory, exist_ok=True)
    target = os.path.join(directory, os.path.basename(path))
    if os.path.isdir(target) and not os.path.islink(target):
        raise BuildError(f"`{place}` is a directory already")
    return target


def _temporary(target: str) -> str:
    return os.path.join(os.path.dirname(target), f".file-{random.token_hex(6)}")


def _put(temporary: str, target: str) -> None:
    try:
        os.rename(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise
