"""Circuits written in OpenQASM 3 (Cross et al. 2022, doi:10.1145/3505636).

The official parser makes the syntax tree; this reader runs it once, with symbols in place of inputs, and writes down
the gates that it meets. What a parametrised circuit is made of is supported: sizes, inputs, loops, integer and angle
arithmetic, conditions on sizes, gate definitions, `ctrl @` and `inv @`. Everything else (measurement, reset, classical
bits, subroutines, timing) is refused with the line and the construct.

Two conventions tie a file to a model. `const int NAME = NUMBER;` declares a size, which a caller may change. An `input`
is data, one value for every row, unless the line before it says `@trainable`: then it is a weight::

    const int n = 4;
    input array[float[64], n] x;
    @trainable
    input array[float[64], n] weights;

Departures: `rxx`, `ryy` and `rzz` are known beside `stdgates.inc`, and the functions `arctan2(y, x)` and `hypot(x, y)`
beside those of the specification; `popcount` and the bitwise operators take any integer that is not negative; angles
are floats, not rounded fractions of a turn.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from ..errors import CircuitError, nearest
from .expr import Op, symbols
from .operations import Operation, check_arity, controlled, inverse, program_of, standard_gate
from .program import Program
from .qasm_expressions import (
    CONSTANTS,
    Variable,
    as_number,
    broadcast,
    combine,
    convert,
    evaluate,
    integer,
    integers,
    words,
)

MAX_STEPS = 1_000_000
_KINDS = {"IntType": "int", "UintType": "int", "FloatType": "float", "AngleType": "float", "BoolType": "bool"}


def read(text: str, sizes: Mapping[str, int] | None = None, source: str = "circuit") -> Program:
    """Return the program that the OpenQASM 3 `text` describes.

    sizes: values in place of the file's own for constants declared as `const int NAME = NUMBER;`. source: the name that
    error messages show. Raises `CircuitError` with source, line and construct; a circuit that takes more than
    `MAX_STEPS` gates and statements is refused.
    """
    try:
        return _Reader(text, sizes or {}, source).program()
    except RecursionError:
        raise CircuitError(f"circuit '{source}' is nested too deeply; a gate must not call itself") from None


def _parse(text: str, source: str) -> Any:
    import openqasm3
    from openqasm3.parser import QASM3ParsingError

    try:
        with redirect_stderr(StringIO()):  # the parser also prints what it raises
            return openqasm3.parse(text)
    except QASM3ParsingError as error:
        line, reason = _syntax_error(error)
        raise _located(text, source, line, reason) from None
    except AttributeError:  # the parser's own answer to a text without statements
        raise CircuitError(f"circuit '{source}' is empty; a circuit begins with  OPENQASM 3.0;  qubit[4] q;") from None


def _syntax_error(error: Exception) -> tuple[int, str]:
    if str(error):  # "L3:C4: reason"
        place, _, reason = str(error).partition(": ")
        return int(place[1:].split(":")[0]), reason
    token = error.__cause__.args[0].offendingToken  # type: ignore[union-attr]  # ANTLR keeps the token in its own error
    text = "the end of the text" if token.text == "<EOF>" else f"'{token.text}'"
    return token.line, f"syntax error: {text} is unexpected here"


def _located(text: str, source: str, line: int, reason: str) -> CircuitError:
    lines = text.splitlines()
    quoted = f"\n    {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""
    return CircuitError(f"circuit '{source}', line {line}: {reason}{quoted}")


class _Reader:
    """One pass over a syntax tree: what has been declared so far, and the operations written down so far."""

    def __init__(self, text: str, sizes: Mapping[str, int], source: str) -> None:
        self.text, self.source, self.sizes = text, source, sizes
        self.scope: ChainMap[str, Any] = ChainMap()
        self.gates: dict[str, Any] = {}
        self.operations: list[Operation] = []
        self.shapes: dict[Op, dict[str, tuple[int, ...]]] = {"input": {}, "weight": {}}
        self.n_wires = self.steps = 0
        self.has_stdgates = False
        self.refusal: CircuitError | None = None  # the error on its way up that names its line already
        self.handlers: dict[str, Callable[[Any], None]] = {
            "Include": self.include,
            "ConstantDeclaration": self.constant,
            "ClassicalDeclaration": self.variable,
            "ClassicalAssignment": self.assignment,
            "IODeclaration": self.input,
            "QubitDeclaration": self.qubits,
            "QuantumGateDefinition": self.definition,
            "QuantumGate": self.gate,
            "QuantumPhase": self.phase,
            "QuantumBarrier": lambda _: None,
            "ForInLoop": self.loop,
            "BranchingStatement": self.branch,
            "CompoundStatement": lambda node: self.block(node.statements, {}),
        }

    def program(self) -> Program:
        tree = _parse(self.text, self.source)
        if tree.version and not tree.version.startswith("3"):
            raise CircuitError(f"circuit '{self.source}' is OpenQASM {tree.version}; this reader knows OpenQASM 3")
        self.check_sizes([node for node in tree.statements if self.is_size(node)])
        self.run(tree.statements)
        if not self.n_wires:
            raise CircuitError(f"circuit '{self.source}' declares no qubits; write  qubit[4] q;")
        return program_of(self.n_wires, self.operations, self.shapes["input"], self.shapes["weight"])

    @staticmethod
    def is_size(node: Any) -> bool:
        return (
            type(node).__name__ == "ConstantDeclaration"
            and _KINDS.get(type(node.type).__name__) == "int"
            and type(node.init_expression).__name__ == "IntegerLiteral"
        )

    def check_sizes(self, declarations: Sequence[Any]) -> None:
        known = [node.identifier.name for node in declarations]
        for name, value in self.sizes.items():
            if name not in known:
                has = f"has sizes {', '.join(known)}" if known else "has no sizes"
                raise CircuitError(f"circuit '{self.source}' {has}; got '{name}'{nearest(name, known)}")
            if type(value) is not int or value < 1:
                raise CircuitError(
                    f"circuit '{self.source}': size '{name}' must be a positive whole number; got {value!r}"
                )

    def run(self, statements: Sequence[Any]) -> None:
        """Run statements in order; an error gets the line of the innermost statement that raised it."""
        for node in statements:
            annotations = getattr(node, "annotations", [])
            crowded = next((note for note in annotations if note.command), None)  # command: the rest of its line
            line = crowded.span.start_line if crowded else node.span.start_line + len(annotations)
            try:
                self.step()
                if crowded:
                    raise CircuitError(f"'@{crowded.keyword}' needs a line of its own, before its input")
                if annotations and type(node).__name__ != "IODeclaration":
                    raise CircuitError(f"annotation '@{annotations[0].keyword}' belongs on the line before an input")
                if type(node).__name__ not in self.handlers:
                    raise CircuitError(f"{words(node)} is not supported: a circuit is gates, sizes, inputs and loops")
                self.handlers[type(node).__name__](node)
            except CircuitError as error:
                if error is self.refusal:
                    raise
                self.refusal = _located(self.text, self.source, line, str(error))
                raise self.refusal from None

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise CircuitError(f"the circuit takes more than {MAX_STEPS:,} gates and statements; make it smaller")

    def block(self, statements: Sequence[Any], names: dict[str, Any]) -> None:
        """Run statements in a scope of their own that begins with `names`."""
        self.scope = self.scope.new_child(names)
        self.run(statements)
        self.scope = self.scope.parents

    def declare(self, name: str, value: Any) -> None:
        if name in self.scope.maps[0] or name in CONSTANTS:
            raise CircuitError(f"'{name}' is already declared")
        self.scope[name] = value

    def kind(self, node: Any) -> str:
        if type(node).__name__ not in _KINDS:
            raise CircuitError(f"{words(node)} is not supported for a variable; use int, float, angle or bool")
        return _KINDS[type(node).__name__]

    def include(self, node: Any) -> None:
        if node.filename != "stdgates.inc":
            raise CircuitError(f'include "{node.filename}" is not supported; only "stdgates.inc" is known')
        self.has_stdgates = True

    def constant(self, node: Any) -> None:
        name = node.identifier.name
        value = evaluate(node.init_expression, self.scope)
        if self.is_size(node) and len(self.scope.maps) == 1:
            value = self.sizes.get(name, value)
        self.declare(name, convert(self.kind(node.type), value))

    def variable(self, node: Any) -> None:
        kind = self.kind(node.type)
        if node.init_expression is None:
            raise CircuitError(f"variable '{node.identifier.name}' needs a value where it is declared")
        self.declare(node.identifier.name, Variable(kind, evaluate(node.init_expression, self.scope)))

    def assignment(self, node: Any) -> None:
        name = getattr(node.lvalue, "name", None)
        variable = self.scope.get(name) if isinstance(name, str) else None
        if not isinstance(variable, Variable):
            raise CircuitError("only a variable that was declared with a value can be assigned to")
        value = evaluate(node.rvalue, self.scope)
        if node.op.name != "=":
            value = combine(node.op.name.removesuffix("="), variable.value, value)
        variable.value = convert(variable.kind, value)

    def input(self, node: Any) -> None:
        if node.io_identifier.name != "input":
            raise CircuitError("output declarations are not supported: read-out is chosen outside the circuit")
        unknown = [note.keyword for note in node.annotations if note.keyword != "trainable"]
        if unknown:
            raise CircuitError(
                f"annotation '@{unknown[0]}' is not known{nearest(unknown[0], ['trainable'])}; only '@trainable' is"
            )
        is_array = type(node.type).__name__ == "ArrayType"
        base = node.type.base_type if is_array else node.type
        if _KINDS.get(type(base).__name__) != "float":
            raise CircuitError(
                "an input must be float, angle or an array of them; a whole number is a size:  const int n = 4;"
            )
        name = node.identifier.name
        dimensions = node.type.dimensions if is_array else []
        shape = tuple(integer(item, self.scope, f"a size of '{name}'") for item in dimensions)
        if min(shape, default=1) < 1 or math.prod(shape) > MAX_STEPS:
            raise CircuitError(
                f"input '{name}' has the shape {shape}; sizes must be positive, with at most {MAX_STEPS:,} entries"
            )
        op: Op = "weight" if node.annotations else "input"
        self.declare(name, symbols(op, name, shape))
        self.shapes[op][name] = shape

    def qubits(self, node: Any) -> None:
        size = 1 if node.size is None else integer(node.size, self.scope, "the size of a register")
        if not 1 <= size <= MAX_STEPS:
            raise CircuitError(f"register '{node.qubit.name}' has {size} qubits; it needs at least one")
        self.declare(node.qubit.name, tuple(range(self.n_wires, self.n_wires + size)))
        self.n_wires += size

    def definition(self, node: Any) -> None:
        if node.name.name in self.gates:
            raise CircuitError(f"gate '{node.name.name}' is already defined")
        self.gates[node.name.name] = node

    def loop(self, node: Any) -> None:
        if self.kind(node.type) != "int":
            raise CircuitError("a loop counts with int or uint")
        for value in integers(node.set_declaration, self.scope, f"loop '{node.identifier.name}'"):
            self.step()
            self.block(node.block, {node.identifier.name: value})

    def branch(self, node: Any) -> None:
        condition = evaluate(node.condition, self.scope)
        if not isinstance(condition, bool):
            raise CircuitError("a condition must compare sizes or counters, as in  if (n > 2)")
        self.block(node.if_block if condition else node.else_block, {})

    def phase(self, node: Any) -> None:
        if len(node.qubits) != self.modify(node.modifiers)[0]:
            raise CircuitError("gphase acts on its controls alone; write  ctrl @ gphase(a) q;")
        self.emit(node, lambda _: [Operation("gphase", (), (as_number(evaluate(node.argument, self.scope)),))])

    def gate(self, node: Any) -> None:
        if node.duration is not None:
            raise CircuitError("a gate with a duration is not supported")
        angles = [as_number(evaluate(argument, self.scope)) for argument in node.arguments]
        self.emit(node, lambda wires: self.expand(node.name.name, wires, angles))

    def emit(self, node: Any, expand: Callable[[Sequence[int]], list[Operation]]) -> None:
        """Write down a gate, with its modifiers, for every combination of wires that its registers ask for."""
        n_controls, inverted = self.modify(node.modifiers)
        for wires in broadcast(node.qubits, self.scope):
            if len(set(wires)) < len(wires):
                raise CircuitError(f"a gate needs different qubits; got {', '.join(str(wire) for wire in wires)}")
            operations = expand(wires[n_controls:])
            if inverted:
                operations = inverse(operations)
            for control in reversed(wires[:n_controls]):
                operations = controlled(operations, control)
            self.step(max(1, len(operations)))
            self.operations += operations

    def modify(self, modifiers: Sequence[Any]) -> tuple[int, bool]:
        """Return how many controls the modifiers add, and whether they ask for the inverse."""
        n_controls, inverted = 0, False
        for modifier in modifiers:
            if modifier.modifier.name == "ctrl":
                count = 1 if modifier.argument is None else integer(modifier.argument, self.scope, "the count of ctrl")
                n_controls += count
                if count < 1:
                    raise CircuitError(f"ctrl needs at least one qubit; got ctrl({count})")
            elif modifier.modifier.name == "inv":
                inverted = not inverted
            else:
                raise CircuitError(f"the modifier '{modifier.modifier.name} @' is not supported; ctrl and inv are")
        return n_controls, inverted

    def expand(self, name: str, wires: Sequence[int], angles: Sequence[Any]) -> list[Operation]:
        """Return the operations of one gate; a gate that the text defines runs its body with a list of its own."""
        if name not in self.gates:
            if name != "U" and not self.has_stdgates:
                raise CircuitError(f"gate '{name}' is not defined; is  include \"stdgates.inc\";  missing?")
            return standard_gate(name, wires, angles)
        body = self.gates[name]
        check_arity(name, (len(body.qubits), len(body.arguments)), (len(wires), len(angles)))
        outer = self.scope, self.operations
        constants = {key: value for key, value in self.scope.maps[-1].items() if isinstance(value, int | float)}
        names = dict(zip((argument.name for argument in body.arguments), angles, strict=True))
        names |= {qubit.name: (wire,) for qubit, wire in zip(body.qubits, wires, strict=True)}
        self.scope, self.operations = ChainMap(names, constants), []
        self.run(body.body)
        operations = self.operations
        self.scope, self.operations = outer
        return operations
