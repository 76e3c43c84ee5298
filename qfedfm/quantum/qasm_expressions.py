"""The value of an OpenQASM 3 expression, and the wires of a gate's operands.

Sizes and loop counters are integers, angles are floats or, once an input or a weight takes part, `Expr` trees. Three
things differ from plain Python: `%` and negative indices follow the specification (`%` as in C; q[-1] is the last), and
the division of two integers must leave no rest, because `1/2` is 0 by the specification and never what an angle means.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import CircuitError, nearest
from .expr import Expr, as_expr

CONSTANTS = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e, "ℇ": math.e}
FUNCTIONS = ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "exp", "log", "sqrt")
PAIRED_FUNCTIONS = ("arctan2", "hypot")
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&&": lambda a, b: bool(a) and bool(b),
    "||": lambda a, b: bool(a) or bool(b),
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_BITWISE: dict[str, Callable[[Any, Any], Any]] = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}
MAX_POWER = 64
MAX_INTEGER = 2**63


class Variable:
    """A declared variable: its type ("int", "float" or "bool") and the value that it holds now."""

    def __init__(self, kind: str, value: Any) -> None:
        self.kind, self.value = kind, convert(kind, value)


def words(node: Any) -> str:
    """Return the name of a construct for people: "quantum measurement" for QuantumMeasurement."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(node).__name__).strip()


def convert(kind: str, value: Any) -> Any:
    """Return `value` as a variable of type `kind` holds it; an angle is a float."""
    if kind == "float":
        return as_number(value)
    plain = int if kind == "int" else bool
    if type(value) is not plain:
        raise CircuitError(f"a variable of type {kind} cannot hold {_show(value)}")
    return value


def as_number(value: Any) -> Any:
    """Return `value` as an angle: a float or an expression."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise CircuitError(f"an angle must be a finite number; got {_show(value)}")


def evaluate(node: Any, scope: Mapping[str, Any]) -> Any:
    """Return the value of an expression: int, float, bool, `Expr`, array of them (an input) or wires (a register).

    Raises `CircuitError`, without the line, for what is unknown, undefined or not supported.
    """
    kind = type(node).__name__
    if kind in ("IntegerLiteral", "FloatLiteral", "BooleanLiteral"):
        return node.value
    if kind not in _EVALUATORS:
        raise CircuitError(f"{words(node)} is not supported in an expression")
    value = _EVALUATORS[kind](node, scope)
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise CircuitError("an integer leaves the range of 64 bits")
    return value


def integer(node: Any, scope: Mapping[str, Any], what: str) -> int:
    """Return the value of an expression that must be a known whole number."""
    value = evaluate(node, scope)
    if type(value) is not int:
        raise CircuitError(f"{what} must be a whole number known before the run; got {_show(value)}")
    return value


def integers(node: Any, scope: Mapping[str, Any], what: str) -> Iterable[int]:
    """Return the numbers of a range [start:step:stop], with stop included, or of a set {1, 2}."""
    if type(node).__name__ == "DiscreteSet":
        return [integer(value, scope, what) for value in node.values]
    if type(node).__name__ != "RangeDefinition" or node.start is None or node.end is None:
        raise CircuitError(f"{what} must run over [start:stop], [start:step:stop] or a set {{...}}")
    start, stop = integer(node.start, scope, what), integer(node.end, scope, what)
    step = 1 if node.step is None else integer(node.step, scope, what)
    if step == 0:
        raise CircuitError(f"{what} has the step 0")
    return range(start, stop + (1 if step > 0 else -1), step)


def _at(index: int, length: int, name: str) -> int:
    """Return `index`, counted from the end if negative, checked against `length`."""
    if not -length <= index < length:
        raise CircuitError(f"index {index} of '{name}' is outside 0..{length - 1}")
    return index % length


def broadcast(operands: Sequence[Any], scope: Mapping[str, Any]) -> Iterator[tuple[int, ...]]:
    """Yield the wires of each single gate that a call asks for: registers run in step, a single qubit is repeated."""
    registers = [_wires(operand, scope) for operand in operands]
    lengths = {len(register) for register in registers} - {1}
    if len(lengths) > 1:
        raise CircuitError(f"a gate on registers needs equal sizes; got {', '.join(map(str, sorted(lengths)))}")
    for i in range(max(lengths, default=1)):
        yield tuple(register[i if len(register) > 1 else 0] for register in registers)


def _wires(operand: Any, scope: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the wires that `q`, `q[2]` or `q[0:2]` names."""
    indexed = type(operand).__name__ == "IndexedIdentifier"
    name = operand.name.name if indexed else operand.name
    register = scope.get(name)
    if not isinstance(register, tuple):
        registers = [key for key, value in scope.items() if isinstance(value, tuple)]
        raise CircuitError(f"'{name}' is not a qubit or register{nearest(name, registers)}")
    if not indexed:
        return register
    if len(operand.indices) != 1 or not isinstance(operand.indices[0], list) or len(operand.indices[0]) != 1:
        raise CircuitError(f"register '{name}' takes one index, as in {name}[0]")
    (index,) = operand.indices[0]
    what = f"an index of '{name}'"
    is_range = type(index).__name__ == "RangeDefinition"
    chosen = integers(index, scope, what) if is_range else [integer(index, scope, what)]
    return tuple(register[_at(place, len(register), name)] for place in chosen)


def _identifier(node: Any, scope: Mapping[str, Any]) -> Any:
    if node.name in scope:
        value = scope[node.name]
        return value.value if isinstance(value, Variable) else value
    if node.name in CONSTANTS:
        return CONSTANTS[node.name]
    raise CircuitError(f"'{node.name}' is not declared here{nearest(node.name, scope)}")


