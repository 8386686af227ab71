"""Fill the generated sections of the pages from the code: keys, commands, exit codes, variables, events, files, modules.

    python docs/generate.py             write them
    python docs/generate.py --check     change nothing; exit 1 where a section is not current

A section stands between `<!-- generated: NAME -->` and `<!-- /generated -->`; what is around it is written by hand. What the
code cannot say stands in `words.toml` and is held against the code.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import source

import spooldadd
from spooldadd import cli, config, layout, lifecycle, log, spec
from spooldadd.cli import parsers
from spooldadd.config import OTHER_VARIABLES, PREFIX
from spooldadd.spec import KeyDescription

REPOSITORY: Final = Path(__file__).resolve().parents[1]
DOCS: Final = REPOSITORY / "docs"
WORDS: Final[dict[str, Any]] = tomllib.loads((DOCS / "words.toml").read_text(encoding="utf-8"))
_SECTION: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n\n).*?(\n<!-- /generated -->)", re.S)


def hold_against(words: Iterable[str], code: Iterable[str], what: str) -> None:
    """Raise `Forgotten` where the words and the code differ."""
    missing, gone = sorted(set(code) - set(words)), sorted(set(words) - set(code))
    if missing or gone:
        raise source.Forgotten(f"docs/words.toml, {what}: without a word: {missing}; no longer in the code: {gone}")


# -- keys


def spec_keys() -> list[str]:
    """List all keys of a spec."""
    return _key_table(spec.describe())


def configuration_keys() -> list[str]:
    """List all keys of the configuration, with the environment variables that set them."""
    return _key_table(config.describe(), variables=True)


def variable(row: KeyDescription) -> str:
    """Name the environment variable that sets a key; a table is set key by key."""
    return "" if row.type.startswith("table") else f"`{PREFIX}{row.key.upper().replace('.', '__')}`"


def _key_table(rows: list[KeyDescription], *, variables: bool = False) -> list[str]:
    titles, lines = ["key", "holds", "default", "meaning"], []
    for row in rows:
        default = row.default if row.default in ("required", "unset", "empty") else f"`{row.default}`"
        cells = [f"`{row.key}`", row.type, default, row.description]
        lines.append([*cells, variable(row)] if variables else cells)
    return _rows([*titles, "variable"] if variables else titles, lines)


# -- commands


def command_list() -> list[str]:
    """List the commands with their summaries."""
    return _table("command", "does", [(f"[`{name}`](#{name})", cli.COMMANDS[name]) for name in commands()])


def command_pages() -> list[str]:
    """Say everything about each command."""
    return [line for name in commands() for line in ["", *_command(name)]][1:]


def commands() -> Iterator[str]:
    """Yield the commands that are there, in their order."""
    for name in cli.COMMANDS:
        if importlib.util.find_spec(f"spooldadd.cli.{name}_command") is not None:
            yield name


def arguments_of(name: str) -> list[argparse.Action]:
    """Return the arguments of a command as its parser has them, without what all commands take."""
    parser = parsers.command_parser(name, cli.load(name))
    common = {"--spool", "--config", "--help"}
    every = parser._actions  # argparse has no public way to list them
    return [action for action in every if not common & set(action.option_strings) and action.help != argparse.SUPPRESS]


def _command(name: str) -> list[str]:
    parser = parsers.command_parser(name, cli.load(name))
    text, _, examples = (parser.epilog or "").partition("examples:\n")
    lines = [f"## {name}", "", str(parser.description)]
    if text.strip():
        lines += ["", *_prose(text.strip())]
    if arguments := arguments_of(name):
        lines += ["", *_table("argument", "meaning", [(_written(action), _help(action)) for action in arguments])]
    if examples.strip():
        lines += ["", "```text", *(line.removeprefix("  ") for line in examples.rstrip().splitlines()), "```"]
    return lines


def _prose(text: str) -> list[str]:
    """Keep paragraphs as they are; what is indented is meant to be read as it stands."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        is_indented = paragraph.startswith(" ")
        lines += ["", *(["```text", *paragraph.splitlines(), "```"] if is_indented else paragraph.splitlines())]
    return lines[1:]


