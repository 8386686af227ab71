"""Where a spool on another machine is: `[user@]host:/path` as rsync writes it, or a directory of this machine. Pure."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass

from spooldadd.errors import SpooldaddError

COMMAND = ("spooldadd",)
INBOX = "@"
# A host as ssh takes it, with a user or without; never one that ssh would read as an option.
_HOST = re.compile(r"(?:[^\s@:/'\"\\-][^\s@:/'\"\\]*@)?(?:\[[0-9A-Fa-f:.%a-z]+\]|[^\s@:/'\"\\\[\]-][^\s@:/'\"\\\[\]]*)")


class BadTarget(SpooldaddError):
    """The text names no place that a spool can be in; the message says why, and what to write."""


@dataclass(frozen=True)
class Target:
    """One spool. `host` is empty for a directory of this machine; `inbox` is `@node` where drops go into one."""

    name: str
    host: str
    path: str
    inbox: str = ""
    command: tuple[str, ...] = COMMAND
    labels: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """The spool, as rsync writes it."""
        return self.at()

    def at(self, *parts: str) -> str:
        """Return what rsync calls this path within the spool."""
        path = os.path.join(self.path, *parts) if parts else self.path
        return f"{self.host}:{path}" if self.host else path

    @property
    def shown(self) -> str:
        """What people call it."""
        return f"`{self.name}`" if self.name == self.address else f"`{self.name}` ({self.address})"

    def on_host(self, *arguments: str) -> str:
        """Return the shell line that runs the other side's own `spooldadd` on its spool."""
        return shlex.join([*self.command, "--spool", self.path or ".", *arguments])


def parse(text: str, name: str = "", *, command: tuple[str, ...] = COMMAND, labels: tuple[str, ...] = ()) -> Target:
    """Return the target that a text names. Raises: BadTarget."""
    host, path = _split(text)
    if not host:
        path = os.path.abspath(os.path.expanduser(path))
    path = path.rstrip("/") or ("/" if path.startswith("/") else "")
    root, slash, last = path.rpartition("/")
    inbox = ""
    if last.startswith(INBOX) and len(last) > 1:
        path, inbox = root or slash, last
    return Target(name or text, host, path, inbox, command or COMMAND, labels)


def is_address(text: str) -> bool:
    """Tell whether a text can only mean a place, not the name of a node: it has a colon or a slash."""
    return ":" in text or "/" in text or text in (".", "..", "~")


def _split(text: str) -> tuple[str, str]:
    if not text or "\0" in text or "\n" in text:
        raise BadTarget("an empty target names no spool; write `host:/path` or a directory")
    if text.startswith("rsync://") or re.match(r"[^/]*::", re.sub(r"\[[^\]/]*\]", "", text)):
        raise BadTarget(f"`{text}` names an rsync daemon, which this program does not use; write `host:/path`, by ssh")
    match = re.match(r"(?P<host>(?:[^/:\[\]]*@)?(?:\[[^\]/]*\]|[^/:]*)):(?P<path>.*)\Z", text)
    if match is None:
        return "", text
    if not _HOST.fullmatch(match["host"]):
        raise BadTarget(
            f"`{match['host']}` in `{text}` is no name of a host; write `[user@]host:/path`, or `./…` for a file"
        )
    return match["host"], match["path"]
