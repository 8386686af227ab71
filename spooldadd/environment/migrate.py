"""Dadd's specs, in JSON or YAML, as specs of ours, and for each key what became of it. Pure.

Source: the keys as Dadd's own worker reads them: `cmd` (split like a shell would, `$APP_SETTINGS` replaced),
`download_urls`, `config`, `python_deps` (each an argument list for pip), `python_cheeseshop`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from spooldadd import tomltext
from spooldadd.errors import SpecError

SETTINGS: Final = "$APP_SETTINGS"
_VENV_PYTHON: Final = re.compile(r"(?:\./)?(?:[\w.-]*venv[\w.-]*|dadd-pyenv)/bin/([\w.-]+)")
_TEMPLATE: Final = re.compile(r"{[{%#]")


@dataclass(frozen=True)
class Note:
    """What became of one key."""

    key: str
    became: str


@dataclass
class Migration:
    """The new spec, and the notes."""

    table: dict[str, object] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def to_toml(self) -> str:
        """Write the new spec, with the notes as comments on top."""
        lines = [f"# {note.key}: {note.became}" for note in self.notes]
        return "\n".join([*lines, "", tomltext.dumps(self.table).strip("\n"), ""])

    def note(self, key: str, became: str) -> None:
        """Say what became of a key."""
        self.notes.append(Note(key, " ".join(became.split())))


def read_old(text: str, name: str) -> dict[str, object]:
    """Read JSON, else YAML. Raises: `SpecError`."""
    try:
        told = json.loads(text)
    except ValueError as error:
        if name.endswith(".json"):
            raise SpecError(f"`{name}` is no JSON: {error}") from error
        told = _yaml(text, name)
    if not isinstance(told, dict):
        raise SpecError(f"`{name}` holds no table of keys, so it is no spec of Dadd")
    return told


def _yaml(text: str, name: str) -> object:
    try:
        import yaml  # only migration needs it, so it is an extra
    except ImportError as error:
        raise SpecError(f"`{name}` is no JSON, and YAML needs the `pyyaml` package; install `spooldadd[migrate]`") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"`{name}` is neither JSON nor YAML: {error}") from error


def migrate(old: Mapping[str, object]) -> Migration:
    """Return the new spec and the notes. Raises: `SpecError` where a value is not what Dadd takes."""
    made = Migration()
    steps = {
        "cmd": _command,
        "download_urls": _files,
        "python_cheeseshop": _index,
        "python_deps": _requirements,
        "config": _config,
    }
    if "cmd" not in old:
        raise SpecError("there is no `cmd`, so it is no spec of Dadd")
    for key, step in steps.items():
        if old.get(key) not in (None, "", [], {}):
            step(made, old[key])
        elif key in old:
            made.note(key, "is empty, left out")
    for key in old:
        if key not in steps:
            made.note(key, _left_out(key))
    return made


def _left_out(key: str) -> str:
    if key == "process_id":
        return "left out: it was Dadd's own number of this process; a job's id is made when it is claimed"
    return "left out: Dadd's worker did not read it either; put it under `[vars]` or `[config]` if the job wants it"


def _command(made: Migration, cmd: object) -> None:
    if isinstance(cmd, str):
        try:
            parts = shlex.split(cmd)
        except ValueError as error:
            raise SpecError(f"`cmd` cannot be split into words: {error}") from error
    elif isinstance(cmd, list) and all(isinstance(part, str) for part in cmd):
        parts = cmd
    else:
        raise SpecError("`cmd` must be a text or a list of texts")
    notes = ["`command`, a list: it runs without a shell, as Dadd ran it"]
    match = _VENV_PYTHON.fullmatch(parts[0])
    if match:
        notes.append(f"`{parts[0]}` became `{match[1]}`: the environment's programs are on PATH")
        parts = [match[1], *parts[1:]]
    if SETTINGS in parts:
        words = ('"$APP_SETTINGS_JSON"' if part == SETTINGS else shlex.quote(part) for part in parts)
        made.table["command"] = _literal(" ".join(words))
        notes[0] = "`command`, a text for the shell, which puts in what `$APP_SETTINGS` stood for"
    else:
        made.table["command"] = [_literal(part) for part in parts]
    made.note("cmd", "; ".join(notes))


def _literal(text: str) -> str:
    """Keep what would now be a template."""
    return f"{{% raw %}}{text}{{% endraw %}}" if _TEMPLATE.search(text) else text


def _files(made: Migration, urls: object) -> None:
    if isinstance(urls, str):
        urls = [urls]
    if isinstance(urls, list):
        files = [{"url": str(url)} for url in urls]
        made.note("download_urls", "`[[files]]`, each under the last part of its URL")
    elif isinstance(urls, dict):
        files = [{"url": str(url), "path": str(path)} for path, url in urls.items()]
        made.note("download_urls", "`[[files]]`, each with its `path`; add `sha256` to fetch one only once")
    else:
        raise SpecError("`download_urls` must be a list of URLs, or a table of file names and URLs")
    made.table["files"] = files


def _python(made: Migration) -> dict[str, object]:
    table = made.table.setdefault("python", {})
    assert isinstance(table, dict)
    return table


def _index(made: Migration, url: object) -> None:
    if not isinstance(url, str):
        raise SpecError("`python_cheeseshop` must be a URL")
    _python(made)["index_url"] = url
    made.note("python_cheeseshop", "`index_url` in `[python]`")


def _requirements(made: Migration, deps: object) -> None:
    lines = [deps] if isinstance(deps, str) else deps
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise SpecError("`python_deps` must be a text or a list of texts")
    wanted = _Wanted()
    for line in lines:
        _read_arguments(line, wanted)
    table = _python(made)
    others = [url for url in wanted.indexes if table.setdefault("index_url", url) != url]
    if wanted.further or others:
        table["extra_index_urls"] = list(dict.fromkeys([*wanted.further, *others]))
    if wanted.only_binary:
        table["only_binary"] = True
    _set_requirements(table, wanted)
    made.note("python_deps", "; ".join(["`requirements` in `[python]`, resolved together", *wanted.notes]))


def _set_requirements(table: dict[str, object], wanted: _Wanted) -> None:
    if wanted.files and not wanted.requirements and len(wanted.files) == 1:
        table["requirements"] = wanted.files[0]
        return
    table["requirements"] = wanted.requirements
    for name in wanted.files:
        wanted.notes.append(f"`-r {name}` is left out: put its lines into the list")


@dataclass
class _Wanted:
    requirements: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    only_binary: bool = False
    notes: list[str] = field(default_factory=list)


def _read_arguments(line: str, wanted: _Wanted) -> None:
    """Read one entry as pip's arguments, as Dadd did: options and requirements in any order."""
    places = {
        "-i": wanted.indexes,
        "--index-url": wanted.indexes,
        "--extra-index-url": wanted.further,
        "-r": wanted.files,
        "--requirement": wanted.files,
    }
    words = _words(line)
    while words:
        word = words.pop(0)
        option, found, value = word.partition("=")
        if word in places and words:
            places[word].append(words.pop(0))
        elif option in places and found:
            places[option].append(value)
        elif option == "--only-binary":
            words = words if found else words[1:]
            wanted.only_binary = True
        elif word.startswith("-"):
            wanted.notes.append(f"the option `{word}` is left out")
        else:
            wanted.requirements.append(word)


