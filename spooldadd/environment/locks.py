"""What exactly is to be installed: the resolved requirements of an environment, and what they were resolved from.

Pure, apart from reading the files that a spec names.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote, urlsplit

from spooldadd.errors import BuildError

_SCHEMA: Final = "environment-1"
_PATH: Final = re.compile(r"^(?:-e\s+|--editable[ =])|^(?:[^#\s]+\s*@\s*)?(?:file://)?([./~][^\s#;]*)")


class Form(Enum):
    """How requirements are written."""

    REQUIREMENTS = "requirements"
    PYLOCK = "pylock"
    UV_LOCK = "uv.lock"


@dataclass(frozen=True)
class Inputs:
    """The file to resolve, and all that decides what it means."""

    path: str
    form: Form
    contents: tuple[bytes, ...]

    @property
    def is_locked(self) -> bool:
        """Tell whether nothing is left to decide: a lock file, or each requirement with its hash."""
        return self.form is not Form.REQUIREMENTS or is_hashed(self.contents[0].decode(errors="replace"))


@dataclass(frozen=True)
class Lock:
    """Resolved requirements, each with its hashes where it can have one."""

    text: str
    form: Form

    @property
    def packages(self) -> list[str]:
        """Return `name==version` of each, for people."""
        if self.form is Form.PYLOCK:
            pairs = re.findall(r'^name = "([^"]+)"\nversion = "([^"]+)"', self.text, re.MULTILINE)
            return [f"{name}=={version}" for name, version in pairs]
        return [line.split(" --hash")[0].split(";")[0].strip() for line in logical_lines(self.text)]

    def key(self, interpreter: list[object], options: list[object]) -> str:
        """Return the name of the environment that this makes: the same for the same content, on any day."""
        told = json.dumps([_SCHEMA, self.form.value, self.text, interpreter, options])
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def form_of(name: str) -> Form:
    """Tell by its name what a requirements file is."""
    base = os.path.basename(unquote(urlsplit(name).path))
    if base == "uv.lock":
        return Form.UV_LOCK
    return Form.PYLOCK if re.fullmatch(r"pylock(\..+)?\.toml", base) else Form.REQUIREMENTS


def logical_lines(text: str) -> list[str]:
    """Return the lines of a requirements file: continued ones joined, comments and empty ones gone."""
    joined = re.sub(r"\\\r?\n", " ", text)
    stripped = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in stripped if line]


def is_hashed(text: str) -> bool:
    """Tell whether each requirement has a hash, and nothing else is in the file that could add one."""
    lines = logical_lines(text)
    return bool(lines) and all("--hash=" in line and not line.startswith("-") for line in lines)


def refuse_directories(text: str) -> None:
    """Refuse what is installed from a directory: its content is not in the key. Raises: `BuildError`."""
    for line in logical_lines(text):
        match = _PATH.match(line)
        if match and (match[1] is None or not match[1].partition("[")[0].endswith((".whl", ".tar.gz", ".zip"))):
            raise BuildError(
                f"`{line}` is a directory or an editable install; environments are shared, so build a wheel of it"
            )
