"""Secrets by name in a transport's table: `password = { secret = "smtp" }`. Read when a letter is about to leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from spooldadd import secret
from spooldadd.mail.letter import Answer, Letter, Unreachable

Read = Callable[[str], str]
# What may be a secret, and what stands in for it while the table is checked without its secrets.
STAND_INS: Final = {"username": "secret", "password": "secret", "url": "https://secret.invalid/"}
_HEADERS: Final = "headers"


@dataclass(frozen=True)
class Locked:
    """A transport whose secret cannot be had now: letters wait for it."""

    sentence: str

    def send(self, letter: Letter) -> dict[str, Answer]:
        """Raises: Unreachable, always."""
        raise Unreachable(self.sentence)


def is_reference(value: object) -> bool:
    """Tell whether this value names a secret."""
    return isinstance(value, Mapping) and "secret" in value


def faults(table: Mapping[str, object]) -> list[str]:
    """Say what is wrong with the references in a table."""
    found = []
    for key, value in _references(table):
        assert isinstance(value, Mapping)
        name = value["secret"]
        known = {"secret", "prefix"} if key.startswith(f"{_HEADERS}.") else {"secret"}
        if not isinstance(name, str) or not secret.is_name(name):
            found.append(f"`{key}` names no secret: letters, digits and `_.@-`")
        elif set(value) - known or not isinstance(value.get("prefix", ""), str):
            found.append(f"`{key}` knows {' and '.join(f'`{word}`' for word in sorted(known))} only")
    return found


def without(table: Mapping[str, object]) -> dict[str, object]:
    """Return a table with what stands in for each secret, so that all else of it can be checked or shown."""
    return _changed(table, lambda key, _: STAND_INS.get(key, "secret"))


def filled(table: Mapping[str, object], read: Read) -> dict[str, object]:
    """Return a table with its secrets. Raises: NoSecret."""
    return _changed(table, lambda _, value: str(value.get("prefix", "")) + read(str(value["secret"])))


def values(table: Mapping[str, object], read: Read) -> list[str]:
    """Return the secrets of a table that can be had, to be hidden."""
    found = []
    for _, value in _references(table):
        assert isinstance(value, Mapping)
        try:
            found.append(read(str(value["secret"])))
        except secret.NoSecret:
            continue  # what nobody can read is in no text
    return found


def _references(table: Mapping[str, object]) -> list[tuple[str, object]]:
    found = [(key, value) for key, value in table.items() if key in STAND_INS and is_reference(value)]
    headers = table.get(_HEADERS)
    if isinstance(headers, Mapping):
        found += [(f"{_HEADERS}.{name}", value) for name, value in headers.items() if is_reference(value)]
    return found


def _changed(table: Mapping[str, object], change: Callable[[str, Mapping[str, object]], str]) -> dict[str, object]:
    changed = dict(table)
    for key, value in _references(table):
        assert isinstance(value, Mapping)
        if key in STAND_INS:
            changed[key] = change(key, value)
        else:
            name = key.removeprefix(f"{_HEADERS}.")
            headers = changed[_HEADERS]
            assert isinstance(headers, Mapping)
            changed[_HEADERS] = {**headers, name: change(key, value)}
    return changed
