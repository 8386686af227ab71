"""A Python script as a spec: inline metadata (PEP 723) and a `[tool.spooldadd]` table for all other keys. Pure.

    # /// script
    # requires-python = ">=3.11"
    # dependencies = ["pandas==2.3.*"]
    #
    # [tool.spooldadd]
    # queue = "etl"
    # limits.timeout = "2h"
    # ///

The script travels in the spec itself, as the content of a file: what was dropped is what runs.

Source: "Inline script metadata" of the Python packaging specifications, with its reference expression.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spooldadd import tomlpos
from spooldadd.errors import SpecError
from spooldadd.tomlpos import Path, Place

_BLOCK: Final = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
# Where the standard's keys go, and the table that holds ours.
_MOVED: Final[dict[Path, Path]] = {
    ("requires-python",): ("python", "version"),
    ("dependencies",): ("python", "requirements"),
    ("tool", "spooldadd"): (),
}
_AT: Final = re.compile(r"\(at line (\d+), column (\d+)\)")


@dataclass(frozen=True)
class Script:
    """A script read as a spec."""

    table: dict[str, object]
    places: dict[Path, Place]  # of the table's keys, in the script


def read_script(data: bytes, name: str, arguments: Sequence[str] = ()) -> Script:
    """Read a script with this file name; its command gets the arguments, unless the metadata says another command.

    Raises: `SpecError` with the line, where there is no block, more than one, or one that is no TOML or contradicts itself.
    """
    text = _decoded(data)
    blocks = [match for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if len(blocks) != 1:
        count = "no" if not blocks else f"{len(blocks)} times"
        raise SpecError(f"`{name}` has {count} inline metadata; one block `# /// script` to `# ///` makes a script a spec")
    first_line = text.count("\n", 0, blocks[0].start("content"))
    content = blocks[0]["content"].splitlines()
    told = _parsed(name, content, first_line)
    base = os.path.basename(name)
    table = _table(told, name)
    table.setdefault("name", base.removesuffix(".py"))
    table.setdefault("command", ["python", base, *arguments])
    files = table.setdefault("files", [])
    if not isinstance(files, list):
        raise SpecError(f"`{name}`: `files` in `[tool.spooldadd]` must be a list of tables, `[[tool.spooldadd.files]]`")
    table["files"] = [{"path": base, "content": text}, *files]
    return Script(table, _places(content, first_line))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"line {line}: the script is not UTF-8") from error


def _parsed(name: str, content: list[str], first_line: int) -> dict[str, object]:
    toml = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in content)
    try:
        return tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        line, column = (int(at[1]) + first_line, int(at[2]) + 2) if at else (first_line + len(content), 1)
        message = _AT.sub("", str(error)).strip()
        raise SpecError(f"`{name}`, line {line}, column {column}: {message}") from error


def _table(told: dict[str, object], name: str) -> dict[str, object]:
    """Put the standard's keys where a spec has them."""
    tools = told.get("tool", {})
    own = tools.get("spooldadd", {}) if isinstance(tools, dict) else {}
    python = own.get("python", {}) if isinstance(own, dict) else {}
    if not isinstance(own, dict) or not isinstance(python, dict):
        raise SpecError(f"`{name}`: `tool.spooldadd` and its `python` must be tables")
    for key, new in (("requires-python", "version"), ("dependencies", "requirements")):
        if key not in told:
            continue
        if new in python:
            raise SpecError(f"`{name}` says both `{key}` and `tool.spooldadd.python.{new}`; keep one of the two")
        python = {**python, new: told[key]}
    # A script without dependencies still asks for an interpreter of its own: what is installed for the worker is not its.
    return {**own, "python": python}


def _places(content: list[str], first_line: int) -> dict[Path, Place]:
    """Find each key in the script: the block is put where it stands, its `# ` as two spaces, so places stay true."""
    block = [line.replace("#", " ", 1) for line in content]
    found = {}
    for path, place in tomlpos.positions("\n" * first_line + "\n".join(block)).items():
        for old, new in _MOVED.items():
            if path[: len(old)] == old:
                rest = path[len(old) :]
                found[_shifted((*new, *rest))] = place
    return found


def _shifted(path: Path) -> Path:
    """The script itself is the first of the files."""
    if len(path) > 1 and path[0] == "files" and isinstance(path[1], int):
        return ("files", path[1] + 1, *path[2:])
    return path
