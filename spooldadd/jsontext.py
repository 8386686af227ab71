"""Write JSON as `json.dumps(value, indent=2, default=str)` does, character by character. Light: reading commands load it.

`json` reads JSON as well, and for that imports `re` and `enum`: with them `status --json` would take half as long again.
"""

from __future__ import annotations

from _json import encode_basestring_ascii as quoted

_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def dumps(value: object, line: str = "\n") -> str:
    """Return a value as JSON; `line` is what a new line begins with. What JSON has no form for is written as its `str`."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        return _NUMBERS.get(text, text)
    inner = f"{line}  "
    if isinstance(value, dict):
        return _enclosed("{", [f"{quoted(_key(key))}: {dumps(part, inner)}" for key, part in value.items()], "}", line)
    if isinstance(value, (list, tuple)):
        return _enclosed("[", [dumps(part, inner) for part in value], "]", line)
    return quoted(str(value))


def _key(key: object) -> str:
    return key if isinstance(key, str) else dumps(key)


def _enclosed(start: str, parts: list[str], end: str, line: str) -> str:
    inner = f"{line}  "
    return f"{start}{inner}{f',{inner}'.join(parts)}{line}{end}" if parts else start + end
