"""What the source code says about itself: read with `ast`, without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE: Final = Path(__file__).resolve().parents[1] / "spooldadd"
LEVELS: Final = ("debug", "info", "warning", "error")


class Forgotten(Exception):
    """`words.toml` and the code do not speak of the same things."""


class Event(NamedTuple):
    """How an event is written: at which levels, with which fields."""

    levels: list[str]
    fields: list[str]


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def exit_code_names() -> list[str]:
    """Find the assignment that names all exit codes at once."""
    for node in tree(PACKAGE / "cli" / "__init__.py").body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        names = [name.id for name in target.elts if isinstance(name, ast.Name)] if isinstance(target, ast.Tuple) else []
        if "FINE" in names:
            return names
    raise Forgotten("spooldadd/cli/__init__.py no longer names its exit codes in one assignment")


def result_fields() -> set[str]:
    """Find the fields of a result: those that readers put in order, and those that a supervisor writes."""
    return {*_ordered_fields(), *_written_fields()}


def _ordered_fields() -> list[str]:
    for path in sorted((PACKAGE / "inspect").glob("*.py")):
        for node in tree(path).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_ORDER":
                return list(ast.literal_eval(node.value))
    raise Forgotten("no module in spooldadd/inspect has an `_ORDER` of fields")


def _written_fields() -> Iterator[str]:
    for node in (node for module in ("attempt.py", "ending.py") for node in ast.walk(tree(PACKAGE / module))):
        if isinstance(node, ast.FunctionDef) and node.name in ("header", "times_and_use", "_conclude"):
            for inner in ast.walk(node):
                keys = inner.keys if isinstance(inner, ast.Dict) else []
                yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))


@cache
def log_events(names: frozenset[str]) -> dict[str, Event]:
    """Find in the code which of these events are written, and how."""
    found: dict[str, Event] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "log.py":
            _collect(tree(path), names, found)
    return found


def _collect(module: ast.Module, names: frozenset[str], found: dict[str, Event]) -> None:
    """Collect `….log.info("event", field=…)`, and calls of functions of ours that pass their `event` on to such a call."""
    passing = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and _takes_event(node)}
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call) and node.args):
        first = call.args[0]
        if not isinstance(first, ast.Constant) or first.value not in names:
            continue
        called = ast.unparse(call.func).rpartition(".")[2]
        writing = [call] if _is_log_call(call) else list(ast.walk(passing.get(called, ast.Pass())))
        for one in writing:
            if isinstance(one, ast.Call) and _is_log_call(one):
                _note(found.setdefault(str(first.value), Event([], [])), one)


def _takes_event(node: ast.FunctionDef) -> bool:
    return any(argument.arg == "event" for argument in node.args.args)


def _is_log_call(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
        return False
    return ast.unparse(call.func.value).rpartition(".")[2] in ("log", "_log")


def _note(event: Event, call: ast.Call) -> None:
    assert isinstance(call.func, ast.Attribute)
    event.levels.extend({call.func.attr} - set(event.levels))
    event.fields.extend(word.arg for word in call.keywords if word.arg and word.arg not in event.fields)


def modules() -> dict[str, Path]:
    """Return the modules and packages at the top, by name."""
    found = {}
    for path in sorted(PACKAGE.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            found[path.name] = path / "__init__.py"
        elif path.suffix == ".py" and path.stem != "__init__":
            found[path.stem] = path
    return found


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring on one line."""
    text = ast.get_docstring(tree(path)) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph if paragraph.endswith(".") else paragraph.rpartition(". ")[0] + "."


def classes(*files: str) -> dict[str, ast.ClassDef]:
    """Return the public classes of these modules."""
    every = [node for name in files for node in tree(PACKAGE / f"{name}.py").body]
    return {node.name: node for node in every if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}


def members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the members of a class that are for callers: how each is written, and what it says about itself."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and (not member.name.startswith("_") or member.name == "__init__"):
            said = ast.get_docstring(member)
            if said:
                yield _written(node.name, member), said


def _written(owner: str, node: ast.FunctionDef) -> str:
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    returns = ast.unparse(node.returns) if node.returns else "None"
    if node.name == "__init__":
        return f"{owner}({arguments})"
    if any(ast.unparse(mark) == "property" for mark in node.decorator_list):
        return f"{owner.lower()}.{node.name}: {returns}"
    return f"{owner.lower()}.{node.name}({arguments}) -> {returns}"
