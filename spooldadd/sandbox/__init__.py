"""Jinja2 for values of a spec: sandboxed, strict about names, and sure to end.

The sandbox of Jinja2 keeps a template from Python's internals, but not from running for days or filling the memory. So
the language is cut down to what has a known cost: no macros, blocks or imports, the filters and methods listed below, and
every operation whose result can grow is measured before it is done. A budget of steps is shared by all values of a spec.

Everything here is deterministic: the same template has the same answer on a slow machine. Heavy to import (Jinja2), so
import it only where some value has a template.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing, pass_context

from spooldadd.complaints import kind, near
from spooldadd.sandbox.budget import (
    MAX_CHARACTERS,
    MAX_STEPS,
    STEPS_PER_CHARACTER,
    STEPS_TO_COMPILE,
    Budget,
    Names,
    TemplateFault,
    as_text,
    formatted,
    measure_call,
    require_room_for_power,
    require_room_for_product,
)
from spooldadd.sandbox.filters import filters, tests
from spooldadd.sandbox.language import Rewriter

__all__ = ["MAX_CHARACTERS", "MAX_STEPS", "Sandbox", "TemplateFault", "as_text"]

Result = TypeVar("Result")

_DATE: Final = frozenset({"date", "isocalendar", "isoformat", "isoweekday", "replace", "strftime", "time", "weekday"})
_LISTS: Final = frozenset({"count", "index"})
_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset({
        "capitalize", "casefold", "center", "count", "endswith", "find", "isalnum", "isalpha", "isdigit", "islower",
        "isnumeric", "isspace", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix",
        "removesuffix", "replace", "rfind", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "swapcase", "title", "upper", "zfill",
    }),
    list: _LISTS,
    tuple: _LISTS,
    dict: frozenset({"get", "items", "keys", "values"}),
    datetime.datetime: _DATE | {"timestamp", "utcoffset"},
    datetime.date: _DATE,
    datetime.time: _DATE,
    LoopContext: frozenset({"changed", "cycle"}),
}  # fmt: skip


class Sandbox:
    """Checks and renders the values of one spec, with one budget for all of them."""

    def __init__(self, names: Mapping[str, Mapping[str, object]], *, max_steps: int = MAX_STEPS) -> None:
        self._names = {word: Names(word, table) for word, table in names.items()}
        self._environment = _Environment(self._names, Budget(max_steps))

    def check(self, text: str) -> None:
        """Check the syntax of a template, and that its first words, filters and tests exist.

        Raises: `TemplateFault`.
        """
        _explained(lambda: self._environment.parse(text))

    def render(self, text: str) -> str:
        """Render a template.

        Raises: `TemplateFault` for bad syntax, unknown names, what the sandbox forbids, and any failure within.
        """
        return _explained(lambda: self._rendered(text))

    def _rendered(self, text: str) -> str:
        budget = self._environment.budget
        return "".join(map(budget.write, self._environment.from_string(text).generate(self._names)))


def _explained(action: Callable[[], Result]) -> Result:
    try:
        return action()
    except TemplateFault:
        raise
    except TemplateSyntaxError as error:
        line = f" (line {error.lineno} of the value)" if error.lineno > 1 else ""
        raise TemplateFault(f"{error.message}{line}", "to write braces as they are: `{{ '{{' }}`") from error
    except TemplateError as error:
        raise TemplateFault(str(error)) from error
    except RecursionError as error:
        raise TemplateFault("nested too deeply") from error
    # A template can make any operation of Python fail in any of its ways; each is the template's fault.
    except Exception as error:
        raise TemplateFault(f"{type(error).__name__}: {error}") from error


class _Strict(StrictUndefined):
    """A name that is not there: any use fails, with what was probably meant."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        name, owner = str(self._undefined_name), self._undefined_obj
        if owner is missing:
            return f"`{name}` is not defined"
        if self._undefined_hint:
            return f"`{name}` of {kind(owner)} is not available to templates"
        if not isinstance(owner, Names):
            return f"{kind(owner)} has no `{name}`"
        word = owner._word
        if suggested := near(name, owner):
            return f"`{word}.{name}` is not defined; did you mean `{word}.{suggested}`?"
        known = ", ".join(f"`{word}.{other}`" for other, _ in zip(owner, range(10), strict=False))
        return f"`{word}.{name}` is not defined; " + (f"known: {known}" if known else f"there are no `{word}`")


class _Environment(SandboxedEnvironment):
    """The language: what the compiler may see, what may be called, and what each operation costs."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})  # the others make nothing longer

    def __init__(self, names: Mapping[str, Names], budget: Budget) -> None:
        super().__init__(
            undefined=_Strict, finalize=_finalize, keep_trailing_newline=True, autoescape=False, optimized=False
        )
        self.names = names
        self.budget = budget
        self.globals = {"range": self._range}
        self.filters.clear()
        self.filters.update(filters(self.budget))
        self.tests.clear()
        self.tests.update(tests(self.budget))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        self.budget.spend(STEPS_TO_COMPILE + STEPS_PER_CHARACTER * len(source))
        template = super()._parse(source, name, filename)
        set_names = {node.name for node in template.find_all(nodes.Name) if node.ctx != "load"}
        rewritten: nodes.Template = Rewriter(self.names, self.filters, self.tests, set_names).visit(template)
        rewritten.set_environment(self)
        return rewritten

    def _range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        # Not by `len`, which fails for the very ranges that must be refused.
        if numbers and abs(numbers[-1] - numbers[0]) // abs(numbers.step) >= MAX_STEPS:
            raise TemplateFault(f"`range` of more than {MAX_STEPS:,} numbers", "let the job itself count")
        return numbers

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call `range` or a method that is known to be harmless, after measuring what it would make."""
        kwargs = {name: value for name, value in kwargs.items() if not name.startswith("_")}  # the compiler's own
        if __obj == __self._range:
            return __obj(*args, **kwargs)
        if isinstance(__obj, Undefined):
            return __obj()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if name not in _METHODS.get(type(owner), ()):
            raise TemplateFault(f"`{name or kind(__obj)}` cannot be called in a template")
        measure_call(__self.budget, name, owner, (*args, *kwargs.values()))
        return __obj(*args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Do one of the operations whose result may be longer than what goes in."""
        length = self.budget.read(left, right)
        if operator == "%" and isinstance(left, str):
            return formatted(left, right if isinstance(right, tuple) else (right,), length)
        if operator == "*":
            require_room_for_product(left, right)
        if operator == "**":
            require_room_for_power(left, right)
        return super().call_binop(context, operator, left, right)


@pass_context
def _finalize(_context: Context, value: object) -> str:
    # With a context, so that the compiler computes nothing beforehand, where no budget is counted.
    return as_text(value)
