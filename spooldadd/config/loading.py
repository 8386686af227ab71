"""Find the configuration's file, read it, put environment and options on top, and check the whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import Final

from spooldadd.config.models import Config, Provenance, default_cache_dir, default_work_dir, home, user_dir
from spooldadd.config.overrides import Override, from_environ, from_options
from spooldadd.errors import ConfigError
from spooldadd.problems import Problem, dotted, in_order, summary
from spooldadd.reading import Source, Unreadable, read, validate
from spooldadd.tomlpos import Path

# A configuration of thousands of queues has some ten kilobytes: more than this is the wrong file.
MAX_CONFIG_BYTES: Final = 2**20
_NO_FILE: Final = "configuration"


class InvalidConfig(ConfigError):
    """The configuration cannot be used. `problems` holds everything that is wrong; the message is one sentence."""

    def __init__(self, problems: Iterable[Problem], source: str) -> None:
        self.problems = in_order(problems)
        self.source = source
        super().__init__(summary(self.problems, source))


def find_config(spool: str | os.PathLike[str] | None, *, environ: Mapping[str, str], uid: int) -> FilePath | None:
    """Find the file: what `SPOOLDADD_CONFIG` names, the spool's own, then the system's for root or else the user's.

    Raises: `ConfigError` where `SPOOLDADD_CONFIG` names a file that is not there.
    """
    if named := environ.get("SPOOLDADD_CONFIG"):
        if not os.path.exists(named):
            raise ConfigError(f"`SPOOLDADD_CONFIG` names `{named}`, which is not there; create it or unset the variable")
        return FilePath(named)
    return next((place for place in _places(spool, environ, uid) if os.path.exists(place)), None)


def _places(spool: str | os.PathLike[str] | None, environ: Mapping[str, str], uid: int) -> list[FilePath]:
    of_spool = [FilePath(spool, ".spool", "worker.toml")] if spool is not None else []
    directory = "/etc" if uid == 0 else user_dir(environ, "XDG_CONFIG_HOME", ".config")
    return [*of_spool, FilePath(directory, "spooldadd", "spooldadd.toml")]


def load(
    path: str | os.PathLike[str] | None, *, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Config:
    """Read the configuration; without a path, defaults, environment and options alone make it.

    `overrides` holds options by dotted key, such as `{"jobs": 4}`; a value of None was not given. The result knows its
    `warnings` and the `origins` of its values.

    Raises: `InvalidConfig` with all problems; `ConfigError` where the file cannot be read.
    """
    name = _NO_FILE if path is None else os.fspath(path)
    data = b"" if path is None else _bytes_of(name)
    try:
        source, table = read(data, name, max_bytes=MAX_CONFIG_BYTES)
    except Unreadable as error:
        raise InvalidConfig(error.problems, name) from error
    return _checked(source, table, environ, from_options(overrides or {}))


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the configuration `{path}` cannot be read: {error.strerror}") from error


def _checked(source: Source, table: dict[str, object], environ: Mapping[str, str], options: list[Override]) -> Config:
    found = from_environ(environ, table)
    overrides = [*found.overrides, *options]
    merged = _with_overrides(table, overrides)
    merged.setdefault("work_dir", default_work_dir(environ, os.getuid()))
    merged.setdefault("cache_dir", default_cache_dir(environ, os.getuid()))
    for key in ("work_dir", "cache_dir", "secrets_dir"):
        if key in merged:
            merged[key] = _without_tilde(merged[key], environ)
    for part, keys in (("mail", ("templates", "outbox")), ("trust", ("allowed_signers", "revoked_signers"))):
        inner = merged.get(part)
        if isinstance(inner, dict):
            inner |= {key: _without_tilde(inner[key], environ) for key in keys if key in inner}
    try:
        config = validate(Config, merged, source)
    except Unreadable as error:
        blamed = [_blamed(problem, overrides) for problem in error.problems]
        raise InvalidConfig([*found.problems, *blamed], source.name) from error
    if found.problems:
        raise InvalidConfig(found.problems, source.name)
    file = "" if source.name == _NO_FILE else os.path.abspath(source.name)
    return config.with_provenance(Provenance(_origins(source, table, overrides), tuple(found.warnings), file))


def _with_overrides(table: dict[str, object], overrides: Iterable[Override]) -> dict[str, object]:
    merged = _copied(table)
    for path, value, _ in overrides:
        _put(merged, path, value)
    return merged


def _copied(table: dict[str, object]) -> dict[str, object]:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in table.items()}


def _put(table: dict[str, object], path: Path, value: object) -> None:
    for part in path[:-1]:
        inner = table.setdefault(str(part), {})
        if not isinstance(inner, dict):
            return  # the file has no table there, which the check reports
        table = inner
    table[str(path[-1])] = value


def _without_tilde(directory: object, environ: Mapping[str, str]) -> object:
    if isinstance(directory, str) and (directory == "~" or directory.startswith("~/")):
        return home(environ) + directory[1:]
    return directory


def _blamed(problem: Problem, overrides: Iterable[Override]) -> Problem:
    """Name the variable or the option where the value did not come from the file."""
    for path, _, origin in overrides:
        key = dotted(path)
        if problem.key == key or problem.key.startswith((f"{key}.", f"{key}[")):
            return Problem(problem.message, problem.key, hint=problem.hint, origin=origin)
    return problem


def _origins(source: Source, table: dict[str, object], overrides: Iterable[Override]) -> dict[str, str]:
    origins = {dotted(path): f"{source.name}:{place.line}" for path, place in source.places.items()} if table else {}
    return origins | {dotted(path): origin for path, _, origin in overrides}
