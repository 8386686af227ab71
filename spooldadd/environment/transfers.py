"""Fetch by `file:`, `rsync:` and `sftp:`, the latter two through the system's own programs.

They bring the keys, hosts and settings that the node has; nothing is asked on a terminal. What is not pinned is fetched
each time: these protocols do not tell us that nothing has changed.

If we die here: a part in the store, which the next fetch continues (rsync, pinned sftp) or writes anew. The programs
end with the builder's process group.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from spooldadd.environment.blobs import CHUNK_BYTES, Blob, Blobs, sha256_of
from spooldadd.environment.fetch import Fetched, Request, StoreBroken, check_sum
from spooldadd.environment.httpcache import url_key
from spooldadd.environment.report import Report
from spooldadd.environment.tool import Tool, ToolFailed, run_tool
from spooldadd.errors import BuildError

# No bytes for so long: the other side is gone.
SILENCE_S: Final = 60


@dataclass(frozen=True)
class FileTransport:
    """Copies a file of this node, or of what is mounted there."""

    report: Report

    def fetch(self, request: Request, store: Blobs) -> Fetched:
        """Bring it into the store. Raises: `BuildError`."""
        parts = urlsplit(request.url)
        if parts.netloc not in ("", "localhost"):
            raise BuildError(f"`{request.name}`: `file:` reads files of this node, so the URL has three slashes")
        return _into_store(request, store, lambda part: self._copy(request, unquote(parts.path), part))

    def close(self) -> None:
        """Nothing is held."""

    def _copy(self, request: Request, path: str, part: str) -> None:
        try:
            source = open(path, "rb")  # noqa: SIM115 - apart, so that its errors are not taken for the store's
        except OSError as error:
            raise BuildError(f"`{request.name}`: {error.strerror}") from error
        with source, open(part, "wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)


@dataclass(frozen=True)
class RsyncTransport:
    """`rsync://host[:port]/module/path`, one file."""

    report: Report

    def fetch(self, request: Request, store: Blobs) -> Fetched:
        """Bring it into the store. Raises: `BuildError`."""
        options = ["--inplace", "--partial", "--copy-links", "--no-motd", f"--timeout={SILENCE_S}", "--contimeout=20"]
        return _into_store(
            request, store, lambda part: _run(self.report, request, ["rsync", *options, "--", request.url, part])
        )

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class SftpTransport:
    """`sftp://[user@]host[:port]/path`, one file; with `/~/path` from the home directory."""

    report: Report

    def fetch(self, request: Request, store: Blobs) -> Fetched:
        """Bring it into the store. Raises: `BuildError`."""
        return _into_store(request, store, lambda part: self._get(request, part))

    def close(self) -> None:
        """Nothing is held."""

    def _get(self, request: Request, part: str) -> None:
        """Ask for the whole file, or for the rest where the sum will tell if the halves belong together."""
        parts = urlsplit(request.url)
        is_rest = request.sha256 is not None and os.path.exists(part) and os.path.getsize(part) > 0
        get = "reget" if is_rest else "get"
        batch = f"{get} {_quoted(_remote_path(parts))} {_quoted(part)}\n"
        port = ["-P", str(parts.port)] if parts.port else []
        options = [
            "-q",
            "-b",
            "-",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=20",
            "-o",
            f"ServerAliveInterval={SILENCE_S}",
        ]
        host = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        if host.startswith("-"):
            raise BuildError(f"`{request.name}`: no host begins with `-`")
        try:
            _run(self.report, request, ["sftp", *options, *port, host], batch)
        except BuildError:
            if not is_rest:
                raise
            os.unlink(part)  # the rest of another file, perhaps: once more from the beginning
            self._get(request, part)


def _remote_path(parts: SplitResult) -> str:
    path = unquote(parts.path)
    return path.removeprefix("/~/") if path.startswith("/~/") else path


def _quoted(path: str) -> str:
    """Quote for sftp's own batch language, where quotes also keep wildcards from being expanded."""
    if "\n" in path:
        raise BuildError("no path may contain a line break")
    return '"' + re.sub(r'(["\\])', r"\\\1", path) + '"'


def _run(report: Report, request: Request, command: list[str], text: str = "") -> None:
    try:
        run_tool(Tool(command, dict(os.environ), stdin=text), report)
    except ToolFailed as error:
        raise BuildError(f"`{request.name}`: {error}") from error


def _into_store(request: Request, store: Blobs, get: Callable[[str], None]) -> Fetched:
    """Fetch into a part under the lock of its URL, and make it a blob."""
    key = url_key(request.url)
    try:
        held = store.lock(key).acquire()
        part = store.part(key)
    except OSError as error:
        raise StoreBroken(str(error)) from error
    with held:
        blob = store.find(request.sha256) if request.sha256 else None
        if blob:
            return Fetched(blob, "pinned")
        get(part)
        return Fetched(_adopt(request, store, part), "fetched")


def _adopt(request: Request, store: Blobs, part: str) -> Blob:
    digest = sha256_of(part)
    if request.sha256 not in (None, digest):
        os.unlink(part)
    check_sum(request, digest)
    return store.adopt(part, digest)