def _words(line: str) -> list[str]:
    """Split at spaces, but keep a marker with its requirement, and a version with its name."""
    if ";" in line:
        return [line.strip()]
    joined = re.sub(r"\s*(~=|===|==|!=|<=|>=|<|>|,)\s*", r"\1", line)
    joined = re.sub(r"\s*@\s*(?=\S+:)", "@", joined)
    return joined.split()


def _config(made: Migration, config: object) -> None:
    if not isinstance(config, dict):
        raise SpecError("`config` must be a table")
    dropped: list[str] = []
    made.table["config"] = _without_none(config, "config", dropped)
    notes = ["`[config]`; the job finds it where Dadd put it: `APP_SETTINGS_JSON` names a JSON file"]
    if dropped:
        notes.append(f"left out, because TOML knows no null: {', '.join(f'`{key}`' for key in dropped)}")
    made.note("config", "; ".join(notes))


def _without_none(value: object, path: str, dropped: list[str]) -> object:
    if isinstance(value, dict):
        kept = {}
        for key, inner in value.items():
            if inner is None:
                dropped.append(f"{path}.{key}")
            else:
                kept[str(key)] = _without_none(inner, f"{path}.{key}", dropped)
        return kept
    if isinstance(value, list):
        dropped += [path] if None in value else []
        return [_without_none(inner, path, dropped) for inner in value if inner is not None]
    return _literal(value) if isinstance(value, str) else value
