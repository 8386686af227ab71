"""The body of one download: collected in a part file, continued after a cut, summed up on the way.

If we die here: the part and its notes. The notes are written before the first byte of the body, and say by which
validator the server will recognise what we have; a part without notes that fit is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import urllib3.exceptions

from spooldadd import durable
from spooldadd.environment.blobs import CHUNK_BYTES, Blobs
from spooldadd.environment.report import Report

if TYPE_CHECKING:
    from requests import Response

# RFC 9110, 8.8.2.2: a modification time so close to the answer's own may belong to two versions.
_STRONG_AFTER_S = 60.0


class Again(Exception):
    """An attempt failed, another one may not. `wait_s`: what the server asked for, or None."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Source:
    """An answer with a body."""

    response: Response
    report: Report
    name: str


@dataclass
class Part:
    """What is collected so far of one URL."""

    path: str
    size_bytes: int
    validator: str
    is_pinned: bool

    @classmethod
    def open(cls, store: Blobs, key: str, *, is_pinned: bool) -> Part:
        """Return what an earlier attempt left, or an empty part. Raises: OSError where the store cannot be used."""
        path = store.part(key)
        try:
            with open(_notes(path), encoding="utf-8") as file:
                validator = str(json.load(file)["validator"])
            size_bytes = os.path.getsize(path)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, 0, "", is_pinned)
        # What is pinned needs no validator: the sum tells if the halves belong together.
        return cls(path, size_bytes if validator or is_pinned else 0, validator, is_pinned)

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest."""
        if not self.size_bytes:
            return {}
        condition = {"If-Range": self.validator} if self.validator else {}
        return {"Range": f"bytes={self.size_bytes}-", **condition}

    def begin(self, headers: Mapping[str, str]) -> None:
        """Start over with an answer that has these headers."""
        self.drop()
        self.validator = _validator(headers)
        durable.write(_notes(self.path), json.dumps({"validator": self.validator}).encode(), sync=False)

    def drop(self) -> None:
        """Remove part and notes."""
        self.size_bytes = 0
        for path in (_notes(self.path), self.path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass


def _notes(path: str) -> str:
    return f"{path}.json"


def _validator(headers: Mapping[str, str]) -> str:
    """Return what may stand in If-Range: a strong ETag, or a time that is old enough to be strong; else nothing."""
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    modified, date = headers.get("last-modified", ""), headers.get("date", "")
    try:
        age_s = (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return modified if not etag and age_s >= _STRONG_AFTER_S else ""


def collect(source: Source, part: Part) -> str:
    """Read the body into the part; return the sha256 of all of it. Raises: `Again` where it was cut; OSError."""
    total_bytes = _continue(source, part) if source.response.status_code == 206 else _begin(source, part)
    digest = hashlib.sha256()
    if part.size_bytes:
        _feed(digest, part.path)
    progress = source.report.progress(source.name, total_bytes)
    with open(part.path, "ab") as file:
        try:
            for chunk in source.response.raw.stream(CHUNK_BYTES, decode_content=False):
                digest.update(chunk)
                file.write(chunk)
                part.size_bytes += len(chunk)
                progress.at(part.size_bytes)
        except urllib3.exceptions.HTTPError as error:
            raise Again(f"cut after {part.size_bytes} bytes ({type(error).__name__})") from error
    if total_bytes is not None and part.size_bytes != total_bytes:
        raise Again(f"cut after {part.size_bytes} of {total_bytes} bytes")
    return digest.hexdigest()


def _begin(source: Source, part: Part) -> int | None:
    part.begin(source.response.headers)
    length = source.response.headers.get("content-length", "")
    return int(length) if length.isdigit() else None


def _continue(source: Source, part: Part) -> int | None:
    """Check that the rest begins where we are. Returns the total, where the server tells it."""
    unit, _, span = source.response.headers.get("content-range", "").partition(" ")
    first, _, rest = span.partition("-")
    if unit != "bytes" or first != str(part.size_bytes):
        part.drop()
        raise Again("the server continued at another place, starting over", 0.0)
    total = rest.partition("/")[2]
    source.report.line(f"{source.name}: continuing after {part.size_bytes} bytes")
    return int(total) if total.isdigit() else None


def _feed(digest: hashlib._Hash, path: str) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
