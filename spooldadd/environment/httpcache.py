"""CacheControl's rules over our blobs: its cache back end, and its controller with three gaps closed.

CacheControl decides what may be stored and what is fresh. Its own file cache was found to mix headers and bodies when
processes share it; here one record names one blob, and whoever read the record gets that body or none. The back end
can serve any CacheControl session; our downloads hand it blobs that are stored already instead of bodies in memory.
"""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import IO, TYPE_CHECKING, Literal, cast

from cachecontrol.cache import SeparateBodyBaseCache
from cachecontrol.controller import CacheController

from spooldadd.environment.blobs import Blob, Blobs
from spooldadd.environment.records import Record, Records

if TYPE_CHECKING:
    from requests import PreparedRequest
    from urllib3 import HTTPResponse


def url_key(url: str, identity: str = "") -> str:
    """Return the name of what is known about a URL to those who ask with this identity (a credential's, else empty)."""
    return hashlib.sha256(f"{identity}\n{url.partition('#')[0]}".encode()).hexdigest()


class StoredBody:
    """Stands for a body that is in the blob store already: CacheControl asks its length, `set_body` its blob."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob

    def __len__(self) -> int:
        return self.blob.size_bytes


class BlobCache(SeparateBodyBaseCache):
    """A cache back end over blobs and records. Several threads may share one.

    CacheControl stores a new answer by `set` and at once `set_body`, new headers of a known body (a 304) by `set`
    alone. So what was `set` waits for its body; at the next `get` or at `close` it is joined to the one that this
    thread got last for that URL, which is the one that was asked about, whatever others have stored since.
    """

    def __init__(
        self, blobs: Blobs, records: Records, *, identity: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._blobs = blobs
        self._records = records
        self._identity = identity
        self._clock = clock
        self._seen = threading.local()

    def find(self, url: str) -> tuple[Record, Blob] | None:
        """Return what is known about a URL, if its body is here and whole."""
        record = self._records.read(self._key(url))
        blob = self._blobs.find(record.sha256) if record else None
        if record is None or blob is None or blob.size_bytes != record.size_bytes:
            return None
        return record, blob

    def get(self, key: str) -> bytes | None:
        """Return the metadata, and remember for this thread which body belongs to it."""
        self._publish_headers(key)
        found = self.find(key)
        self._bodies()[key] = found[1] if found else None
        return found[0].metadata if found else None

    def get_body(self, key: str) -> IO[bytes] | None:
        """Open the body of what this thread has just got: it cannot belong to another answer."""
        blob = self._bodies().get(key)
        return self._blobs.open(blob) if blob else None

    def set(self, key: str, value: bytes, expires: int | datetime | None = None) -> None:
        """Hold the metadata until its body comes."""
        self._pending()[key] = value

    def set_body(self, key: str, body: bytes) -> None:
        """Store the body and publish both by one rename. A store that cannot be written keeps nothing."""
        metadata = self._pending().pop(key, None)
        if metadata is None:
            return
        try:
            blob = cast("object", body)
            stored = blob.blob if isinstance(blob, StoredBody) else self._blobs.add(_pieces(body))
        except OSError:
            return
        self._write(key, stored, metadata)

    def delete(self, key: str) -> None:
        """Forget a URL; its blob stays for others."""
        if not getattr(self._seen, "is_keeping", False):
            self._records.delete(self._key(key))

    def close(self) -> None:
        """Publish what waits, and release what is held. Can be called again, and used again."""
        for key in list(self._pending()):
            self._publish_headers(key)
        self._bodies().clear()
        self._records.close()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Let nothing be deleted meanwhile."""
        self._seen.is_keeping = True
        try:
            yield
        finally:
            self._seen.is_keeping = False

    def _publish_headers(self, key: str) -> None:
        metadata = self._pending().pop(key, None)
        asked = self._bodies().get(key)
        blob = self._blobs.find(asked.sha256) if metadata and asked else None
        if metadata and blob:
            self._write(key, blob, metadata)

    def _write(self, key: str, blob: Blob, metadata: bytes) -> None:
        self._records.write(self._key(key), Record(blob.sha256, blob.size_bytes, self._clock(), metadata))

    def _key(self, url: str) -> str:
        return url_key(url, self._identity)

    def _bodies(self) -> dict[str, Blob | None]:
        if not hasattr(self._seen, "bodies"):
            self._seen.bodies = {}
        return cast("dict[str, Blob | None]", self._seen.bodies)

    def _pending(self) -> dict[str, bytes]:
        if not hasattr(self._seen, "pending"):
            self._seen.pending = {}
        return cast("dict[str, bytes]", self._seen.pending)


def _pieces(body: bytes) -> Iterator[bytes]:
    view = memoryview(body)
    return (view[start : start + (1 << 20)].tobytes() for start in range(0, len(view), 1 << 20))


class Policy(CacheController):
    """CacheControl's controller, which as of 0.14 has three gaps that are closed here.

    It takes `no-cache` in an answer for nothing, reads directives in lower case only, and drops what is stale and has
    no ETag, so that `Last-Modified` never gets to revalidate it.
    """

    def __init__(self, cache: BlobCache) -> None:
        super().__init__(cache)
        self._blob_cache = cache

    def parse_cache_control(self, headers: Mapping[str, str]) -> dict[str, int | None]:
        """Read directives in any case. An answer with `no-cache` may be kept, but is never fresh: its age may be 0."""
        text = headers.get("cache-control", headers.get("Cache-Control", ""))
        directives = super().parse_cache_control({"cache-control": text.lower()})
        if "no-cache" in directives:
            directives["max-age"] = 0
        return directives

    def cached_request(self, request: PreparedRequest) -> HTTPResponse | Literal[False]:
        """Return a fresh answer or nothing; what is stale stays, to be revalidated."""
        with self._blob_cache.keeping():
            return super().cached_request(request)

    def cache_response(
        self,
        request: PreparedRequest,
        response_or_ref: HTTPResponse | weakref.ReferenceType[HTTPResponse],
        body: bytes | None = None,
        status_codes: Collection[int] | None = None,
    ) -> None:
        """Store an answer. One that only has `Last-Modified` gets an `Expires` of now, else it would not be stored."""
        response = response_or_ref() if isinstance(response_or_ref, weakref.ReferenceType) else response_or_ref
        if response is None:
            return
        headers = response.headers
        if "last-modified" in headers and "date" in headers and "etag" not in headers and "expires" not in headers:
            headers["expires"] = headers["date"]
        super().cache_response(request, response, body, status_codes)
