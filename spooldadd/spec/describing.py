"""Say what a spec may hold, to editors (JSON Schema) and to readers (a row for each key). Pure.

Everything is taken from the models, so nothing can be forgotten here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from spooldadd.complaints import model_within
from spooldadd.spec.models import Spec
from spooldadd.tomltext import quote
from spooldadd.units import format_duration, format_size

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class KeyDescription(NamedTuple):
    """One row of the reference: the dotted key, what it may hold, what holds when it is absent, and what it is for."""

    key: str
    type: str
    default: str
    description: str


def schema() -> dict[str, object]:
    """Give the JSON Schema (draft 2020-12) of a spec as it stands in the file."""
    return schema_of(Spec, "A job for spooldadd")


def schema_of(model: type[BaseModel], title: str) -> dict[str, object]:
    """Give the JSON Schema of a model by its TOML keys: without the null that TOML does not have, defaults in units."""
    shown = _tidy(model.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": DIALECT, **shown, "title": title}


def _tidy(part: Any) -> Any:
    """Take out what only Python knows: None, and titles made from attribute names."""
    if isinstance(part, list):
        return [_tidy(element) for element in part if element != {"type": "null"}]
    if not isinstance(part, dict):
        return part
    part = {name: _tidy(value) for name, value in part.items() if not (name == "default" and value is None)}
    if len(alternatives := part.get("anyOf", ())) == 1:
        part = {**{name: value for name, value in part.items() if name != "anyOf"}, **alternatives[0]}
    if "default" in part:
        part["default"] = _default(part)
    if isinstance(title := part.get("title"), str) and title[:1].isupper():
        del part["title"]
    return part


def _default(part: dict[str, Any]) -> object:
    """Write a default as one would in the file: `"10s"` rather than 10.0."""
    value = part["default"]
    if part.get("title") == "duration" and isinstance(value, float):
        return format_duration(value)
    if part.get("title") == "size" and isinstance(value, int):
        return format_size(value)
    return value


def describe() -> list[KeyDescription]:
    """List every key of a spec for the reference, in the order of the models."""
    return describe_model(Spec)


def describe_model(model: type[BaseModel], prefix: str = "") -> list[KeyDescription]:
    """List every key of a model, tables before their keys."""
    properties = schema_of(model, "")["properties"]
    assert isinstance(properties, dict)
    rows = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        shown = properties[field.alias or name]
        inner = model_within(field.annotation)
        kind = "table" if inner else type_text(shown)
        rows.append(KeyDescription(key, kind, _default_text(shown, required=field.is_required()), field.description or ""))
        if inner:
            rows += describe_model(inner, f"{key}.")
    return rows


def type_text(shown: dict[str, Any]) -> str:
    """Name what a key may hold, from its part of the schema."""
    if "title" in shown:
        return str(shown["title"])
    if "enum" in shown:
        return "one of " + ", ".join(f"`{choice}`" for choice in shown["enum"])
    for alternatives in ("oneOf", "anyOf"):
        if alternatives in shown:
            return " or ".join(type_text(choice) for choice in shown[alternatives])
    if shown.get("type") == "array":
        return f"list of {_plural(type_text(shown.get('items', {})))}"
    if shown.get("type") == "object":
        inner = entry_shape(shown)
        return f"table of {_plural(type_text(inner))}" if inner else "table"
    return _scalar_text(shown)


def entry_shape(shown: dict[str, Any]) -> dict[str, Any]:
    """Give the part of the schema for each value of a table with free keys; empty where anything goes."""
    by_pattern = list(shown.get("patternProperties", {}).values())
    return by_pattern[0] if by_pattern else shown.get("additionalProperties") or {}


def _scalar_text(shown: dict[str, Any]) -> str:
    name = shown.get("type")
    if not isinstance(name, str):
        return "value"
    name = "whole number" if name == "integer" else name
    if "minimum" in shown and "maximum" in shown:
        return f"{name} from {shown['minimum']} to {shown['maximum']}"
    return name


def _plural(name: str) -> str:
    if name.startswith("one of "):
        return name.removeprefix("one of ")
    noun, space, rest = name.partition(" from ")
    return f"{noun}{'es' if noun.endswith('s') else 's'}{space}{rest}"


def _default_text(shown: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    value = shown.get("default")
    if value is None:
        return "empty" if "$ref" in shown or shown.get("type") == "object" else "unset"
    return value_text(value)


def value_text(value: object) -> str:
    """Write a default as it would stand in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return quote(value) if isinstance(value, str) else str(value)
