"""Jinja2 for values of a spec: sandboxed, strict about names, and sure to end.

The sandbox of Jinja2 keeps a template from Python's internals, but not from running for days or filling the memory. So
the language is cut down to what has a known cost: no macros, blocks or imports, the filters and methods listed below, and
every operation whose result can grow is measured before it is done. A budget of steps is shared by all values of a spec.

Everything here is deterministic: the same template has the same answer on a slow machine. Heavy to import (Jinja2), so
import it only where some value has a template.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final, TypeVar

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import _PassArg, missing, pass_context
from jinja2.visitor import NodeTransformer

from spooldadd.complaints import kind, near

# All that templates may write for one spec, and so the most that any single value may have: as much as a whole spec.
MAX_CHARACTERS: Final = 2**20
# About two seconds on a slow machine. A value such as `{{ vars.day }}` takes about 250 of them, most to compile it.
MAX_STEPS: Final = 1_000_000
_STEPS_TO_COMPILE: Final = 200
_STEPS_PER_CHARACTER: Final = 2  # of a template's source, to compile it
_CHARACTERS_PER_STEP: Final = 64  # of a value that an operation reads
# Wider than any column or rounding that people ask for, and too narrow for a number of that length to matter.
_MAX_NUMBER_ARGUMENT: Final = 10_000
_MAX_INTEGER_BITS: Final = 4_096

_NODES: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Tuple,
    nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call,
    nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.BinExpr,
    nodes.UnaryExpr, nodes.If, nodes.For, nodes.Assign, nodes.With,
)  # fmt: skip
_FILTERS: Final = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items",
    "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round",
    "select", "selectattr", "sort", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip
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


class TemplateFault(Exception):
    """A template cannot be used: what is wrong, and the remedy where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# The names of our own filters hold a space, so that no template can ask for them.
Result = TypeVar("Result")
_READ: Final = "read "
_STEPS: Final = "steps "
_CONCAT: Final = "concat "
_NUMBERS_IN_FORMAT: Final = re.compile(r"\d+")


class Names:
    """Names below one word, such as `vars.day`. Has no method, so that a variable may be called `items`."""

    __slots__ = ("_table", "_word")

    def __init__(self, word: str, table: Mapping[str, object]) -> None:
        self._word = word
        self._table = table

    def __getitem__(self, name: str) -> object:
        return self._table[name]

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __str__(self) -> str:
        raise TemplateFault(f"`{self._word}` is no single value", f"write `{self._word}.NAME`")


class Sandbox:
    """Checks and renders the values of one spec, with one budget for all of them."""

    def __init__(self, names: Mapping[str, Mapping[str, object]]) -> None:
        self._names = {word: Names(word, table) for word, table in names.items()}
        self._environment = _Environment(self._names)

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


