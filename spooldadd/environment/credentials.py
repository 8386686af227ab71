"""Secrets by name for downloads and package indexes: read when they are needed and shown nowhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spooldadd import secret
from spooldadd.asking import printed
from spooldadd.environment.models import SecretHeader
from spooldadd.environment.report import Report
from spooldadd.errors import BuildError

# A key file is 4 KB; more is a mistake, and would be sent as a header.
MAX_SECRET_BYTES: Final = 64 * 1024
# What package indexes expect as the user of a token.
TOKEN_USER: Final = "__token__"


@dataclass(frozen=True)
class Secrets:
    """Where this node has them."""

    sources: secret.Sources
    report: Report

    def read(self, name: str) -> str:
        """Return a secret without its last line break, and hide it from here on. Raises: `BuildError`."""
        if not secret.is_name(name):
            raise BuildError(f"`{name}` is no name of a secret")
        try:
            data = secret.read(name, self.sources, printed, is_private=False)
            text = data.decode()
        except (secret.NoSecret, UnicodeDecodeError) as error:
            raise BuildError(f"the secret `{name}` cannot be read: {error}") from error
        value = text.removesuffix("\n").removesuffix("\r")
        if not value or len(text) > MAX_SECRET_BYTES or "\n" in value:
            raise BuildError(f"the secret `{name}` must be one line that is not empty")
        self.report.keep_secret(value)
        return value

    def login(self, name: str) -> tuple[str, str]:
        """Return user and password of a secret that is `user:password`, or a token alone."""
        value = self.read(name)
        user, found, password = value.partition(":")
        if not found:
            return TOKEN_USER, value
        self.report.keep_secret(password)
        return user, password

    def identity(self, names: Iterable[str]) -> str:
        """Name whoever has these secrets, without telling anything of them: by which files they are, as they stand now.

        Empty for nobody in particular.
        """
        told: list[list[object]] = []
        for name in sorted(names):
            place = self._place(name)
            if place is None:
                told.append([list(self.sources.command), name])
                continue
            state = os.stat(place)
            told.append([place, state.st_ino, state.st_size, state.st_mtime_ns])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16] if told else ""

    def _place(self, name: str) -> str | None:
        """Return the file of a secret; None where a command prints it."""
        for source in self.sources.order:
            if source == secret.COMMAND and self.sources.command:
                return None
            directory = self.sources.credentials if source == secret.CREDENTIALS else self.sources.directory
            path = os.path.join(directory, name)
            if directory and source != secret.COMMAND and os.path.exists(path):
                return path
        return None

    def basic(self, user: str, password: str) -> str:
        """Return the value of an `Authorization` header, hidden as well."""
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.report.keep_secret(encoded)
        return f"Basic {encoded}"

    def headers(self, headers: Mapping[str, str | SecretHeader]) -> dict[str, str]:
        """Return headers with their secrets filled in."""
        return {name: value if isinstance(value, str) else self._filled(value) for name, value in headers.items()}

    def _filled(self, header: SecretHeader) -> str:
        value = header.prefix + self.read(header.secret)
        if not value.isascii() or any(ord(character) < 32 for character in value):
            raise BuildError(f"the secret `{header.secret}` holds what no header may hold")
        return value
