"""Download over http and https: requests carries, CacheControl's rules decide, our store keeps.

A body is streamed into a part file, so memory does not grow with it, and a cut connection is continued by Range and
If-Range. One process fetches a URL at a time, others wait and find what it stored. Redirects are followed here, one by
one: each URL has its own record, and headers of the spec go to the origin that the spec names and to no other.

If we die here: a part file with its notes; the next download of that URL goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import HTTPResponse

from spooldadd.environment.blobs import Blobs
from spooldadd.environment.body import Again, Part, Source, collect
from spooldadd.environment.fetch import Fetched, Request, StoreBroken, check_sum
from spooldadd.environment.httpcache import BlobCache, Policy, StoredBody, url_key
from spooldadd.environment.records import Records
from spooldadd.environment.report import Report
from spooldadd.errors import BuildError

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

MAX_REDIRECTS: Final = 10
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NOT_STORED: Final = frozenset({"set-cookie", "content-length", "content-range", "connection", "transfer-encoding"})
# What may be different a little later. All other errors are answers.
TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long to wait for what. The defaults give up after about half a minute of silence from a dead server."""

    tries: int = 6
    first_wait_s: float = 0.5  # doubles, with jitter: 0.5, 1, 2, 4, 8
    connect_s: float = 10.0
    read_s: float = 60.0
    longest_wait_s: float = 300.0  # a server that asks for more is told to the submitter, whose retry rule decides
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, attempt: int, asked_s: float | None) -> float:
        """Return how long to wait after this attempt, counted from 0."""
        if asked_s is not None:
            return asked_s
        return float(self.first_wait_s * 2**attempt * random.uniform(0.75, 1.25))


@dataclass(frozen=True)
class _Hop:
    """One URL on the way, and what is sent there."""

    request: Request
    store: Blobs
    cache: BlobCache
    prepared: PreparedRequest
    public: PreparedRequest  # as `prepared`, without what the spec and netrc added: what the cache may write down
    key: str


