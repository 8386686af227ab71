"""Hide what must not leave the node. The rules are those of `spooldadd.erroremail`; here they learn a job's secrets.

A mail is read on other machines and kept for years, so what may be a secret goes, also where it might have helped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from spooldadd.erroremail import Redactor, secret_values

Hide = Callable[[str], str]


def redactor_for(*sources: Mapping[str, object], names: Iterable[str] = (), secrets: Iterable[str] = ()) -> Redactor:
    """Return what hides a job's secrets.

    `sources` are searched for values under secret names and for passwords in URLs: the worker's environment, the spec's
    `[env]` and `[config]`. `names` are further names that the operator calls secret. `secrets` are values that are secret
    whatever their name, as those that a job gets as files.
    """
    redactor = Redactor(names)
    for source in sources:
        redactor.learn(secret_values(source, redactor))
    redactor.learn(secrets)
    return redactor


def hide_in_table(table: Mapping[str, object], redactor: Redactor) -> dict[str, object]:
    """Return a copy of a table with its secrets hidden, for what is shown as a table: a webhook's body, a diff."""
    return {key: HIDDEN_VALUE if redactor.is_secret_name(key) else _hide(value, redactor) for key, value in table.items()}


HIDDEN_VALUE = "[hidden]"


def _hide(value: object, redactor: Redactor) -> object:
    if isinstance(value, str):
        return redactor(value)
    if isinstance(value, Mapping):
        return hide_in_table({str(key): part for key, part in value.items()}, redactor)
    if isinstance(value, (list, tuple)):
        return [_hide(part, redactor) for part in value]
    return value
