"""Angles as expressions of inputs and weights.

A gate's angle is a small immutable tree over the circuit's inputs (data, one value a row) and weights (trainable, one
value a client). A circuit is lowered by running its source once with such trees in place of numbers; torch evaluates
them later for all clients and rows at once. Trees answer to Python's arithmetic, to NumPy's functions on object arrays
(`np.sin(array)` calls `expr.sin()`), and to `torch.sin(expr)`, so that a circuit may compute angles as it likes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from ..errors import CircuitError

Op = Literal["input", "weight"]
UNARY: dict[str, Callable[[float], float]] = {
    "neg": lambda x: -x,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
}
BINARY: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "atan2": math.atan2,
    "hypot": math.hypot,
}
MAX_NODES, MAX_DEPTH = 10_000, 250  # of one angle; a shared subtree counts each time it is used
_TORCH_NAMES = {
    "add": "+",
    "sub": "-",
    "subtract": "-",
    "mul": "*",
    "multiply": "*",
    "div": "/",
    "divide": "/",
    "true_divide": "/",
    "atan2": "atan2",
    "arctan2": "atan2",
    "hypot": "hypot",
}
_LONG_NAMES = {"negative": "neg", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}


@dataclass(frozen=True, eq=True)
class Expr:
    """One node: an operation and its arguments.

    Leaves are `Expr("const", (1.5,))`, `Expr("input", ("x", 3))` and `Expr("weight", ("w", 7))`, where the integer is
    the position in the flattened array of that name. Equality is structural.
    """

    op: str
    args: tuple[Any, ...]

    # NumPy must hand `array * expr` to us elementwise, and treat one expression as a scalar.
    __array_priority__ = 1000
    shape = ()
    ndim = 0

    def __add__(self, other: Any) -> Any:
        return _binary("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return _binary("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return _binary("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _binary("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return _binary("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _binary("*", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _binary("/", other, self)

    def __neg__(self) -> "Expr":
        return _unary("neg", self)

    def __pos__(self) -> "Expr":
        return self

    def __pow__(self, power: Any) -> "Expr":
        if not isinstance(power, int) or power < 1:
            raise CircuitError(f"an angle may be raised to a positive whole power; got {power!r}")
        result = self
        for _ in range(power - 1):
            result = result * self
        return result

    def __float__(self) -> float:
        if self.op == "const":
            return float(self.args[0])
        raise CircuitError(
            f"the circuit turns the angle {self} into a plain number, which would freeze it; "
            "compute angles with arithmetic, np.sin, torch.sin and the like, and do not branch on them"
        )

    def __bool__(self) -> bool:
        return bool(float(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Expr):
            return (self.op, self.args) == (other.op, other.args)
        # `x[0] == 0.5` in a circuit is a branch on data: a quiet False would freeze the circuit's shape
        return float(self) == other if isinstance(other, int | float) else NotImplemented

    def __str__(self) -> str:
        if self.op == "const":
            return f"{self.args[0]:g}"
        if self.op in ("input", "weight"):
            return f"{self.args[0]}[{self.args[1]}]"
        if self.op in BINARY:
            a, b = self.args
            return f"{self.op}({a}, {b})" if self.op.isalnum() else f"({a} {self.op} {b})"
        return f"{'-' if self.op == 'neg' else self.op}({self.args[0]})"

    def sin(self) -> "Expr":
        """Return sin of this angle; NumPy calls the methods below on object arrays."""
        return _unary("sin", self)

    def cos(self) -> "Expr":
        """Return cos of this angle."""
        return _unary("cos", self)

    def tan(self) -> "Expr":
        """Return tan of this angle."""
        return _unary("tan", self)

    def arcsin(self) -> "Expr":
        """Return the inverse sine."""
        return _unary("asin", self)

    def arccos(self) -> "Expr":
        """Return the inverse cosine."""
        return _unary("acos", self)

    def arctan(self) -> "Expr":
        """Return the inverse tangent."""
        return _unary("atan", self)

    def exp(self) -> "Expr":
        """Return the exponential."""
        return _unary("exp", self)

    def log(self) -> "Expr":
        """Return the natural logarithm."""
        return _unary("log", self)

    def sqrt(self) -> "Expr":
        """Return the square root."""
        return _unary("sqrt", self)

    def arctan2(self, other: Any) -> Any:
        """Return the angle of the point (other, self), in (-pi, pi]; 0 at the origin."""
        return _binary("atan2", self, other)

    def hypot(self, other: Any) -> Any:
        """Return the length of the vector (self, other)."""
        return _binary("hypot", self, other)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        name = _LONG_NAMES.get(name, name)
        if name in UNARY and len(args) == 1:
            return _unary(name, args[0])
        if name in _TORCH_NAMES and len(args) == 2:
            return _binary(_TORCH_NAMES[name], *args)
        raise CircuitError(f"torch.{name} is not known for angles; known are {' '.join(BINARY)} and {', '.join(UNARY)}")

    @cached_property
    def n_nodes(self) -> int:
        """The number of nodes when the tree is written out."""
        return 1 + sum(arg.n_nodes for arg in self.args if isinstance(arg, Expr))

    @cached_property
    def depth(self) -> int:
        """The number of nodes on the longest way from here to a leaf."""
        return 1 + max((arg.depth for arg in self.args if isinstance(arg, Expr)), default=0)

    def leaves(self) -> Iterator["Expr"]:
        """Yield the leaves from left to right."""
        if self.op in ("const", "input", "weight"):
            yield self
        else:
            for arg in self.args:
                yield from arg.leaves()

    def uses(self, op: Op) -> bool:
        """Say whether a leaf is an input, or a weight."""
        return any(leaf.op == op for leaf in self.leaves())

    def to_json(self) -> Any:
        """Return this tree as nested lists; a constant is a float."""
        if self.op == "const":
            return float(self.args[0])
        if self.op in ("input", "weight"):
            return [self.op, *self.args]
        return [self.op, *(arg.to_json() for arg in self.args)]


def const(value: float) -> Expr:
    """Return the leaf of a fixed number (radians where it is an angle); raise `CircuitError` unless it is finite."""
    if not math.isfinite(value):
        raise CircuitError(f"an angle must be finite; got {value}")
    return Expr("const", (float(value),))


def as_expr(value: Any) -> Expr:
    """Return `value`, a number, zero-dimensional array or expression, as an expression."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return as_expr(value.item())
    try:
        return const(float(value))
    except (TypeError, ValueError):
        raise CircuitError(f"an angle must be a number or an expression of inputs and weights; got {value!r}") from None


