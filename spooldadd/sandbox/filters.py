"""The filters and tests that templates have: those of Jinja2 whose cost is known, measured, and some of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.tests import TESTS
from jinja2.utils import _PassArg, pass_context

from spooldadd.sandbox.budget import Budget, as_text, formatted, measure_call, require_room

_FILTERS: Final = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items",
    "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round",
    "select", "selectattr", "sort", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip
# The names of filters that the language itself uses hold a space, so that no template can ask for them.
READ: Final = "read "
STEPS: Final = "steps "
CONCAT: Final = "concat "

Filter = Callable[..., Any]


def filters(budget: Budget) -> dict[str, Filter]:
    """Give all filters, each of which pays from this budget."""
    ours = _Filters(budget)
    return {name: _measured(FILTERS[name], budget) for name in _FILTERS} | {
        "format": ours.format,
        "join": ours.join,
        "string": ours.string,
        "sum": ours.sum,
        "tojson": ours.tojson,
        READ: ours.read,
        STEPS: budget.listed,
        CONCAT: ours.concat,
    }


def tests(budget: Budget) -> dict[str, Filter]:
    """Give all tests of Jinja2, each of which pays from this budget: `select` applies one to each of many values."""
    return {name: _measured(function, budget) for name, function in TESTS.items()}


def _measured(function: Any, budget: Budget) -> Filter:
    """Wrap a filter or a test of Jinja2: what goes in is measured, what comes out as a generator is a list."""
    passed = _PassArg.from_obj(function)

    @pass_context
    def measured(context: Context, value: object, *args: object, **kwargs: object) -> object:
        if not isinstance(value, Undefined):
            measure_call(budget, function.__name__.removeprefix("do_"), value, (*args, *kwargs.values()))
        result = function(*_first_argument(passed, context), value, *args, **kwargs)
        return budget.listed(result, 1) if isinstance(result, Iterator) else result

    return measured


def _first_argument(passed: _PassArg | None, context: Context) -> tuple[object, ...]:
    if passed is None:
        return ()
    return ({_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}.get(passed, context.environment),)


class _Filters:
    """Filters of ours: what they write is written as TOML does, and measured before."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def read(self, value: object) -> object:
        """Pay for an operation of the language that reads a value, such as a comparison."""
        if not isinstance(value, Undefined):
            self._budget.read(value)
        return value

    def concat(self, values: list[object]) -> str:
        """Do what `~` does."""
        self._budget.read(values)
        return "".join(map(as_text, values))

    def join(self, values: Iterable[object], separator: str = "") -> str:
        """Write values one after the other."""
        texts = [as_text(value) for value in self._budget.listed(values, 1)]
        require_room(self._budget.read(texts, separator) + len(texts) * len(separator))
        return separator.join(texts)

    def string(self, value: object) -> str:
        """Write a single value."""
        self._budget.read(value)
        return as_text(value)

    def tojson(self, value: object) -> str:
        """Write JSON as it is, not as HTML needs it."""
        self._budget.read(value)
        return json.dumps(value, ensure_ascii=False, default=as_text)

    def sum(self, numbers: Iterable[float]) -> float:
        """Add numbers. Jinja2's own also adds lists, in time that grows with the square of their length."""
        self._budget.read(numbers)
        return sum(numbers)

    def format(self, pattern: str, *values: object) -> str:
        """Do what `%` does."""
        return formatted(pattern, values, self._budget.read(pattern, *values))
