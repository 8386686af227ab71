"""The bounds that a spec's values keep, for the models and for those that look at a spec without them. Light."""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`, which costs a reader of specs more than all of this
if TYPE_CHECKING:
    from typing import Final

# A spec is read whole into a worker that holds thousands of them, and parsing takes about a second a megabyte. Large
# specs seen in practice carry some hundred kilobytes of settings; data belongs in files.
MAX_SPEC_BYTES: Final = 2**20
NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
# The kernel takes no single argument or variable longer than 128 KiB with its end (MAX_ARG_STRLEN, execve(2)).
MAX_WORD_BYTES: Final = 131_071
# Below this, no program of today can even start, and the limit would only produce riddles.
MIN_MEMORY_BYTES: Final = 2**20
INTEGERS: Final = range(-(2**63), 2**63)  # what TOML promises, and what any reader of JSON takes
LOWEST_PRIORITY: Final = -1_000_000
HIGHEST_PRIORITY: Final = 1_000_000
MOST_ATTEMPTS: Final = 1000
DEFAULT_QUEUE: Final = "default"
# What opens a template: with one of these a text is more than itself to Jinja2.
MARKS: Final = ("{{", "{%", "{#")


def has_template(text: str) -> bool:
    """Tell whether a text is more than itself to Jinja2."""
    return any(mark in text for mark in MARKS)
