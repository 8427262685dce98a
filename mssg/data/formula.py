"""Arithmetic of a cohort map: numbers, names in braces, + - * / and brackets; nothing else is understood."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"\{([^{}]+)\}")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS = {ast.UAdd: operator.pos, ast.USub: operator.neg}


@dataclass(frozen=True)
class Formula:
    """A sum, a ratio and the like of a table's columns: "{AgeatEntry} + {days} / 365.25".

    Attributes:
        text: As the map has it.
        names: What it asks for, in order.
        tree: It, parsed; name i is called _i.
    """

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    @classmethod
    def parse(cls, text: str) -> Formula:
        """Read a formula.

        Raises:
            ValueError: It is none, or names nothing; what is wrong is said.
        """
        names = tuple(dict.fromkeys(_NAME.findall(text)))
        if not names:
            raise ValueError("names no column in braces")
        plain = _NAME.sub(lambda match: f"_{names.index(match[1])}", text)
        try:
            tree = ast.parse(plain.strip(), mode="eval").body
        except SyntaxError:
            raise ValueError("is no arithmetic") from None
        _value(tree, [1.0] * len(names), check=True)
        return cls(text, names, tree)

    def value(self, numbers: Mapping[str, float]) -> float:
        """Its value.

        Raises:
            ZeroDivisionError: Something is divided by 0.
        """
        return _value(self.tree, [numbers[name] for name in self.names])


def _value(node: ast.expr, numbers: list[float], check: bool = False) -> float:
    """A node's value; with `check`, whether it is understood alone.

    Raises:
        ValueError: Something that is no arithmetic.
        ZeroDivisionError: A division by 0, unless it is only checked.
    """
    number = isinstance(node, ast.Constant) and node.value
    if isinstance(number, int | float) and not isinstance(number, bool):
        return float(number)
    if isinstance(node, ast.Name) and re.fullmatch(r"_\d+", node.id) and int(node.id[1:]) < len(numbers):
        return numbers[int(node.id[1:])]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_value(node.operand, numbers, check))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left, numbers, check), _value(node.right, numbers, check)
        return 1.0 if check else _OPERATIONS[type(node.op)](left, right)
    raise ValueError("only numbers, names in braces, + - * / and brackets are understood")
