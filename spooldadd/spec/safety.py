"""What the keys about secrets and the sandbox may hold."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, PlainValidator
from pydantic import WithJsonSchema as Shown

from spooldadd import secret
from spooldadd.complaints import kind, near, refuse

# Each becomes the name of a file and of a variable.
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
# What decides how programs run; a secret there would do harm, and hide what the job needs.
_TAKEN: Final = frozenset({"PATH", "HOME", "PWD", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "APP_SETTINGS_JSON"})
_TAKEN_STARTS: Final = ("SPOOLDADD", "LD_", "PYTHON")
_USE: Final = ("name", "environ")


@dataclass(frozen=True)
class SecretUse:
    """One secret of a job: its name on the node, and whether it is wanted as a variable, too."""

    name: str
    environ: bool = False


class SecretUses(dict[str, SecretUse]):
    """The secrets of a job, by their names in the job."""


def _uses(value: object) -> SecretUses:
    if not isinstance(value, Mapping):
        raise refuse(f"must be a table, not {kind(value)}", 'write `db = "warehouse-password"` below `[secrets]`')
    found = SecretUses()
    seen: dict[str, str] = {}
    for key, part in value.items():
        _check_key(key, seen)
        found[key] = _use(key, part)
        if found[key].environ and (key.upper() in _TAKEN or key.upper().startswith(_TAKEN_STARTS)):
            raise refuse(f"would set `{key.upper()}`, which is taken", "call it otherwise in the job", within=(key,))
    return found


def _check_key(key: str, seen: dict[str, str]) -> None:
    if not _KEY.fullmatch(key):
        hint = "it becomes a file and a variable: use up to 64 letters, digits and `_`, and no digit first"
        raise refuse("is not a usable name for a secret in the job", hint, within=(key,))
    if key.upper() in seen:
        hint = f"both would be `{key.upper()}_FILE`; rename one"
        raise refuse(f"differs from `{seen[key.upper()]}` in capitals only", hint, within=(key,))
    seen[key.upper()] = key


def _use(key: str, part: object) -> SecretUse:
    if isinstance(part, SecretUse):
        return part
    table = {"name": part} if isinstance(part, str) else part
    if not isinstance(table, Mapping):
        hint = 'write its name on the node, or `{ name = "…", environ = true }`'
        raise refuse(f"must be a string or a table, not {kind(part)}", hint, within=(key,))
    for unknown in table.keys() - set(_USE):
        meant = near(unknown, _USE)
        hint = f"did you mean `{meant}`?" if meant else "known here: `name`, `environ`"
        raise refuse(f"has an unknown key `{unknown}`", hint, within=(key, unknown))
    name, environ = table.get("name"), table.get("environ", False)
    if not isinstance(name, str):
        raise refuse("needs the secret's name on the node", 'write `name = "…"`', within=(key,))
    if not secret.is_name(name):
        hint = "letters, digits and `_.@-`, beginning with a letter, a digit or `_`; never the secret itself"
        raise refuse("names no secret", hint, within=(key,))
    if not isinstance(environ, bool):
        raise refuse(f"must be `true` or `false`, not {kind(environ)}", within=(key, "environ"))
    return SecretUse(name, environ)


def check_variables(uses: Mapping[str, SecretUse], env: Container[str]) -> None:
    """Refuse a secret whose variable the spec sets itself. Raises: PydanticCustomError."""
    for key, use in uses.items():
        for variable in (f"{key.upper()}_FILE", *([key.upper()] if use.environ else [])):
            if variable in env:
                raise refuse(f"would be hidden by `env.{variable}`", "remove one of the two", within=(key,))


def _sandbox_path(value: str) -> str:
    if not value.startswith(("/", "~/")) or ".." in value.split("/") or "\0" in value:
        raise refuse("must be an absolute path without `..`", "begin it with `/`, or with `~/` for the home directory there")
    return os.path.normpath(value)


_USE_SCHEMA: Final = {
    "title": "name or table",
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "environ": {"type": "boolean"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    ],
}
UsedSecrets = Annotated[SecretUses, PlainValidator(_uses), Shown({"type": "object", "additionalProperties": _USE_SCHEMA})]
SandboxPath = Annotated[str, AfterValidator(_sandbox_path), Shown({"title": "absolute path", "type": "string"})]
