"""The forms that a spec can have, told by its file's name: a TOML file, a script, a bundle. Light: readers load it.

A script is a Python file with inline metadata (PEP 723). A Python file without is none: it may lie in a spool because
another spec names it. So for scripts alone the name is not enough, and the beginning of the file is looked at.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOML, SCRIPT, BUNDLE = ".toml", ".py", ".tar"
SUFFIXES = (TOML, SCRIPT, BUNDLE)
OPENING, CLOSING = "# /// script", "# ///"
# The metadata stand at the top of a script by custom. Readers of a spool look at every waiting script, so they look no
# further than this: 20 us each.
HEAD_BYTES = 64 * 1024
_TYPE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_MARK = b"\xef\xbb\xbf"  # a byte order mark


def is_script(name: str) -> bool:
    """Tell whether a spec of this name is a Python script."""
    return name.endswith(SCRIPT)


def is_bundle(name: str) -> bool:
    """Tell whether a spec of this name is a bundle: a tar of the spec and its files."""
    return name.endswith(BUNDLE)


def opens_block(data: bytes) -> bool:
    """Tell whether a line of this text opens inline script metadata, well or not: whoever wrote it meant a spec."""
    opening = OPENING.encode()
    return opening in data and any(line.rstrip() == opening for line in data.removeprefix(_MARK).split(b"\n"))


def script_head(path: str) -> bytes | None:
    """Return the beginning of a Python file; None for what is no regular file, or cannot be read. Waits for nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, HEAD_BYTES)
    except OSError:  # a directory
        return None
    finally:
        os.close(fd)


def is_meant(path: str, bare_name: str) -> bool:
    """Tell whether a file of this path is a spec, where one of this name may be. Opens scripts, and nothing else."""
    return not is_script(bare_name) or opens_block(script_head(path) or b"")


class Block:
    """Inline metadata in the lines of a script: the lines between its marks, counted from 0, as TOML."""

    __slots__ = ("first", "kind", "lines")

    def __init__(self, kind: str, first: int, lines: Sequence[str]) -> None:
        self.kind = kind
        self.first = first
        self.lines = lines

    def toml(self) -> str:
        """Return what stands in it, without the comment signs."""
        return "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in self.lines)


def blocks(text: str) -> Iterator[Block]:
    """Find the blocks of inline metadata in a script, of whatever kind, in a time that grows with its length only.

    Source: "Inline script metadata" of the Python packaging specifications. Their reference expression takes the last
    closing line of a run of comments, and so does this; it takes minutes on a megabyte of opening lines. An empty block,
    which they leave open, is one.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    at = 0
    while at < len(lines):
        kind = _opened(lines[at])
        if kind is None:
            at += 1
            continue
        end = at + 1
        while end < len(lines) and (lines[end] == "#" or lines[end].startswith("# ")):
            end += 1
        closing = _last(lines, at + 1, end)
        if closing is None:
            at = end
            continue
        yield Block(kind, at + 1, lines[at + 1 : closing])
        at = closing + 1


def _opened(line: str) -> str | None:
    start = f"{CLOSING} "
    kind = line.removeprefix(start)
    return kind if line.startswith(start) and kind and _TYPE.issuperset(kind) else None


def _last(lines: Sequence[str], start: int, end: int) -> int | None:
    return next((at for at in range(end - 1, start - 1, -1) if lines[at] == CLOSING), None)
