"""Read a plain command line as `argparse` would, but without it: its import takes as long as the start of the interpreter.

A command declares its arguments by `add_argument`; what it declares them to may be `Declared` instead of a parser. That
reads words of which nothing can be doubted: options by their full names, each value beside its name, nothing else that
begins with a dash. Whatever is not so, help and every mistake among it, is `NotPlain`, and `argparse` reads it. A test
holds the two against each other: what is read here is what `argparse` reads.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence
    from typing import Any

    Options = Namespace
else:
    Options = type(sys.implementation)  # `types.SimpleNamespace`, without the import of `types`

# What `add_argument` may be told; an argument that is told more is left to `argparse`.
KNOWN = {"action", "choices", "const", "default", "dest", "help", "metavar", "nargs", "type"}


class NotPlain(Exception):
    """Only `argparse` can tell what these words mean, or what is wrong with them."""


class Argument:
    """One argument as it was declared."""

    def __init__(self, names: tuple[str, ...], how: dict[str, Any], group: object) -> None:
        self.group = group  # at most one argument of it may be given
        self.action = how.get("action", "store")
        self.nargs = how.get("nargs")
        self.choices = how.get("choices")
        self.type = how.get("type")
        is_switch = self.action == "store_true"
        self.const = True if is_switch else how.get("const")
        self.default = how.get("default", False if is_switch else None)
        long = next((name for name in names if name.startswith("--")), names[0])
        self.dest = how.get("dest", long.lstrip("-").replace("-", "_"))
        if not how.keys() <= KNOWN or (self.type is not None and isinstance(self.default, str)):
            raise NotPlain

    def value(self, text: str) -> Any:
        """Return what this text says. Raises: NotPlain."""
        try:
            found = text if self.type is None else self.type(text)
        except _refusals() as error:
            raise NotPlain from error
        if self.choices is not None and found not in self.choices:
            raise NotPlain
        return found


def unfit(message: str) -> Exception:
    """Return what an argument's type raises where a text does not fit: `argparse` calls it again and shows the message."""
    from argparse import ArgumentTypeError  # late: nearly every text fits

    return ArgumentTypeError(message)


def _refusals() -> tuple[type[Exception], ...]:
    """What a type raises where the text does not fit. It is looked up only then."""
    from argparse import ArgumentTypeError

    return ArgumentTypeError, TypeError, ValueError


class Declared:
    """The arguments of a command, and what reads words by them."""

    def __init__(self) -> None:
        self._arguments: list[Argument] = []
        self._options: dict[str, Argument] = {}
        self._positionals: list[Argument] = []

    def add_argument(self, *names: str, **how: Any) -> None:
        """Note an argument. Raises: NotPlain."""
        self.note(names, how, None)

    def add_mutually_exclusive_group(self) -> Group:
        """Return what notes arguments of which at most one may be given."""
        return Group(self)

    def note(self, names: tuple[str, ...], how: dict[str, Any], group: object) -> None:
        """Note an argument of a group. Raises: NotPlain."""
        argument = Argument(names, how, group)
        self._arguments.append(argument)
        if names[0].startswith("-"):
            self._options.update(dict.fromkeys(names, argument))
        else:
            self._positionals.append(argument)

    def read(self, words: Sequence[str], options: Options) -> None:
        """Set what the words say. Raises: NotPlain, with some of it set."""
        for argument in self._arguments:
            if not hasattr(options, argument.dest):
                setattr(options, argument.dest, argument.default)
        alone: list[str] = []
        groups: list[object] = []
        left = iter(words)
        for word in left:
            if word.startswith("-"):
                groups.append(self._read_option(word, left, options).group)
            elif word:
                alone.append(word)
            else:
                raise NotPlain
        exclusive = [group for group in groups if group is not None]
        if len(set(exclusive)) < len(exclusive):
            raise NotPlain
        self._read_positionals(alone, options)

    def _read_option(self, word: str, left: Iterator[str], options: Options) -> Argument:
        name, equals, text = word.partition("=")
        argument = self._options.get(name)
        if argument is None or argument.nargs is not None:
            raise NotPlain
        if argument.action in ("store_true", "store_const") and not equals:
            setattr(options, argument.dest, argument.const)
            return argument
        if not equals:
            text = next(left, "")
        if not text or text.startswith("-") or (equals and not name.startswith("--")):
            raise NotPlain
        if argument.action == "store":
            setattr(options, argument.dest, argument.value(text))
        elif argument.action == "append":
            setattr(options, argument.dest, [*(getattr(options, argument.dest) or ()), argument.value(text)])
        else:
            raise NotPlain
        return argument

    def _read_positionals(self, alone: list[str], options: Options) -> None:
        """Hand out the words that stand alone, in order: one to each argument, or all that are left."""
        for argument in self._positionals:
            if argument.nargs in ("*", "+"):
                if alone or (argument.nargs == "*" and argument.default is None):
                    setattr(options, argument.dest, [argument.value(word) for word in alone])
                elif argument.nargs == "+":
                    raise NotPlain
                alone = []
            elif alone and argument.nargs in (None, "?"):
                setattr(options, argument.dest, argument.value(alone[0]))
                alone = alone[1:]
            elif argument.nargs != "?":
                raise NotPlain
        if alone:
            raise NotPlain


class Group:
    """Arguments of which at most one may be given."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared

    def add_argument(self, *names: str, **how: Any) -> None:
        """Note an argument. Raises: NotPlain."""
        self._declared.note(names, how, self)
