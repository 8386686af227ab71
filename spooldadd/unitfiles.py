"""The files that make a worker a service of systemd: what they are called, what stands in them, and whose they are now.

Each file that we write says so in its first line, with the digest of the rest. So a file that an administrator has edited is
known, and is left alone; changes belong into drop-ins, which we never touch.

Source: systemd.unit(5) on escaping and load paths, systemd.service(5) on command lines, systemd-escape(1).
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files

from spooldadd.release import __version__

TEMPLATE_UNIT = "spooldadd@.service"
OWNER_DROP_IN = "10-owner.conf"
PROGRAM = "/usr/bin/spooldadd"
# A unit's name, suffix included (UNIT_NAME_MAX).
MAX_UNIT_CHARACTERS = 255
SUBGROUP_SINCE = 254
_MARK = re.compile(
    r"# Written by `spooldadd service install` of release (\S+); changes belong into a drop-in\. sha256=([0-9a-f]{64})"
)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


class State(Enum):
    """What a file of ours is found to be."""

    MISSING = "missing"
    CURRENT = "current"
    OUTDATED = "outdated"
    EDITED = "edited"


@dataclass(frozen=True)
class UnitFile:
    """One file: where it belongs, and what shall stand in it."""

    path: str
    text: str

    @property
    def data(self) -> bytes:
        """The whole file, our mark first."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        whose = f"# Written by `spooldadd service install` of release {__version__}; changes belong into a drop-in."
        return f"{whose} sha256={digest}\n{self.text}".encode()

    def state(self) -> State:
        """Compare with what lies there. A file without our mark, or with another text than it had, is somebody's."""
        try:
            with open(self.path, "rb") as file:
                found = file.read()
        except FileNotFoundError:
            return State.MISSING
        if found == self.data:
            return State.CURRENT
        return State.OUTDATED if is_untouched(found) else State.EDITED


def is_untouched(data: bytes) -> bool:
    """Tell whether this is a file of ours, of any release, that nobody has changed since."""
    first, _, rest = data.decode("utf-8", "replace").partition("\n")
    mark = _MARK.fullmatch(first)
    return mark is not None and hashlib.sha256(rest.encode()).hexdigest() == mark[2]


def escape_path(path: str) -> str:
    """Write an absolute path as a part of a unit's name, as `systemd-escape --path` does. Raises: ValueError."""
    if not path.startswith("/"):
        raise ValueError(f"`{path}` is no absolute path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"`{path}` holds `..`")
    if not parts:
        return "-"
    return "-".join(_escape_part(part, is_first=number == 0) for number, part in enumerate(parts))


def _escape_part(part: str, *, is_first: bool) -> str:
    """A dot is escaped only where it would begin the whole name."""
    found = []
    for number, byte in enumerate(os.fsencode(part)):
        is_leading_dot = byte == ord(".") and is_first and number == 0
        found.append(chr(byte) if chr(byte) in _PLAIN and not is_leading_dot else f"\\x{byte:02x}")
    return "".join(found)


def unit_of(path: str) -> str:
    """Name the service that serves this spool. Raises: ValueError where systemd has no name for it."""
    unit = TEMPLATE_UNIT.replace("@", f"@{escape_path(path)}")
    if len(unit) > MAX_UNIT_CHARACTERS:
        raise ValueError(f"`{path}` is too long for the name of a unit; make a shorter link to it and serve that")
    return unit


def path_of(unit: str) -> str | None:
    """Return the spool that a service of ours serves; None for any other unit."""
    match = re.fullmatch(r"spooldadd@(.+)\.service", unit)
    if match is None:
        return None
    escaped = "/" if match[1] == "-" else "/" + match[1].replace("-", "/")
    data = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), escaped.encode())
    return os.fsdecode(data)


def command_line(program: list[str]) -> str:
    """Write a program and its first arguments as `ExecStart=` reads them, nothing in them expanded.

    Raises: ValueError where a path holds what no unit file can.
    """
    words = [f":{program[0]}", *program[1:]]
    if any(char < " " for word in words for char in word):
        raise ValueError(f"`{program[0]}` holds a control character")
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def unit_text(kind: str, program: list[str], *, has_subgroups: bool) -> str:
    """Return the template unit of this kind, `system` or `user`, for this program."""
    text = template(f"{kind}.service").replace(f'":{PROGRAM}"', command_line(program))
    return text.replace("#DelegateSubgroup=", "DelegateSubgroup=") if has_subgroups else text


def owner_text(user: str) -> str:
    """Return the drop-in that makes a worker run as this user."""
    return (
        f"[Service]\nUser={user}\n"
        "# The system's directories are those of root's workers; this one keeps its own below the user's home, or where\n"
        "# its configuration says.\nStateDirectory=\nCacheDirectory=\nLogsDirectory=\n"
    )


def template(name: str) -> str:
    """Return a file that comes with us."""
    return files("spooldadd").joinpath("templates", "systemd", name).read_text(encoding="utf-8")