class _Budget:
    """Counts down what the templates of one spec may still do and write."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.characters = MAX_CHARACTERS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TemplateFault(f"takes more than {MAX_STEPS:,} steps", "let the job itself do long computations")

    def read(self, *values: object) -> int:
        """Pay for an operation that reads values, and give their length as text."""
        length = _length(*values)
        self.spend(1 + length // _CHARACTERS_PER_STEP)
        return length

    def write(self, chunk: str) -> str:
        self.characters -= len(chunk)
        _require_room(0 if self.characters >= 0 else MAX_CHARACTERS + 1)
        return chunk


def _require_room(characters: int) -> None:
    if characters > MAX_CHARACTERS:
        raise TemplateFault(f"makes a text of more than {MAX_CHARACTERS:,} characters")


def _length(*values: object) -> int:
    """Give about the length that values have as text. Ends early, so a list that holds itself twice, often, is refused."""
    total = 0
    stack: list[object] = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += (value.keys(), value.values())
        elif isinstance(value, list | tuple | set | KeysView | ValuesView | ItemsView):
            total += 2 * len(value)
            stack += value if total <= MAX_CHARACTERS else ()
        else:
            total += _length_of_scalar(value)
        _require_room(total)
    return total


def _length_of_scalar(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 3 + 2
    return 8 * len(value) if isinstance(value, range) else 32


def as_text(value: object) -> str:
    """Write a single value as TOML does: `true` for True, dates in ISO 8601.

    Raises: `TemplateFault` for lists and whatever else is no single value.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Undefined | Names):
        return str(value)
    if value is None:
        raise TemplateFault("`none` cannot be written", "give it a value, such as `| default('…', true)`")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TemplateFault(f"{kind(value)} cannot be written as it is", "use `| join(', ')` or `| tojson`")


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

    def __init__(self, names: Mapping[str, Names]) -> None:
        super().__init__(
            undefined=_Strict, finalize=_finalize, keep_trailing_newline=True, autoescape=False, optimized=False
        )
        self.names = names
        self.budget = _Budget()
        self.globals = {"range": self._range}
        self.filters = {name: _measured(FILTERS[name]) for name in _FILTERS}
        self.filters |= {"join": _join, "string": _string, "tojson": _tojson, "format": _format}
        self.filters |= {_READ: _read, _STEPS: _steps, _CONCAT: _concat}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        self.budget.spend(_STEPS_TO_COMPILE + _STEPS_PER_CHARACTER * len(source))
        template = super()._parse(source, name, filename)
        set_names = {node.name for node in template.find_all(nodes.Name) if node.ctx != "load"}
        rewritten: nodes.Template = _Rewriter(self, set_names).visit(template)
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
        _measure_call(__self.budget, name, owner, (*args, *kwargs.values()))
        return __obj(*args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Do one of the operations whose result may be longer than what goes in."""
        length = self.budget.read(left, right)
        if operator == "%" and isinstance(left, str):
            return _formatted(left, right if isinstance(right, tuple) else (right,), length)
        _MEASURES.get(operator, _measure_nothing)(left, right)
        return super().call_binop(context, operator, left, right)


def _measure_product(left: object, right: object) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _require_bits(left.bit_length() + right.bit_length())
        return
    for repeated, times in ((left, right), (right, left)):
        if isinstance(times, int) and not isinstance(repeated, float | Undefined):
            _require_room(_length(repeated) * times)


def _measure_power(left: object, right: object) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _require_bits(left.bit_length() * right)


def _require_bits(bits: int) -> None:
    if bits > _MAX_INTEGER_BITS:
        raise TemplateFault(f"makes a number of more than {_MAX_INTEGER_BITS:,} bits")


def _measure_nothing(_left: object, _right: object) -> None:
    """Leave it at the length of the operands, which has been measured."""


_MEASURES: Final[Mapping[str, Callable[[object, object], None]]] = {"*": _measure_product, "**": _measure_power}


def _measure_call(budget: _Budget, name: str, owner: object, arguments: tuple[object, ...]) -> None:
    """Refuse a method call or a filter whose result would be out of proportion to what goes in."""
    length = budget.read(owner, *arguments)
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > _MAX_NUMBER_ARGUMENT:
            raise TemplateFault(f"`{name}` with a number above {_MAX_NUMBER_ARGUMENT:,}")
    if name == "replace" and isinstance(owner, str) and len(arguments) >= 2:
        old, new = str(arguments[0]), str(arguments[1])
        _require_room(length + owner.count(old) * len(new))
    if name == "join" and arguments:
        _require_room(length + len(str(owner)) * _count(arguments[0]))


def _count(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range | set) else 1


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap one of Jinja2's filters: what goes in is measured, what comes out as a generator is a list."""
    passed = _PassArg.from_obj(function)

    @pass_context
    def measured(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        if not isinstance(value, Undefined):
            _measure_call(budget, function.__name__.removeprefix("do_"), value, (*args, *kwargs.values()))
        result = function(*_first_argument(passed, context), value, *args, **kwargs)
        return _listed(budget, result, 1) if isinstance(result, Iterator) else result

    return measured


def _first_argument(passed: _PassArg | None, context: Context) -> tuple[object, ...]:
    if passed is None:
        return ()
    return ({_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}.get(passed, context.environment),)


def _budget(context: Context) -> _Budget:
    environment = context.environment
    assert isinstance(environment, _Environment)
    return environment.budget


def _listed(budget: _Budget, values: Iterable[object], steps: int) -> list[object]:
    listed = []
    for value in values:
        budget.spend(steps)
        listed.append(value)
    return listed


@pass_context
def _finalize(_context: Context, value: object) -> str:
    # With a context, so that the compiler computes nothing beforehand, where no budget is counted.
    return as_text(value)


@pass_context
def _read(context: Context, value: object) -> object:
    """Pay for an operation of the language that reads a value, such as a comparison."""
    if not isinstance(value, Undefined):
        _budget(context).read(value)
    return value


@pass_context
def _steps(context: Context, values: Iterable[object], steps: int) -> list[object]:
    """Pay for all rounds of a loop before the first."""
    return _listed(_budget(context), values, steps)


@pass_context
def _concat(context: Context, values: list[object]) -> str:
    _budget(context).read(values)
    return "".join(map(as_text, values))


@pass_context
def _join(context: Context, values: Iterable[object], separator: str = "") -> str:
    budget = _budget(context)
    texts = [as_text(value) for value in _listed(budget, values, 1)]
    _require_room(budget.read(texts, separator) + len(texts) * len(separator))
    return separator.join(texts)


@pass_context
def _string(context: Context, value: object) -> str:
    _budget(context).read(value)
    return as_text(value)


@pass_context
def _tojson(context: Context, value: object) -> str:
    _budget(context).read(value)
    return json.dumps(value, ensure_ascii=False, default=as_text)


@pass_context
def _format(context: Context, pattern: str, *values: object) -> str:
    return _formatted(pattern, values, _budget(context).read(pattern, *values))


def _formatted(pattern: str, values: tuple[object, ...], length: int) -> str:
    """Format as `%` does, without names and without widths that come from values."""
    if "*" in pattern or "%(" in pattern:
        raise TemplateFault("a format with `*` or `%(name)` is not available to templates")
    # The longest escape of a character, as `%r` writes it, has ten; `_require_room` has bounded the digits themselves.
    widths = sum(int(number[:8]) for number in _NUMBERS_IN_FORMAT.findall(pattern))
    _require_room(10 * length + widths)
    return pattern % tuple(_formattable(value) for value in values)


def _formattable(value: object) -> object:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else as_text(value)


class _Rewriter(NodeTransformer):
    """Walks a parsed template: refuses what the language leaves out, and puts a measure before what has a cost."""

    def __init__(self, environment: _Environment, set_names: set[str]) -> None:
        self._filters = [name for name in environment.filters if not name.endswith(" ")]
        self._tests = list(environment.tests)
        self._names = environment.names
        self._words = [*environment.names, "range", "loop", *set_names]

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Visit the parts of a node, where the language has such a node."""
        if not isinstance(node, _NODES):
            raise TemplateFault(f"`{type(node).__name__}` is not available in templates of a spec")
        return super().generic_visit(node, *args, **kwargs)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        """Refuse a first word that can never be defined."""
        if node.ctx == "load" and node.name not in self._words:
            raise TemplateFault(f"`{node.name}` is not defined{self._meant_word(node.name)}")
        return node

    def _meant_word(self, name: str) -> str:
        homes = (f"{word}.{name}" for word, names in self._names.items() if name in names)
        home = next(homes, None)
        return f"; did you mean `{home}`?" if home else self._meant(name, self._words)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        """Refuse a filter that does not exist here."""
        if node.name not in self._filters:
            raise TemplateFault(f"no filter is named `{node.name}`{self._meant(node.name, self._filters)}")
        return self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        """Refuse a test that does not exist; pay for reading what is tested."""
        if node.name not in self._tests:
            raise TemplateFault(f"no test is named `{node.name}`{self._meant(node.name, self._tests)}")
        self.generic_visit(node)
        node.node = _filtered(node.node, _READ)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Pay for reading both sides."""
        self.generic_visit(node)
        node.expr = _filtered(node.expr, _READ)
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, _READ)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """Pay for reading what is cut."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node, _READ)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """Make `~` a filter of ours, which measures."""
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Pay for each round by the size of the loop's body."""
        if node.recursive:
            raise TemplateFault("a recursive loop is not available in templates of a spec")
        steps = sum(1 for _ in node.find_all(nodes.Node))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _STEPS, nodes.Const(steps, lineno=node.lineno))
        return node

    @staticmethod
    def _meant(name: str, choices: Iterable[str]) -> str:
        suggested = near(name, choices)
        return f"; did you mean `{suggested}`?" if suggested else ""


def _filtered(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