def _written(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.metavar is None and action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        several = {"*": "[{}…]", "+": "{}…", "?": "[{}]"}.get(str(action.nargs), "{}")
        return f"`{several.format(value)}`"
    names = "`, `".join(action.option_strings)
    return f"`{names}`" if action.nargs == 0 else f"`{names} {value}`"


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")


def exit_codes() -> list[str]:
    """List the exit codes."""
    hold_against(WORDS["exit_codes"], source.exit_code_names(), "exit codes")
    return _table("code", "meaning", sorted((getattr(cli, name), text) for name, text in WORDS["exit_codes"].items()))


# -- environment variables


def job_variables() -> list[str]:
    """List what a job finds in its environment."""
    words = WORDS["variables"]
    ours = {name for name in (*words["job"], *words["command"]) if name.startswith(PREFIX)}
    hold_against(ours - {f"{PREFIX}NODE"}, OTHER_VARIABLES, "variables")
    return _named("variable", "what it holds", words["job"])


def command_variables() -> list[str]:
    """List what commands and workers heed."""
    return _named("variable", "meaning", WORDS["variables"]["command"])


# -- results, events, files


def result_fields() -> list[str]:
    """List the fields of a result and of a job in JSON."""
    hold_against(WORDS["fields"], source.result_fields(), "fields")
    return _named("field", "meaning", WORDS["fields"])


def outcomes() -> list[str]:
    """List the outcomes and where each leads."""
    hold_against(WORDS["outcomes"], lifecycle.OUTCOMES, "outcomes")
    policy = lifecycle.Policy()
    rows = [
        [f"`{name}`", f"`{lifecycle.decide(name, 1, policy, 0.5).state}`", text] for name, text in WORDS["outcomes"].items()
    ]
    return _rows(["outcome", "state", "meaning"], rows)


def log_events() -> list[str]:
    """List the events that the code writes, with levels and fields."""
    hold_against(WORDS["events"], log.EVENTS, "events")
    rows = []
    for name, event in sorted(source.log_events(log.EVENTS).items()):
        fields = ", ".join(f"`{field}`" for field in event.fields)
        rows.append([f"`{name}`", ", ".join(event.levels), fields, WORDS["events"][name]])
    return _rows(["event", "level", "fields", "meaning"], rows)


def spool_directories() -> list[str]:
    """List the directories of a spool."""
    words = WORDS["files"]
    hold_against({name for part in words.values() for name in part}, _layout_names(), "files")
    return _named(
        "directory", "what it holds", {f"{getattr(layout, name)}/": text for name, text in words["directory"].items()}
    )


def root_files() -> list[str]:
    """List the files that a person may make in the root."""
    shown = {"HELD_SUFFIX": f"NAME.toml{layout.HELD_SUFFIX}"}
    named = {shown.get(name) or getattr(layout, name): text for name, text in WORDS["files"]["root"].items()}
    return _named("file", "what it does", named)


def record_files() -> list[str]:
    """List the files of a record."""
    shown = {"ATTEMPTS": f"{layout.ATTEMPTS}/N/"}
    named = {shown.get(name) or getattr(layout, name): text for name, text in WORDS["files"]["record"].items()}
    return _named("file", "what it is", named)


def _layout_names() -> set[str]:
    return {name for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}


# -- Python


def python_api() -> list[str]:
    """List what `from spooldadd import …` gives, with what each says about itself."""
    lines: list[str] = []
    for name, node in source.classes("api").items():
        lines += ["", f"### {name}", "", *(ast.get_docstring(node) or "").splitlines()]
        for written, said in source.members(node):
            lines += ["", "```text", written, "```", "", *said.splitlines()]
    return lines[1:]


def python_errors() -> list[str]:
    """List the exceptions that a caller may meet."""
    known = source.classes("errors", "permission")
    public = [name for name in spooldadd.__all__ if name in known]
    return _named("exception", "meaning", {name: ast.get_docstring(known[name]) or "" for name in public})


# -- modules


def modules() -> list[str]:
    """List the modules in reading order with what each says about itself."""
    known = source.modules()
    ordered: dict[str, list[str]] = WORDS["modules"]
    placed = {name for names in ordered.values() for name in names}
    lines: list[str] = []
    for title, names in {**ordered, "Others": sorted(known.keys() - placed)}.items():
        there = [(f"`{name}`", source.summary(known[name])) for name in names if name in known]
        lines += ["", f"### {title}", "", *_table("module", "responsibility", there)] if there else []
    return lines[1:]


# -- parts


def _named(first: str, second: str, words: Mapping[str, str]) -> list[str]:
    return _table(first, second, [(f"`{name}`", text) for name, text in words.items()])


def _table(first: str, second: str, rows: Iterable[tuple[object, object]]) -> list[str]:
    return _rows([first, second], [list(map(str, row)) for row in rows])


def _rows(titles: list[str], rows: list[list[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


SECTIONS: Final[Mapping[str, Callable[[], list[str]]]] = {
    "spec-keys": spec_keys,
    "configuration-keys": configuration_keys,
    "command-list": command_list,
    "command-pages": command_pages,
    "exit-codes": exit_codes,
    "job-variables": job_variables,
    "command-variables": command_variables,
    "result-fields": result_fields,
    "outcomes": outcomes,
    "log-events": log_events,
    "spool-directories": spool_directories,
    "root-files": root_files,
    "record-files": record_files,
    "python-api": python_api,
    "python-errors": python_errors,
    "modules": modules,
}


def filled(text: str) -> str:
    """Return a page with its sections as the code is now."""
    return _SECTION.sub(lambda found: found[1] + "\n".join(SECTIONS[found["name"]]()) + "\n" + found[3], text)


def section_names(text: str) -> list[str]:
    """Return the names of the sections in a page."""
    return [found["name"] for found in _SECTION.finditer(text)]


def without_sections(text: str) -> str:
    """Return what a person has written."""
    return _SECTION.sub("", text)


def outdated() -> dict[Path, str]:
    """Return the pages that are not what the code says now, with their new text."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    return {path: new for path, old in pages.items() if (new := filled(old)) != old}


def main(arguments: list[str]) -> int:
    """Write the sections, or check them."""
    found = outdated()
    for path, text in found.items():
        name = path.relative_to(REPOSITORY)
        if arguments == ["--check"]:
            print(f"{name} is not current: run `python docs/generate.py`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return int(arguments == ["--check"] and bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