def _unary(node: Any, scope: Mapping[str, Any]) -> Any:
    value = evaluate(node.expression, scope)
    if node.op.name == "-" and isinstance(value, int | float | Expr):
        return -value
    if node.op.name == "!" and isinstance(value, bool):
        return not value
    raise CircuitError(f"'{node.op.name}' of {_show(value)} is not supported")


def _binary(node: Any, scope: Mapping[str, Any]) -> Any:
    return combine(node.op.name, evaluate(node.lhs, scope), evaluate(node.rhs, scope))


def combine(op: str, a: Any, b: Any) -> Any:
    """Return `a op b`."""
    for value in (a, b):
        if not isinstance(value, int | float | Expr) or (isinstance(value, bool) and op not in _COMPARISONS):
            raise CircuitError(f"'{op}' needs numbers; got {_show(value)}")
    if op in _COMPARISONS:
        if isinstance(a, Expr) or isinstance(b, Expr):
            raise CircuitError(f"'{op}' depends on an input or a weight: a circuit cannot branch on its data")
        return _COMPARISONS[op](a, b)
    try:
        if op in _ARITHMETIC:
            return _ARITHMETIC[op](a, b)
        if op == "/":
            return _divide(a, b)
        if op == "%":
            return _remainder(a, b)
        if op == "**":
            return _power(a, b)
        if op in _BITWISE:
            return _bitwise(op, a, b)
    except (ZeroDivisionError, OverflowError) as error:
        raise CircuitError(f"{a} {op} {b} is not defined: {error}") from None
    raise CircuitError(f"the operator '{op}' is not supported")


def _divide(a: Any, b: Any) -> Any:
    if not (isinstance(a, int) and isinstance(b, int)):
        return a / b
    if a % b:
        raise CircuitError(
            f"{a}/{b} divides integers, which OpenQASM cuts to {int(a / b)}: "
            f"write {a}.0/{b} for an angle, or subtract the remainder (%) first for an index"
        )
    return a // b


def _remainder(a: Any, b: Any) -> Any:
    if not (isinstance(a, int) and isinstance(b, int)):
        raise CircuitError(f"'%' needs integers; got {_show(a)} and {_show(b)}")
    return a % b if (a < 0) == (b < 0) or a % b == 0 else a % b - b


def _power(a: Any, b: Any) -> Any:
    if isinstance(b, Expr) or abs(b) > MAX_POWER:
        raise CircuitError(f"an exponent must be a number up to {MAX_POWER}; got {_show(b)}")
    value = a**b
    if isinstance(value, complex):
        raise CircuitError(f"{a} ** {b} is not a real number")
    return value


def _bitwise(op: str, a: Any, b: Any) -> Any:
    if not (isinstance(a, int) and isinstance(b, int)) or min(a, b) < 0 or (op in ("<<", ">>") and b > MAX_POWER):
        raise CircuitError(f"'{op}' needs integers that are not negative, for a shift up to {MAX_POWER}; got {a}, {b}")
    return _BITWISE[op](a, b)


def _index(node: Any, scope: Mapping[str, Any]) -> Any:
    array = evaluate(node.collection, scope)
    name = getattr(node.collection, "name", "array")
    if not isinstance(array, np.ndarray):
        raise CircuitError(f"{_show(array)} cannot be indexed in an expression")
    if not isinstance(node.index, list) or len(node.index) > array.ndim:
        raise CircuitError(f"'{name}' has {array.ndim} dimensions; its index must hold at most as many whole numbers")
    places = [integer(item, scope, f"an index of '{name}'") for item in node.index]
    return array[tuple(_at(place, length, name) for place, length in zip(places, array.shape, strict=False))]


def _call(node: Any, scope: Mapping[str, Any]) -> Any:
    name = node.name.name
    known = (*FUNCTIONS, *PAIRED_FUNCTIONS, "popcount")
    if name not in known:
        raise CircuitError(f"function '{name}' is not known{nearest(name, known)}; known: {', '.join(known)}")
    wanted = 2 if name in PAIRED_FUNCTIONS else 1
    if len(node.arguments) != wanted:
        raise CircuitError(f"function '{name}' takes {wanted} argument{'s' * (wanted > 1)}; got {len(node.arguments)}")
    if name == "popcount":
        value = integer(node.arguments[0], scope, "the argument of popcount")
        if value < 0:
            raise CircuitError(f"popcount needs an integer that is not negative; got {value}")
        return value.bit_count()
    first, *rest = (as_expr(as_number(evaluate(argument, scope))) for argument in node.arguments)
    result: Expr = getattr(first, name)(*rest)
    return float(result) if result.op == "const" else result


def _cast(node: Any, scope: Mapping[str, Any]) -> Any:
    value = evaluate(node.argument, scope)
    kind = type(node.type).__name__
    if kind in ("FloatType", "AngleType"):
        return as_number(value)
    if kind in ("IntType", "UintType") and isinstance(value, int | float):
        return int(value)
    raise CircuitError(f"a cast of {_show(value)} to {words(node.type)} is not supported")


_EVALUATORS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "Identifier": _identifier,
    "UnaryExpression": _unary,
    "BinaryExpression": _binary,
    "IndexExpression": _index,
    "FunctionCall": _call,
    "Cast": _cast,
}


def _show(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple):
        return "a register of qubits"
    return f"the angle {value}" if isinstance(value, Expr) else repr(value)