class HttpTransport:
    """Downloads; a connection is kept for the next one until `close`."""

    def __init__(self, records: Records, report: Report, patience: Patience | None = None) -> None:
        self._records = records
        self._report = report
        self._patience = patience or Patience()
        self._session = requests.Session()

    def close(self) -> None:
        """Close connections and the records."""
        self._session.close()
        self._records.close()

    def fetch(self, request: Request, store: Blobs) -> Fetched:
        """Bring it into the store. Raises: `BuildError`."""
        url = request.url
        for _ in range(MAX_REDIRECTS):
            answer = self._fetch_hop(request, url, store)
            if isinstance(answer, Fetched):
                return answer
            url = answer
        raise BuildError(f"`{request.name}` leads through more than {MAX_REDIRECTS} redirects")

    def _fetch_hop(self, request: Request, url: str, store: Blobs) -> Fetched | str:
        """Return the content, or the URL to go on with."""
        hop = self._prepare(request, url, store)
        try:
            held = store.lock(hop.key).acquire()
        except OSError as error:
            raise StoreBroken(str(error)) from error
        with held, closing(hop.cache):
            blob = store.find(request.sha256) if request.sha256 else None
            if blob:
                return Fetched(blob, "pinned")
            return self._fresh(hop) or self._try_often(hop)

    def _prepare(self, request: Request, url: str, store: Blobs) -> _Hop:
        own = dict(request.headers) if is_same_origin(request.url, url) else {}
        named = {name.lower() for name in own}
        session = self._session
        session.cookies.clear()
        # An `Authorization` of the spec must win over netrc: requests would let netrc win.
        auth = (lambda prepared: prepared) if "authorization" in named else None
        try:
            headers = {"Accept-Encoding": "identity", **own}
            prepared = session.prepare_request(requests.Request("GET", url, headers=headers, auth=auth))
        except requests.RequestException as error:
            raise BuildError(f"`{request.name}`: {error}") from error
        private = {name: value for name, value in prepared.headers.items() if name.lower() in named | {"authorization"}}
        public = prepared.copy()
        for name in private:
            del public.headers[name]
        identity = hashlib.sha256(json.dumps(sorted(private.items())).encode()).hexdigest() if private else ""
        self._report.keep_secret(*(value for name, value in private.items() if name.lower() == "authorization"))
        cache = BlobCache(store, self._records, identity=identity)
        return _Hop(request, store, cache, prepared, public, url_key(prepared.url or url, identity))

    def _fresh(self, hop: _Hop) -> Fetched | None:
        """Return what is stored and need not be asked about."""
        answer = Policy(hop.cache).cached_request(hop.public)
        if answer is False:
            return None
        answer.close()
        return self._known(hop, "fresh")

    def _known(self, hop: _Hop, how: str) -> Fetched | None:
        found = hop.cache.find(hop.public.url or "")
        if found is None or hop.request.sha256 not in (None, found[1].sha256):
            return None
        return Fetched(found[1], how)

    def _try_often(self, hop: _Hop) -> Fetched | str:
        """Try until the patience ends. An attempt that got further than all before it does not count."""
        attempt, furthest_bytes = 0, 0
        while True:
            try:
                return self._try(hop)
            except requests.exceptions.SSLError as error:
                raise BuildError(f"`{hop.request.name}`: the server cannot be trusted: {error}") from error
            except requests.RequestException as error:
                problem = Again(f"{type(error).__name__}: {error}")
            except Again as error:
                problem = error
            reached_bytes = Part.open(hop.store, hop.key, is_pinned=True).size_bytes
            attempt = 1 if reached_bytes > furthest_bytes else attempt + 1
            furthest_bytes = max(reached_bytes, furthest_bytes)
            self._wait(hop.request.name, attempt, problem)

    def _wait(self, name: str, attempt: int, problem: Again) -> None:
        """Wait before the next attempt. Raises: `BuildError` where there is none."""
        if attempt >= self._patience.tries:
            raise BuildError(f"`{name}`: {problem}; given up after {attempt} attempts") from problem
        wait_s = self._patience.wait_s(attempt - 1, problem.wait_s)
        if wait_s > self._patience.longest_wait_s:
            raise BuildError(f"`{name}`: {problem}; the server asks to wait {wait_s:.0f} s") from problem
        self._report.line(f"{name}: {problem}; trying again in {wait_s:.1f} s")
        self._patience.sleep(wait_s)

    def _try(self, hop: _Hop) -> Fetched | str:
        part = Part.open(hop.store, hop.key, is_pinned=hop.request.sha256 is not None)
        prepared = hop.prepared.copy()
        conditions = {} if part.size_bytes or hop.request.sha256 else Policy(hop.cache).conditional_headers(hop.public)
        prepared.headers.update({**conditions, **part.range_headers()})
        options = self._session.merge_environment_settings(prepared.url or "", {}, True, None, None)
        timeout = (self._patience.connect_s, self._patience.read_s)
        with self._session.send(prepared, allow_redirects=False, timeout=timeout, **options) as response:
            return self._take(hop, response, part)

    def _take(self, hop: _Hop, response: Response, part: Part) -> Fetched | str:
        status = response.status_code
        if status in REDIRECTS and "location" in response.headers:
            return _next_url(hop, response)
        if status == 304:
            return self._revalidated(hop, response)
        if status == 416 and part.size_bytes:
            part.drop()
            raise Again("the server cannot go on where the download was cut", 0.0)
        if status in TRY_AGAIN:
            raise Again(f"the server answered {status} {response.reason}", retry_after_s(response))
        if status not in (200, 206):
            raise BuildError(f"`{hop.request.name}`: the server answered {status} {response.reason}")
        return self._body(hop, response, part)

    def _revalidated(self, hop: _Hop, response: Response) -> Fetched:
        answer = Policy(hop.cache).update_cached_response(hop.public, cast("HTTPResponse", response.raw))
        answer.close()
        hop.cache.get(hop.public.url or "")  # publishes the new headers
        known = self._known(hop, "revalidated")
        if known is None:
            hop.cache.delete(hop.public.url or "")
            raise Again("what was stored is gone", 0.0)
        return known

    def _body(self, hop: _Hop, response: Response, part: Part) -> Fetched:
        source = Source(response, self._report, hop.request.name)
        digest = collect(source, part)
        is_resumed = response.status_code == 206
        if is_resumed and hop.request.sha256 not in (None, digest):
            part.drop()
            raise Again("the continued download has another sha256, starting over", 0.0)
        if hop.request.sha256 not in (None, digest):
            part.drop()
        check_sum(hop.request, digest)
        try:
            blob = hop.store.adopt(part.path, digest)
        except OSError as error:
            raise StoreBroken(str(error)) from error
        part.drop()
        headers = {name: value for name, value in response.headers.items() if name.lower() not in _NOT_STORED}
        kept = HTTPResponse(body=b"", headers=headers, status=200, version=11, reason="OK", preload_content=False)
        Policy(hop.cache).cache_response(hop.public, kept, cast("bytes", StoredBody(blob)))
        return Fetched(blob, "resumed" if is_resumed else "fetched")


def _next_url(hop: _Hop, response: Response) -> str:
    url = urljoin(hop.prepared.url or "", response.headers["location"])
    if urlsplit(url).scheme not in ("http", "https"):
        raise BuildError(f"`{hop.request.name}` leads to `{url.partition('?')[0]}`, which is refused")
    return url


def is_same_origin(first: str, second: str) -> bool:
    """Tell whether what was meant for the first URL may go to the second: same host and port, never less safe."""
    one, two = urlsplit(first), urlsplit(second)
    if one.hostname != two.hostname:
        return False
    ports = {"http": 80, "https": 443}
    one_port, two_port = one.port or ports.get(one.scheme), two.port or ports.get(two.scheme)
    is_upgrade = (one.scheme, one_port, two.scheme, two_port) == ("http", 80, "https", 443)
    return is_upgrade or (one.scheme, one_port) == (two.scheme, two_port)


def retry_after_s(response: Response) -> float | None:
    """Return how long the server asks to wait: seconds, or a date that is compared with the server's own clock."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        date = response.headers.get("date") or formatdate(usegmt=True)
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):
        return None