def from_json(data: Any) -> Expr:
    """Return the tree that `Expr.to_json` wrote; refuse anything else."""
    if isinstance(data, int | float) and not isinstance(data, bool):
        return const(data)
    match data:
        case [("input" | "weight") as op, str(name), int(index)] if index >= 0:
            return Expr(op, (name, index))
        case [str(op), a] if op in UNARY:
            return _node(op, from_json(a))
        case [str(op), a, b] if op in BINARY:
            return _node(op, from_json(a), from_json(b))
    raise CircuitError(f"not an angle expression: {data!r}")


def symbols(op: Op, name: str, shape: Sequence[int]) -> Any:
    """Return an object array of shape `shape` of leaves; a single leaf for the empty shape.

    Raises `CircuitError` for a shape with a size that is not positive.
    """
    if tuple(shape) == ():
        return Expr(op, (name, 0))
    if min(shape) < 1:
        raise CircuitError(f"'{name}' has the shape {tuple(shape)}; its sizes must be positive")
    array = np.empty(tuple(shape), dtype=object)
    for flat, index in enumerate(np.ndindex(*shape)):
        array[index] = Expr(op, (name, flat))
    return array


def affine_in(expr: Expr, weight: Expr) -> float | None:
    """Return c if `expr` is c * weight + (anything without that weight), with c a constant; otherwise None.

    A product of the weight with an input, or a function of it, gives None: it does not turn at a fixed rate.
    """
    if expr == weight:
        return 1.0
    if weight not in expr.leaves():
        return 0.0
    if expr.op == "neg":
        inner = affine_in(expr.args[0], weight)
        return None if inner is None else -inner
    if expr.op in ("+", "-"):
        a, b = (affine_in(arg, weight) for arg in expr.args)
        if a is None or b is None:
            return None
        return a + b if expr.op == "+" else a - b
    if expr.op in ("*", "/"):
        left, right = expr.args
        if right.op == "const":
            factor, inner = float(right), affine_in(left, weight)
        elif left.op == "const" and expr.op == "*":
            factor, inner = float(left), affine_in(right, weight)
        else:
            return None
        if inner is None:
            return None
        return inner * factor if expr.op == "*" else inner / factor
    return None


def _node(op: str, *args: Expr) -> Expr:
    expr = Expr(op, args)
    if expr.n_nodes > MAX_NODES or expr.depth > MAX_DEPTH:
        raise CircuitError(
            f"one angle is an expression of more than {MAX_NODES:,} terms or {MAX_DEPTH} levels; "
            "compute it before the circuit and make the result an input"
        )
    return expr


def _unary(op: str, a: Any) -> Expr:
    a = as_expr(a)
    if a.op == "const":
        return const(_defined(UNARY[op], op, a.args[0]))
    if op == "neg" and a.op == "neg":
        return a.args[0]  # type: ignore[no-any-return]
    return _node(op, a)


def _binary(op: str, a: Any, b: Any) -> Any:
    if any(getattr(arg, "ndim", 0) > 0 for arg in (a, b)):  # an array, or a torch tensor of constants
        a, b = (arg if isinstance(arg, Expr | np.ndarray) else np.asarray(arg, dtype=object) for arg in (a, b))
        return np.frompyfunc(partial(_binary, op), 2, 1)(a, b)
    a, b = as_expr(a), as_expr(b)
    if op == "/" and b == const(0):
        raise CircuitError(f"the angle {a} / 0 is not defined")
    if a.op == "const" and b.op == "const":
        return const(_defined(BINARY[op], op, a.args[0], b.args[0]))
    if (op in ("+", "-") and b == const(0)) or (op in ("*", "/") and b == const(1)):
        return a
    if (op == "+" and a == const(0)) or (op == "*" and a == const(1)):
        return b
    return _node(op, a, b)


def _defined(function: Callable[..., float], op: str, *args: float) -> float:
    try:
        return function(*args)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise CircuitError(f"the angle {op}{args} is not defined: {error}") from None
