"""Decide the sandbox of one job: what its spec wishes, and at least what the node's configuration says.

A spec can tighten what the node says, never loosen it: to try is an error that names both. Where neither wishes anything
there is no sandbox.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from typing import Final

from spooldadd import layout, mark
from spooldadd.config import Config
from spooldadd.confine import Rules
from spooldadd.errors import SpoolError
from spooldadd.problems import Problem
from spooldadd.spec import InvalidSpec, Spec
from spooldadd.spec.models import Sandbox

# From what leaves all open to what is closed; a number is how tight it is.
LEVELS: Final[dict[str, tuple[object, ...]]] = {
    "network": (True, False),
    "system": ("writable", "read-only"),
    "tmp": ("shared", "private"),
    "processes": ("shared", "private"),
    "home": ("writable", "read-only", "hidden"),
}
# What a read-only system means for keys that say nothing themselves.
FOLLOWING: Final = {"tmp": "private", "home": "read-only"}
_TEMPORARY: Final = ("/tmp", "/var/tmp")


def rules_of(
    spec: Spec, config: Config, root: str, *, hidden: Iterable[str] = (), shown: Iterable[str] = (), home: str | None = None
) -> Rules | None:
    """Return the sandbox of a job, or None where it has none. Raises: InvalidSpec where it asks for less than the node.

    `home` is the directory of whom the job runs as, unset that of our own user; `hidden` are the node's own files and
    directories, `shown` what the job needs of them.
    """
    floor, wish = config.sandbox, spec.sandbox
    home = home_dir() if home is None else os.path.realpath(home)
    problems = _loosened(spec, config)
    least, wished = levels_of(floor), levels_of(wish)
    levels = {key: max(least[key], wished[key]) for key in LEVELS}
    if not any(levels.values()):
        return None
    rules = Rules()
    for key, level in levels.items():
        setattr(rules, key, LEVELS[key][level])
    rules.home_dir = home
    rules.root = root if _is_spool(root) else ""
    rules.read = [_expanded(path, home) for path in (*floor.read, *wish.read)]
    rules.write = [_expanded(path, home) for path in (*floor.write, *wish.write)]
    rules.hidden, rules.shown = [path for path in hidden if path], [path for path in shown if path]
    own_paths = _of_the_node(spec, rules)
    told = {(problem.line, problem.column) for problem in own_paths}  # once is enough
    opened = [problem for problem in _opened(spec, config, home) if (problem.line, problem.column) not in told]
    problems += [*opened, *own_paths, *_files(spec)]
    if problems:
        raise InvalidSpec(tuple(problems), spec.source.name)
    return rules


def levels_of(table: Sandbox) -> dict[str, int]:
    """Return how tight each key of a table is, as `LEVELS` counts; one that says nothing follows a read-only system."""
    return {key: _level(table, key) for key in LEVELS}


def home_dir() -> str:
    """Return the home directory of the user whose jobs run here; what `HOME` says could be set by anybody."""
    try:
        return os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return ""


def _level(table: Sandbox, key: str) -> int:
    value = getattr(table, key)
    if value is None and table.system == "read-only":
        value = FOLLOWING.get(key)
    return 0 if value is None else LEVELS[key].index(value)


def _loosened(spec: Spec, config: Config) -> list[Problem]:
    problems = []
    for key, choices in LEVELS.items():
        wanted = getattr(spec.sandbox, key)
        least = _level(config.sandbox, key)
        if wanted is None or choices.index(wanted) >= least:
            continue
        own = getattr(config.sandbox, key)
        said = key if own is not None else "system"
        where = config.origins.get(f"sandbox.{said}", config.file or "its configuration")
        least_said = f"node `{config.node}`: `sandbox.{said} = {written(own if own is not None else config.sandbox.system)}`"
        message = f"`sandbox.{key} = {written(wanted)}` would loosen the sandbox of {least_said}"
        hint = f"leave the key out, or make it tighter; the node's is set in {where}"
        problems.append(spec.source.problem(("sandbox", key), message, hint))
    return problems


def _opened(spec: Spec, config: Config, home: str) -> list[Problem]:
    """Find the paths of a spec that would open what the node closes."""
    floor = config.sandbox
    may_write = [_expanded(path, home) for path in floor.write]
    may_read = [*may_write, *(_expanded(path, home) for path in floor.read)]
    closed = [home] if _level(floor, "home") == 2 else []
    closed += _TEMPORARY if _level(floor, "tmp") else []
    no_write = ["/"] if _level(floor, "system") else [home] if _level(floor, "home") else []
    problems = []
    for key, paths, within, shut in (
        ("read", spec.sandbox.read, may_read, closed),
        ("write", spec.sandbox.write, may_write, [*no_write, *closed]),
    ):
        for index, path in enumerate(_expanded(path, home) for path in paths):
            if _is_below_any(path, shut) and not _is_below_any(path, within):
                message = f"`sandbox.{key}` would open `{path}`, which the sandbox of node `{config.node}` closes"
                hint = f"the node's configuration can allow it: `sandbox.{key}` there"
                problems.append(spec.source.problem(("sandbox", key, index), message, hint))
    return problems


def _of_the_node(spec: Spec, rules: Rules) -> list[Problem]:
    """Refuse paths in what a sandbox always hides: the spool, and the node's own."""
    own = [os.path.realpath(path) for path in (*rules.hidden, rules.root) if path]
    problems = []
    for key in ("read", "write"):
        for index, path in enumerate(_expanded(path, rules.home_dir) for path in getattr(spec.sandbox, key)):
            if _is_below_any(path, own):
                message = f"`sandbox.{key}` names `{path}`, which is the spool's or the node's own and hidden in a sandbox"
                problems.append(spec.source.problem(("sandbox", key, index), message, "name another place"))
    return problems


def _files(spec: Spec) -> list[Problem]:
    """A file of the node or of the spool would be copied by the worker, whatever the sandbox hides."""
    problems = []
    for index, entry in enumerate(spec.files):
        if entry.url and entry.url.lower().startswith("file:"):
            message = "a job in a sandbox takes no `file:` URL"
            problems.append(spec.source.problem(("files", index, "url"), message, "name the file in `sandbox.read`"))
        top = os.path.normpath(entry.source or "").split("/")[0]
        if top in layout.ROOT_ENTRIES or top.startswith(layout.INBOX):
            message = f"a job in a sandbox takes nothing from `{top}/` of the spool, which it does not see"
            problems.append(spec.source.problem(("files", index, "source"), message, "put the file beside the spec"))
    return problems


def _expanded(path: str, home: str) -> str:
    return os.path.realpath(home + path[1:] if path == "~" or path.startswith("~/") else path)


def _is_below_any(path: str, directories: Iterable[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in directories if one)


def _is_spool(root: str) -> bool:
    try:
        mark.read(root)
    except SpoolError:
        return False
    return True


def written(value: object) -> str:
    """Return a value as a file of TOML has it."""
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'
