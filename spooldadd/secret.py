"""Find a secret by its name: a credential of the service manager, a file in one directory, what a command prints. Light.

The one mechanism for jobs, for downloads, and for transports of mail. Who starts a command differs in a supervisor and
elsewhere, so that is passed in. No message here holds anything of a value.

Source: systemd.exec(5), CREDENTIALS.
"""

from __future__ import annotations

import os
import stat

# The sources, in the order that holds where the configuration names none.
CREDENTIALS, DIRECTORY, COMMAND = "credentials", "directory", "command"
ORDER = (CREDENTIALS, DIRECTORY, COMMAND)
# A key or a certificate with its chain has some kilobytes; systemd takes a megabyte for all credentials of a service.
MAX_BYTES = 1 << 20
TIMEOUT_S = 10.0

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # Takes words and a time limit; returns what was printed. Raises: NoSecret.
    Run = Callable[[list[str], float], bytes]


class NoSecret(Exception):
    """A secret cannot be had. The message is a sentence with its name, where it was looked for, and the remedy."""


class Sources:
    """Where this node has its secrets."""

    __slots__ = ("command", "credentials", "directory", "order", "timeout_s")

    def __init__(self, credentials: str = "", directory: str = "") -> None:
        self.order: tuple[str, ...] = ORDER
        self.credentials = credentials
        self.directory = directory
        self.command: tuple[str, ...] = ()  # `{name}` in a word stands for the secret's name
        self.timeout_s = TIMEOUT_S

    def table(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "order": list(self.order),
            "credentials": self.credentials,
            "directory": self.directory,
            "command": list(self.command),
            "timeout_s": self.timeout_s,
        }


def from_table(table: Mapping[str, object]) -> Sources:
    """Return the sources that `table` gave."""
    sources = Sources(str(table["credentials"]), str(table["directory"]))
    sources.order = tuple(map(str, table["order"]))  # type: ignore[call-overload]
    sources.command = tuple(map(str, table["command"]))  # type: ignore[call-overload]
    sources.timeout_s = float(str(table["timeout_s"]))
    return sources


def read(name: str, sources: Sources, run: Run, *, is_private: bool = True) -> bytes:
    """Return a secret, byte for byte as its source has it. Raises: NoSecret.

    `is_private`: a file that others could read is refused.
    """
    looked: list[str] = []
    for source in sources.order:
        if source == COMMAND:
            if not sources.command:
                continue
            words = [word.replace("{name}", name) for word in sources.command]
            try:
                return _usable(name, run(words, sources.timeout_s), f"what `{words[0]}` printed")
            except NoSecret as error:
                looked.append(str(error))
                continue
        directory = sources.credentials if source == CREDENTIALS else sources.directory
        if not directory:
            continue
        path = os.path.join(directory, name)
        found = _of_file(name, path, is_private=is_private and source == DIRECTORY)
        if found is not None:
            return found
        looked.append(f"`{path}` is not there")
    if not looked:
        remedy = "set `secrets_dir`, or `command` in `[secrets]`, or `LoadCredential=` in the service's unit"
        raise NoSecret(f"the secret `{name}` is needed, and this node has no place for secrets; {remedy}")
    raise NoSecret(f"the secret `{name}` is not on this node: {'; '.join(looked)}; put it there")


def is_name(name: str) -> bool:
    """Tell whether a secret may have this name: it is a file's, and a word of a command."""
    return (
        bool(name)
        and name[0] not in ".-@"
        and all(letter.isalnum() or letter in "_.@-" for letter in name)
        and name.isascii()
    )


def _of_file(name: str, path: str, *, is_private: bool) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NoSecret(f"the secret `{name}` cannot be read: `{path}`: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NoSecret(f"the secret `{name}` cannot be read: `{path}` is not a file")
        objection = exposure(status) if is_private else ""
        if objection:
            raise NoSecret(f"the secret `{name}` is not used: `{path}` {objection}")
        return _usable(name, _whole(fd), f"`{path}`")
    except OSError as error:
        raise NoSecret(f"the secret `{name}` cannot be read: `{path}`: {error.strerror}") from error
    finally:
        os.close(fd)


def exposure(status: os.stat_result) -> str:
    """Say who else could read or change this file, as a predicate; empty for nobody. Root's may be read by a group."""
    mode = stat.S_IMODE(status.st_mode)
    own = status.st_uid == os.geteuid()
    if not own and status.st_uid != 0:
        return f"belongs to another user ({status.st_uid}); give it to the worker's user, or to root"
    if mode & (0o077 if own else 0o027):
        return f"could be read or changed by others (mode {mode:04o}); `chmod 0600` it"
    return ""


def _whole(fd: int) -> bytes:
    parts = []
    size = 0
    while size <= MAX_BYTES and (part := os.read(fd, MAX_BYTES + 1 - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _usable(name: str, data: bytes, where: str) -> bytes:
    if not data.strip():
        raise NoSecret(f"the secret `{name}` is empty: {where}")
    if len(data) > MAX_BYTES:
        raise NoSecret(f"the secret `{name}` is longer than {MAX_BYTES} bytes: {where}; is it the right one?")
    return data
