"""The TOML job spec: keys, defaults, limits; text in, `Spec` or every error out. Pure.

`models` holds one class for each table, and what a key may hold is said in `fields`. `parse` reads the bytes of a TOML
file, `parse_script` those of a script with inline metadata; `peek` and `peek_script` look only at what queueing needs.
`plain` knows most simple specs to be right without the models. `schema` and `describe` say the same as the models to
editors and to the reference pages. Another table is another model: nothing else in here knows the keys.

The public names are imported when they are asked for: the models and pydantic take longer than most commands.
"""

from __future__ import annotations

from importlib import import_module

from spooldadd.bounds import MAX_SPEC_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spooldadd.spec.describing import KeyDescription, describe, schema
    from spooldadd.spec.models import Keep, Limits, Retry, Run, Script, Spec
    from spooldadd.spec.peeking import Peek, has_whole_block, peek, peek_script
    from spooldadd.spec.reading import InvalidSpec, parse, parse_file, parse_script
    from spooldadd.spec.script import script_toml

__all__ = [
    "MAX_SPEC_BYTES",
    "InvalidSpec",
    "Keep",
    "KeyDescription",
    "Limits",
    "Peek",
    "Retry",
    "Run",
    "Script",
    "Spec",
    "describe",
    "has_whole_block",
    "parse",
    "parse_file",
    "parse_script",
    "peek",
    "peek_script",
    "schema",
    "script_toml",
]

_NAMES = {
    "models": ("Keep", "Limits", "Retry", "Run", "Script", "Spec"),
    "peeking": ("Peek", "has_whole_block", "peek", "peek_script"),
    "reading": ("InvalidSpec", "parse", "parse_file", "parse_script"),
    "describing": ("KeyDescription", "describe", "schema"),
    "script": ("script_toml",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
