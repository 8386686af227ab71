"""What an environment consists of: the sum of each file, checked against what the packages say, and kept for `verify`.

Standard library only.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Final

from spooldadd.environment.edits import EDITED, MANIFEST, MARKER
from spooldadd.errors import BuildError

_OWN: Final = frozenset({MANIFEST, MARKER, EDITED})


def write(root: str) -> int:
    """Note every file and link of a tree in its `manifest.json`; return the sum of the sizes in bytes."""
    found = _read_tree(root)
    with open(os.path.join(root, MANIFEST), "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "files": found}, file)
    return sum(size for _, size in found.values())


def first_difference(root: str) -> str:
    """Say what is not as it was written, or nothing."""
    try:
        with open(os.path.join(root, MANIFEST), encoding="utf-8") as file:
            wanted = {path: tuple(told) for path, told in json.load(file)["files"].items()}
    except (OSError, ValueError, KeyError) as error:
        return f"its `{MANIFEST}` cannot be read: {error}"
    found = _read_tree(root)
    for path in sorted(wanted.keys() | found.keys()):
        if path not in found:
            return f"`{path}` is missing"
        if path not in wanted:
            return f"`{path}` was added"
        if wanted[path] != found[path]:
            return f"`{path}` was changed"
    return ""


def check_records(root: str) -> None:
    """Compare the installed files with the RECORD of each package. Raises: `BuildError` with package and file.

    Source: PyPA's "Recording installed projects". Installers copy files without looking at these sums.
    """
    for site, name in _packages(root):
        path = os.path.join(site, name, "RECORD")
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
        except FileNotFoundError:
            continue  # not every installer writes one
        except (OSError, ValueError, csv.Error) as error:
            raise BuildError(f"the RECORD of `{name}` cannot be read: {error}") from error
        for row in rows:
            _check_row(root, site, name, row)


def _packages(root: str) -> Iterator[tuple[str, str]]:
    for place, directories, _ in os.walk(os.path.join(root, "lib")):
        if os.path.basename(place) == "site-packages":
            yield from ((place, name) for name in sorted(directories) if name.endswith(".dist-info"))
            directories.clear()


def _check_row(root: str, site: str, package: str, row: list[str]) -> None:
    if not row or not row[0]:
        return
    name, told = row[0], row[1] if len(row) > 1 else ""
    path = os.path.normpath(os.path.join(site, name))
    if not path.startswith(root + os.sep):
        raise BuildError(f"`{package}` lists `{name}`, which is outside of the environment")
    if not os.path.lexists(path):
        raise BuildError(f"`{package}` is broken: its file `{name}` is missing")
    kind, _, wanted = told.partition("=")
    if kind in hashlib.algorithms_guaranteed and _sum(path, kind) != wanted.rstrip("="):
        raise BuildError(f"`{package}` is broken: `{name}` is not what its RECORD says")


def _sum(path: str, kind: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, kind).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _read_tree(root: str) -> dict[str, tuple[str, int]]:
    found = {}
    for place, directories, files in os.walk(root):
        for name in (*files, *(name for name in directories if os.path.islink(os.path.join(place, name)))):
            path = os.path.join(place, name)
            relative = os.path.relpath(path, root)
            if relative not in _OWN:
                found[relative] = _describe(path)
    return found


def _describe(path: str) -> tuple[str, int]:
    if os.path.islink(path):
        return f"link to {os.readlink(path)}", 0
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
