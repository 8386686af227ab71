"""Know that a spec is right without the models, where it is so simple that one look tells. Pure, and quick to import.

The models take ten times as long to come up as all the rest of `submit`. This is no second validator: it says *yes* or *I do
not know*, and then the models are asked; it refuses nothing and has no words for what is wrong. Whatever it says yes to, the
models take as well, which a test shows over arbitrary tables; so a key that it does not know costs time and nothing else.
"""

from __future__ import annotations

import re

from spooldadd.bounds import (
    HIGHEST_PRIORITY,
    INTEGERS,
    LOWEST_PRIORITY,
    MAX_WORD_BYTES,
    MIN_MEMORY_BYTES,
    MOST_ATTEMPTS,
    NAME_PATTERN,
    has_template,
)

TYPE_CHECKING = False  # not from `typing`, which costs a reader of specs more than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def is_plain(table: Mapping[str, object]) -> bool:
    """Tell whether this data of a TOML file is surely a valid spec, without templates, files and conditions on nodes."""
    return "command" in table and _fits(table, _KEYS)


def _fits(table: object, keys: Mapping[str, Callable[[object], bool]]) -> bool:
    return isinstance(table, dict) and all(key in keys and keys[key](value) for key, value in table.items())


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(NAME_PATTERN, value) is not None


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or has_template(value):
        return False
    try:
        value.encode()  # half of a surrogate pair cannot be
    except UnicodeEncodeError:
        return False
    return True


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and "\0" not in value and len(value.encode()) <= MAX_WORD_BYTES


def _is_command(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and value[0] != "" and all(map(_is_word, value))
    return isinstance(value, str) and _is_word(value) and bool(value.strip())


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_scalar(value: object) -> bool:
    """Say nothing of dates."""
    return isinstance(value, (str, float, bool)) or (type(value) is int and value in INTEGERS)


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_environ(value: object) -> bool:
    return isinstance(value, dict) and all(_is_variable(name) and _is_word(text) for name, text in value.items())


def _is_variable(name: str) -> bool:
    return _is_word(name) and name != "" and "=" not in name and not name.startswith("SPOOLDADD_")


def _are_variables(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_scalar, value.values()))


def _is_limits(value: object) -> bool:
    return _fits(value, _LIMITS)


def _is_retry(value: object) -> bool:
    return _fits(value, {"attempts": lambda number: _is_whole(number, 1, MOST_ATTEMPTS)})


def _is_run(value: object) -> bool:
    return _fits(value, {"not_before": _is_moment, "split_output": _is_boolean})


def _is_moment(value: object) -> bool:
    import datetime  # it is there already where a value is one

    return isinstance(value, datetime.datetime) and value.tzinfo is not None


def _is_duration(value: object) -> bool:
    from spooldadd.units import parse_duration  # late, as below: many specs have no quantity

    try:
        parse_duration(value)
    except ValueError:
        return False
    return True


def _is_memory(value: object) -> bool:
    from spooldadd.units import parse_size

    try:
        parse_size(value, at_least=MIN_MEMORY_BYTES)
    except ValueError:
        return False
    return True


_LIMITS = {
    "timeout": _is_duration,
    "stall": _is_duration,
    "kill_after": _is_duration,
    "cpu_time": _is_duration,
    "memory": _is_memory,
    "output": _is_memory,
}
_KEYS: dict[str, Callable[[object], bool]] = {
    "name": _is_name,
    "command": _is_command,
    "queue": _is_name,
    "priority": lambda value: _is_whole(value, LOWEST_PRIORITY, HIGHEST_PRIORITY),
    "restartable": _is_boolean,
    "stdin": _is_text,
    "vars": _are_variables,
    "env": _is_environ,
    "limits": _is_limits,
    "retry": _is_retry,
    "run": _is_run,
}
