"""Bring what a URL names into the blob store: the one way in for `[[files]]` and for requirements by URL.

What is pinned by `sha256` is fetched once per node and never asked about again. A store that cannot be written never
fails a build: then a scratch store in the work directory takes its place.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

from spooldadd.environment.blobs import Blob, Blobs
from spooldadd.environment.report import Report, megabytes
from spooldadd.errors import BuildError

SCRATCH: Final = ".fetch-"
# What says that the store cannot be written, and not that the source cannot be read.
STORE_ERRORS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR})


@dataclass(frozen=True)
class Request:
    """What to fetch, secrets filled in."""

    url: str
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """How messages call it: without the query, which can hold a signature."""
        return self.url.partition("?")[0]


@dataclass(frozen=True)
class Fetched:
    """What came, and how: `pinned`, `fresh`, `revalidated`, `resumed`, `fetched`."""

    blob: Blob
    how: str


class Transport(Protocol):
    """One way to fetch, for some schemes."""

    def fetch(self, request: Request, store: Blobs) -> Fetched:
        """Bring it into the store. Raises: `BuildError`; OSError with one of `STORE_ERRORS` from the store."""

    def close(self) -> None:
        """Release what is held."""


class StoreBroken(Exception):
    """The store could not take what was fetched."""


class Fetcher:
    """Fetches into one store; a context manager that closes what it holds."""

    def __init__(self, store: Blobs, transports: Mapping[str, Transport], report: Report, scratch_parent: str) -> None:
        self._store = store
        self._transports = transports
        self._report = report
        self._scratch_parent = scratch_parent
        self._scratch = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def fetch(self, request: Request) -> Fetched:
        """Return a blob with the content. Raises: `BuildError`."""
        blob = self._store.find(request.sha256) if request.sha256 else None
        fetched = Fetched(blob, "pinned") if blob else self._fetch(request)
        size = megabytes(fetched.blob.size_bytes)
        self._report.line(f"{request.name}: {fetched.how}, {size}, sha256 {fetched.blob.sha256}")
        return fetched

    def close(self) -> None:
        """Close connections and remove the scratch store. Can be called again."""
        for transport in self._transports.values():
            transport.close()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = ""

    def _fetch(self, request: Request) -> Fetched:
        transport = self._transports.get(urlsplit(request.url).scheme)
        if transport is None:
            raise BuildError(f"`{request.name}`: no way to fetch this is installed")
        if self._scratch:
            return transport.fetch(request, Blobs(self._scratch))
        try:
            return transport.fetch(request, self._store)
        except (StoreBroken, OSError) as error:
            cause = error.__cause__ if isinstance(error, StoreBroken) else error
            if not isinstance(cause, OSError) or cause.errno not in STORE_ERRORS:
                raise BuildError(f"`{request.name}` cannot be fetched: {error}") from error
        self._report.line(f"the cache `{self._store.root}` cannot be written, going on without: {cause.strerror}")
        self._scratch = tempfile.mkdtemp(prefix=SCRATCH, dir=self._scratch_parent)
        return transport.fetch(request, Blobs(self._scratch))


def check_sum(request: Request, found: str) -> None:
    """Refuse a content with another sum than the spec says. Raises: `BuildError` with both."""
    if request.sha256 and found != request.sha256:
        raise BuildError(f"`{request.name}` has the sha256 {found}, but the spec says {request.sha256}")
