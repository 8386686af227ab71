"""Secrets by name: files in one directory, read when they are needed and shown nowhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spooldadd.environment.models import SecretHeader
from spooldadd.environment.report import Report
from spooldadd.errors import BuildError

# A key file is 4 KB; more is a mistake, and would be sent as a header.
MAX_SECRET_BYTES: Final = 64 * 1024
# What package indexes expect as the user of a token.
TOKEN_USER: Final = "__token__"


@dataclass(frozen=True)
class Secrets:
    """The directory that holds them, systemd's `$CREDENTIALS_DIRECTORY` for one. Empty: there are none."""

    directory: str
    report: Report

    def read(self, name: str) -> str:
        """Return a secret without its last line break, and hide it from here on. Raises: `BuildError`."""
        if not self.directory:
            raise BuildError(f"the secret `{name}` is needed, but this node names no directory of secrets")
        if "/" in name or name.startswith("."):
            raise BuildError(f"`{name}` is no name of a secret")
        path = os.path.join(self.directory, name)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(MAX_SECRET_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"the secret `{name}` cannot be read: {error}") from error
        secret = text.removesuffix("\n").removesuffix("\r")
        if not secret or len(text) > MAX_SECRET_BYTES or "\n" in secret:
            raise BuildError(f"the secret `{name}` must be one line that is not empty")
        self.report.keep_secret(secret)
        return secret

    def login(self, name: str) -> tuple[str, str]:
        """Return user and password of a secret that is `user:password`, or a token alone."""
        secret = self.read(name)
        user, found, password = secret.partition(":")
        if not found:
            return TOKEN_USER, secret
        self.report.keep_secret(password)
        return user, password

    def identity(self, names: Iterable[str]) -> str:
        """Name whoever has these secrets, without telling anything of them: by which files they are, as they stand now.

        Empty for nobody in particular.
        """
        told = []
        for name in sorted(names):
            path = os.path.join(self.directory, name)
            state = os.stat(path)
            told.append([path, state.st_ino, state.st_size, state.st_mtime_ns])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16] if told else ""

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
