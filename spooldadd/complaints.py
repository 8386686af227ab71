"""Turn what pydantic found wrong into sentences for the person who wrote the file. Pure.

Pydantic speaks of Python's types and of its own; people who write TOML know strings, whole numbers, lists and tables.
Each complaint names the key, what was expected, what was found, and a remedy where there is one.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from spooldadd.problems import dotted
from spooldadd.tomlpos import Path

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails, PydanticCustomError

REFUSED: Final = "refused"
# Comparing words takes time in the product of their lengths; no key of ours is half as long.
_MAX_COMPARED_CHARACTERS: Final = 60
_EXPECTED: Final = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "datetime_type": "a date with time and zone",
}
_BOUNDS: Final = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}


class Complaint(NamedTuple):
    """One thing wrong with the value or the key at a path."""

    path: Path
    message: str
    hint: str | None = None


def refuse(predicate: str, hint: str | None = None, *, within: Path = ()) -> PydanticCustomError:
    """Make the error that a validator of ours raises: `predicate` follows the key's name, as in `must not be empty`.

    `within` leads from the validated value to the part of it that is wrong.
    """
    from pydantic_core import PydanticCustomError  # late, as below: `kind` and `near` serve those without models, too

    return PydanticCustomError(REFUSED, "{predicate}", {"predicate": predicate, "hint": hint, "within": within})


def kind(value: object) -> str:
    """Name the type of a value as a writer of TOML knows it."""
    for kinds, name in (
        (bool, "a boolean"),
        (str, "a string"),
        (int, "a whole number"),
        (float, "a number with a fraction"),
        (list | tuple, "a list"),
        (dict, "a table"),
        (datetime.datetime, "a date with a time"),
        (datetime.date, "a date"),
        (datetime.time, "a time"),
    ):
        if isinstance(value, kinds):
            return name
    return f"a `{type(value).__name__}`"


def complaints(model: type[BaseModel], data: object, errors: Iterable[ErrorDetails]) -> list[Complaint]:
    """Give one complaint for each error; a missing key whose misspelling is there too is left out."""
    known = known_keys(model)
    given = list(errors)
    unknown = [_unknown(known, _path(error, data)) for error in given if error["type"] == "extra_forbidden"]
    meant = {(*complaint.path[:-1], suggested) for complaint, suggested in unknown if suggested}
    others = (_complaint(error, data) for error in given if error["type"] != "extra_forbidden")
    return [complaint for complaint, _ in unknown] + [other for other in others if other.path not in meant]


def _path(error: ErrorDetails, data: object) -> Path:
    """Follow a location through the data, without the names that pydantic gives to alternatives on the way."""
    path: list[str | int] = []
    at = data
    for part in error["loc"]:
        if _holds(at, part):
            at = at[part]  # type: ignore[index]
        elif not (isinstance(at, dict) and part == error["loc"][-1] and error["type"] in ("missing", REFUSED)):
            continue
        path.append(part)
    return (*path, *error.get("ctx", {}).get("within", ()))


def _holds(container: object, part: str | int) -> bool:
    if isinstance(container, dict):
        return part in container
    return isinstance(container, list | tuple) and isinstance(part, int) and part < len(container)


def _unknown(known: Mapping[Path, Sequence[str]], path: Path) -> tuple[Complaint, str | None]:
    """Complain about a key that the model does not have; give the key that was meant, where one is near."""
    table = tuple(part for part in path[:-1] if isinstance(part, str))
    name = str(path[-1])
    choices = known.get(table, ())
    message = f"unknown key `{dotted(path)}`"
    if suggested := near(name, choices):
        return Complaint(path, f"{message}; did you mean `{suggested}`?"), suggested
    home = next((home for home, names in known.items() if name in names and home != table), None)
    if home is not None:
        where = f"in `[{dotted(home)}]`" if home else "at the top of the file, above every `[table]`"
        return Complaint(path, f"{message}; `{name}` belongs {where}"), None
    listed = ", ".join(f"`{choice}`" for choice in choices)
    return Complaint(path, message, f"known here: {listed}"), None


def near(word: str, choices: Iterable[str]) -> str | None:
    """Give the choice that a misspelt word was probably meant to be."""
    if len(word) > _MAX_COMPARED_CHARACTERS:
        return None
    import difflib

    by_fold = {choice.casefold(): choice for choice in choices}
    matches = difflib.get_close_matches(word.casefold().replace("-", "_"), by_fold, n=1)
    return by_fold[matches[0]] if matches else None


@cache
def known_keys(model: type[BaseModel]) -> dict[Path, tuple[str, ...]]:
    """Map the path of each table of a model to the keys it may have, as they stand in the file."""
    return dict(_tables(model, ()))


def _tables(model: type[BaseModel], path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    yield path, tuple(field.alias or name for name, field in model.model_fields.items())
    for name, field in model.model_fields.items():
        if inner := model_within(field.annotation):
            yield from _tables(inner, (*path, field.alias or name))


def model_within(annotation: object) -> type[BaseModel] | None:
    """Find the model in an annotation: itself, or within `tuple[Model, ...]` or `Model | None`."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_within, get_args(annotation))), None)


def _complaint(error: ErrorDetails, data: object) -> Complaint:
    path = _path(error, data)
    predicate, hint = _predicate(error)
    subject = f"`{dotted(path)}` " if path else ""
    return Complaint(path, f"{subject}{predicate}", hint)


def _predicate(error: ErrorDetails) -> tuple[str, str | None]:
    """Give what follows the key's name in a sentence, and the remedy."""
    name, value, context = error["type"], error["input"], error.get("ctx", {})
    if name == REFUSED:
        return context["predicate"], context["hint"]
    if name in _EXPECTED:
        return f"must be {_EXPECTED[name]}, not {kind(value)}", _remedy(_EXPECTED[name], value)
    if name in _BOUNDS:
        words, bound = _BOUNDS[name]
        return f"must be {words} {_plain(context[bound])}", None
    if name == "literal_error":
        return _not_one_of(value, context["expected"].replace("'", "`"))
    if name == "missing":
        return "is missing", f"add `{error['loc'][-1]} = …`"
    if name == "too_short":
        return "must not be empty", None
    sentence = error["msg"].removeprefix("Value error, ")
    return f"cannot be used: {sentence[:1].lower()}{sentence[1:]}", None


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _not_one_of(value: object, expected: str) -> tuple[str, str | None]:
    choices = expected.replace("`", "").replace(" or ", ", ").split(", ")
    suggested = near(value, choices) if isinstance(value, str) else None
    question = f"; did you mean `{suggested}`?" if suggested else ""
    return f"must be {expected}{question}", None


def _remedy(expected: str, value: object) -> str | None:
    if expected == "a string" and not isinstance(value, list | dict):
        return "write it in quotes"
    if expected in ("a whole number", "a number", "`true` or `false`") and isinstance(value, str):
        return "write it without quotes"
    if expected == "a whole number" and isinstance(value, float):
        return "write it without a fraction"
    if expected == "a list" and isinstance(value, str):
        return 'put it into brackets: `["…"]`'
    if expected == "a table":
        return "write it as a section in brackets, with `key = value` lines below it"
    return None
