"""What is known about each URL: one record, replaced at once, that names the blob its body is in.

The record of a URL is one file, so headers and body of different answers cannot meet in it. An index in Redis can be
shared between nodes: a node then knows what another one learned, and uses it where it has that blob itself. Redis away
is no error: the node knows less, and says so once.

If we die here: the old record stands, or a temporary name that `durable` knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from spooldadd import durable
from spooldadd.environment.report import Report

SCHEMA: Final = 1
# A node that cannot reach Redis within this goes on without; a download takes longer than that anyway.
REDIS_TIMEOUT_S: Final = 2.0
# As long as CacheControl keeps what has an ETag, times two: an expired record only costs a download.
REDIS_KEEP_S: Final = 28 * 86_400
REDIS_PREFIX: Final = "spooldadd:url:"


@dataclass(frozen=True)
class Record:
    """One answer: the blob with its body, when we got it, and CacheControl's own text with status and headers."""

    sha256: str
    size_bytes: int
    stored_at_s: float
    metadata: bytes

    def to_bytes(self) -> bytes:
        """Write a line of JSON, then the metadata as it is."""
        head = {"schema": SCHEMA, "sha256": self.sha256, "size_bytes": self.size_bytes, "stored_at_s": self.stored_at_s}
        return json.dumps(head).encode() + b"\n" + self.metadata

    @classmethod
    def from_bytes(cls, data: bytes) -> Record | None:
        """Read a record; None for anything that is none, such as one of a later schema."""
        line, _, metadata = data.partition(b"\n")
        try:
            head = json.loads(line)
            if head["schema"] != SCHEMA:
                return None
            return cls(str(head["sha256"]), int(head["size_bytes"]), float(head["stored_at_s"]), metadata)
        except (ValueError, KeyError, TypeError):
            return None


class Records(Protocol):
    """Where records are kept. Never raises: a cache that fails is one that knows nothing."""

    def read(self, key: str) -> Record | None:
        """Return what is known, if anything."""

    def write(self, key: str, record: Record) -> None:
        """Replace what is known."""

    def delete(self, key: str) -> None:
        """Forget."""

    def close(self) -> None:
        """Release what is held."""


class DiskRecords:
    """A file for each URL, below one directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def read(self, key: str) -> Record | None:
        """Return what is known, if anything."""
        try:
            with open(self._path(key), "rb") as file:
                return Record.from_bytes(file.read())
        except OSError:
            return None

    def write(self, key: str, record: Record) -> None:
        """Replace what is known; where the disk does not take it, nothing is known."""
        try:
            os.makedirs(self.root, exist_ok=True)
            durable.write(self._path(key), record.to_bytes(), sync=False)
        except OSError:
            self.delete(key)

    def delete(self, key: str) -> None:
        """Forget."""
        try:
            os.unlink(self._path(key))
        except OSError:
            pass

    def keys(self) -> Iterator[str]:
        """Yield the keys of all records."""
        try:
            names = os.listdir(self.root)
        except OSError:
            return
        yield from (name for name in names if not durable.is_temporary(name))

    def close(self) -> None:
        """Nothing is held."""

    def _path(self, key: str) -> str:
        return os.path.join(self.root, key)


class RedisRecords:
    """An index that several nodes share. The first error makes it silent for the rest of this program."""

    def __init__(self, url: str, report: Report) -> None:
        """Connect when it is first needed. Raises: ImportError without the `redis` package."""
        import redis  # an extra: most nodes have none

        self._error: type[Exception] = redis.RedisError
        self._report = report
        self._is_away = False
        self._client: Any = redis.Redis.from_url(url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)

    def read(self, key: str) -> Record | None:
        """Return what some node knows, if anything."""
        data = self._try(lambda: self._client.get(REDIS_PREFIX + key))
        return Record.from_bytes(data) if isinstance(data, bytes) else None

    def write(self, key: str, record: Record) -> None:
        """Tell all nodes."""
        self._try(lambda: self._client.set(REDIS_PREFIX + key, record.to_bytes(), ex=REDIS_KEEP_S))

    def delete(self, key: str) -> None:
        """Let all nodes forget."""
        self._try(lambda: self._client.delete(REDIS_PREFIX + key))

    def close(self) -> None:
        """Close the connections; can be called again, and used again."""
        try:
            self._client.close()
        except (self._error, OSError):
            pass  # what is broken is closed

    def _try(self, call: Callable[[], object]) -> object:
        if self._is_away:
            return None
        try:
            return call()
        except (self._error, OSError) as error:
            self._is_away = True
            self._report.line(f"the shared index cannot be reached, going on without: {error}")
            return None


@dataclass(frozen=True)
class SharedRecords:
    """A node's own records, and an index shared with others."""

    own: Records
    shared: Records

    def read(self, key: str) -> Record | None:
        """Return the later of the two."""
        found = [record for record in (self.own.read(key), self.shared.read(key)) if record]
        return max(found, key=lambda record: record.stored_at_s, default=None)

    def write(self, key: str, record: Record) -> None:
        """Tell both."""
        self.own.write(key, record)
        self.shared.write(key, record)

    def delete(self, key: str) -> None:
        """Let both forget."""
        self.own.delete(key)
        self.shared.delete(key)

    def close(self) -> None:
        """Close both."""
        self.own.close()
        self.shared.close()


def open_records(root: str, redis_url: str, report: Report) -> Records:
    """Return this node's records, with the shared index where one is named and can be used."""
    own = DiskRecords(root)
    if not redis_url:
        return own
    try:
        return SharedRecords(own, RedisRecords(redis_url, report))
    except (ImportError, ValueError) as error:
        report.line(f"the shared index cannot be used, going on without: {error}")
        return own
