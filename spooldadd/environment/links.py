"""Where symbolic links lead, told before any of them exists. Pure, apart from reading links that are there already.

A link is judged by where the kernel would end, not by its text: `a/b/c -> ../..` stays inside, but then `a/b/c/../x`
leaves. So every step is resolved, through the links of the archive and those that stand in the directory already.
"""

from __future__ import annotations

import os
from typing import Final

from spooldadd.errors import BuildError

# Linux gives up at 40 links in one path.
MAX_STEPS: Final = 40


def read_links(root: str) -> dict[str, str]:
    """Return the symbolic links below a directory: their paths relative to it, and their targets."""
    found = {}
    for place, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = os.path.join(place, name)
            if os.path.islink(path):
                found[os.path.relpath(path, root)] = os.readlink(path)
    return found


def check_links(links: dict[str, str], culprits: dict[str, str]) -> None:
    """Refuse links that lead out of the root that their paths are relative to.

    `culprits` says for each path how the member is called in the archive; a path that is not in it stood there before.
    Raises: `BuildError` that names the member.
    """
    for path, target in links.items():
        name = culprits.get(path, path)
        if target.startswith("/") or "\0" in target:
            _refuse(name, target)
        try:
            _resolve(_parts(os.path.dirname(path)), target, links)
        except _Leaves:
            _refuse(name, target)


class _Leaves(Exception):
    pass


def _refuse(name: str, target: str) -> None:
    raise BuildError(f"`{name}` is a link to `{target}`, which leaves the directory: refused")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _resolve(start: list[str], target: str, links: dict[str, str]) -> None:
    """Walk a target as the kernel does. Raises: `_Leaves` where it steps above the root, or goes in circles."""
    here = list(start)
    todo = _parts(target)[::-1]
    steps = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if not here:
                raise _Leaves
            here.pop()
            continue
        here.append(part)
        onward = links.get("/".join(here))
        if onward is None:
            continue
        steps += 1
        if steps > MAX_STEPS or onward.startswith("/"):
            raise _Leaves
        here.pop()
        todo.extend(_parts(onward)[::-1])
