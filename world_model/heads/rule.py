"""Rules that label frames: a tiny language over named state columns. It is parsed into a tree and checked, never executed.

``block_x > 0.60``, ``tool in box(0.5, 0.7, -0.1, 0.1)`` (x from, x to, y from, y to), ``block in disc(0.55, 0.0, 0.08)`` (x, y, radius),
``distance(tool, block) < 0.08``, joined by ``and``, ``or``, ``not``. Points are ``tool``, ``block`` or ``(x, y)``; numbers may be added, subtracted
and multiplied, and ``abs(...)`` taken. A rule that compares says what is *forbidden*; its margin is the signed distance to the forbidden set
(union and intersection by minimum and maximum, Ricci 1973), at least 0 where the frame is safe. A rule without a comparison is a number.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("tool_x", "tool_y", "tool_z", "block_x", "block_y", "block_yaw")
_LONGEST = 500
_MIXED = "mixed"
F64 = NDArray[np.float64]
_Value = Callable[[F64], F64]


class RuleError(ValueError):
    """A rule that cannot be understood, with the reason in one line."""


@dataclass(frozen=True)
class Rule:
    """A parsed rule: ``text``; ``is_margin`` if it says what is forbidden, else it is a number; ``unit`` m, rad, none ("") or "mixed"."""

    text: str
    is_margin: bool
    unit: str
    _evaluate: _Value

    def values(self, state: NDArray[np.floating]) -> F64:
        """Margin or number ``(...)`` for ``state (..., S)``; a margin is at least 0 where the frame is safe."""
        return self._evaluate(np.asarray(state, dtype=np.float64))


@dataclass(frozen=True)
class _Number:
    evaluate: _Value
    unit: str


@dataclass(frozen=True)
class _Margin:
    evaluate: _Value
    unit: str


def parse_rule(text: str, columns: Sequence[str] = COLUMNS) -> Rule:
    """Read a rule over state ``columns``.

    Raises:
        RuleError: it is not a rule; the message names the part that is not understood.
    """
    if len(text) > _LONGEST:
        raise RuleError(f"the rule has {len(text)} characters, more than {_LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RuleError(f'\'{text}\' is not a rule such as "block_x > 0.60" or "tool in box(0.5, 0.7, -0.1, 0.1)"') from error
    parsed = _Parser(tuple(columns)).expression(tree)
    return Rule(text, isinstance(parsed, _Margin), parsed.unit, parsed.evaluate)


def _shared(first: str, second: str) -> str:
    return first if first == second or not second else second if not first else _MIXED


class _Parser:
    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns

    def expression(self, node: ast.expr) -> _Number | _Margin:
        if isinstance(node, ast.BoolOp):
            parts = [self._margin(part) for part in node.values]
            # Forbidden by one of them: the nearest counts. Forbidden only by all of them: the farthest does.
            nearest = np.minimum if isinstance(node.op, ast.Or) else np.maximum
            unit = parts[0].unit
            for part in parts[1:]:
                unit = _shared(unit, part.unit)
            return _Margin(lambda state: nearest.reduce([part.evaluate(state) for part in parts]), unit)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._margin(node.operand)
            return _Margin(lambda state: -inner.evaluate(state), inner.unit)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        return self._number(node)

    def _margin(self, node: ast.expr) -> _Margin:
        parsed = self.expression(node)
        if isinstance(parsed, _Margin):
            return parsed
        raise RuleError(f"'{ast.unparse(node)}' compares nothing; say for example {ast.unparse(node)} > 0.5")

    def _comparison(self, node: ast.Compare) -> _Margin:
        places = [node.left, *node.comparators]
        parts = [self._one_comparison(a, op, b, node) for a, op, b in zip(places, node.ops, places[1:], strict=False)]
        unit = parts[0].unit
        for part in parts[1:]:
            unit = _shared(unit, part.unit)
        return _Margin(lambda state: np.maximum.reduce([part.evaluate(state) for part in parts]), unit)

    def _one_comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, whole: ast.Compare) -> _Margin:
        if isinstance(op, ast.In | ast.NotIn):
            region = self._region(left, right)
            return region if isinstance(op, ast.In) else _Margin(lambda state: -region.evaluate(state), region.unit)
        if isinstance(op, ast.Gt | ast.GtE):
            larger, smaller = self._number(left), self._number(right)
        elif isinstance(op, ast.Lt | ast.LtE):
            larger, smaller = self._number(right), self._number(left)
        else:
            raise RuleError(f"'{ast.unparse(whole)}': compare with <, > or in; a margin has no other meaning")
        return _Margin(lambda state: smaller.evaluate(state) - larger.evaluate(state), _shared(larger.unit, smaller.unit))

    def _region(self, point: ast.expr, region: ast.expr) -> _Margin:
        x, y = self._point(point)
        name, arguments = self._call(region)
        if name == "box" and len(arguments) == 4:
            x0, x1, y0, y1 = (self._constant(argument) for argument in arguments)
            if x0 >= x1 or y0 >= y1:
                raise RuleError(f"'{ast.unparse(region)}' is empty; write box(x from, x to, y from, y to)")

            def to_box(state: F64) -> F64:
                beside = np.stack([np.abs(x(state) - (x0 + x1) / 2) - (x1 - x0) / 2, np.abs(y(state) - (y0 + y1) / 2) - (y1 - y0) / 2], axis=-1)
                distance: F64 = np.linalg.norm(np.maximum(beside, 0.0), axis=-1) + np.minimum(beside.max(-1), 0.0)
                return distance

            return _Margin(to_box, "m")
        if name == "disc" and len(arguments) == 3:
            cx, cy, radius = (self._constant(argument) for argument in arguments)
            if radius <= 0:
                raise RuleError(f"'{ast.unparse(region)}' is empty; write disc(x, y, radius)")
            return _Margin(lambda state: np.hypot(x(state) - cx, y(state) - cy) - radius, "m")
        raise RuleError(f"'{ast.unparse(region)}' is no region; write box(x from, x to, y from, y to) or disc(x, y, radius)")

    def _number(self, node: ast.expr) -> _Number:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            value = float(node.value)
            return _Number(lambda state: np.full(state.shape[:-1], value), "")
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self._number(node.operand)
            return _Number(lambda state: -inner.evaluate(state), inner.unit)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
            return self._arithmetic(node)
        if isinstance(node, ast.Call):
            name, arguments = self._call(node)
            if name == "abs" and len(arguments) == 1:
                inner = self._number(arguments[0])
                return _Number(lambda state: np.abs(inner.evaluate(state)), inner.unit)
            if name == "distance" and len(arguments) == 2:
                (ax, ay), (bx, by) = (self._point(argument) for argument in arguments)
                return _Number(lambda state: np.hypot(ax(state) - bx(state), ay(state) - by(state)), "m")
        raise RuleError(f"'{ast.unparse(node)}' is not a number; known are {', '.join(self._columns)}, distance(a, b) and abs(a)")

    def _arithmetic(self, node: ast.BinOp) -> _Number:
        left, right = self._number(node.left), self._number(node.right)
        if isinstance(node.op, ast.Mult):
            unit = _MIXED if left.unit and right.unit else _shared(left.unit, right.unit)
            return _Number(lambda state: left.evaluate(state) * right.evaluate(state), unit)
        sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
        return _Number(lambda state: left.evaluate(state) + sign * right.evaluate(state), _shared(left.unit, right.unit))

    def _column(self, name: str) -> _Number:
        if name not in self._columns:
            raise RuleError(f"unknown column '{name}'; known are {', '.join(self._columns)}")
        index = self._columns.index(name)
        return _Number(lambda state: state[..., index], "rad" if name.endswith("yaw") else "m")

    def _point(self, node: ast.expr) -> tuple[_Value, _Value]:
        if isinstance(node, ast.Name) and f"{node.id}_x" in self._columns and f"{node.id}_y" in self._columns:
            return self._column(f"{node.id}_x").evaluate, self._column(f"{node.id}_y").evaluate
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            return self._number(node.elts[0]).evaluate, self._number(node.elts[1]).evaluate
        points = [column[:-2] for column in self._columns if column.endswith("_x")]
        raise RuleError(f"'{ast.unparse(node)}' is no point; known are {', '.join(points)} and (x, y)")

    def _constant(self, node: ast.expr) -> float:
        sign = 1.0
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1.0, node.operand
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return sign * float(node.value)
        raise RuleError(f"'{ast.unparse(node)}' must be a number")

    def _call(self, node: ast.expr) -> tuple[str, list[ast.expr]]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return node.func.id, node.args
        raise RuleError(f"'{ast.unparse(node)}' is no region or function; known are box, disc, distance and abs")
