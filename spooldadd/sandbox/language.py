"""The language of templates: what Jinja2 parsed is checked, and a measure put before what has a cost. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from spooldadd.complaints import near
from spooldadd.sandbox.budget import Names, TemplateFault
from spooldadd.sandbox.filters import CONCAT, READ, STEPS

_NODES: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Tuple,
    nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call,
    nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.BinExpr,
    nodes.UnaryExpr, nodes.If, nodes.For, nodes.Assign, nodes.With,
)  # fmt: skip


class Rewriter(NodeTransformer):
    """Walks a parsed template: refuses what the language leaves out, and puts a measure before what has a cost."""

    def __init__(
        self, names: Mapping[str, Names], filters: Collection[str], tests: Collection[str], set_names: Collection[str]
    ) -> None:
        self._names = names
        self._filters = [name for name in filters if not name.endswith(" ")]
        self._tests = tests
        self._words = [*names, "range", "loop", *set_names]

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
        """Refuse a test that does not exist."""
        if node.name not in self._tests:
            raise TemplateFault(f"no test is named `{node.name}`{self._meant(node.name, self._tests)}")
        return self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Pay for reading both sides."""
        self.generic_visit(node)
        node.expr = _filtered(node.expr, READ)
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, READ)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """Pay for reading what is cut, or the key that is looked up."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node, READ)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = _filtered(node.arg, READ)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        """Pay for the key, all of which is read to find its place."""
        self.generic_visit(node)
        node.key = _filtered(node.key, READ)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """Make `~` a filter of ours, which measures."""
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), CONCAT)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Pay for each round by the size of the loop's body."""
        if node.recursive:
            raise TemplateFault("a recursive loop is not available in templates of a spec")
        steps = sum(1 for _ in node.find_all(nodes.Node))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, STEPS, nodes.Const(steps, lineno=node.lineno))
        return node

    @staticmethod
    def _meant(name: str, choices: Iterable[str]) -> str:
        suggested = near(name, choices)
        return f"; did you mean `{suggested}`?" if suggested else ""


def _filtered(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
