"""The OpenQASM 3 reader: meaning against Qiskit and arithmetic done by hand, refusals with line and construct."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit.library import SGate, SXGate, TGate, U2Gate, U3Gate
from qiskit.quantum_info import Operator

from qfedfm.errors import CircuitError
from qfedfm.quantum.program import Gate, Program
from qfedfm.quantum.qasm import read

HEAD = """OPENQASM 3.0;
include "stdgates.inc";
const int n = 3;
input array[float[64], n] x;
qubit[n] q;
"""
LINE = HEAD.count("\n") + 1


def body(text: str) -> Program:
    return read(HEAD + text, source="test")


def only_angle(expression: str) -> float | str:
    """The angle of `rx(expression)`: a number, or the text of its slot."""
    program = body(f"rx({expression}) q[0];")
    (angle,) = program.gates[0].angles
    return str(program.slots[angle]) if isinstance(angle, int) else angle


# -- meaning, against Qiskit's matrices --------------------------------------------------------------------------------


def in_qiskit(program: Program) -> Operator:
    circuit = QuantumCircuit(program.n_wires)
    for name, wires, angles in program.gates:
        getattr(circuit, name)(*angles, *wires)
    return Operator(circuit)


def rotations(a: float, b: float) -> QuantumCircuit:
    """What the text's `mine` is: rx on the first qubit, cx, rz on the second, and the phase b."""
    circuit = QuantumCircuit(2, global_phase=b)
    circuit.rx(a, 0)
    circuit.cx(0, 1)
    circuit.rz(a / 2, 1)
    circuit.h(0)
    return circuit


def zyz(theta: float, phi: float, lam: float) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.rz(lam, 0)
    circuit.ry(theta, 0)
    circuit.rz(phi, 0)
    return circuit


MINE = "gate mine(a, b) s, t { gphase(b); rx(a) s; cx s, t; rz(a/2) t; h s; }\n"
MEANINGS = [
    ("U(0.1, 0.2, 0.3) q[1];", lambda c: c.u(0.1, 0.2, 0.3, 1)),
    ("u(0.1, 0.2, 0.3) q[1];", lambda c: c.u(0.1, 0.2, 0.3, 1)),
    ("u2(0.2, 0.3) q[1];", lambda c: c.append(U2Gate(0.2, 0.3), [1])),
    ("u3(0.1, 0.2, 0.3) q[1];", lambda c: c.append(U3Gate(0.1, 0.2, 0.3), [1])),
    ("u1(0.3) q[0]; phase(0.2) q[1]; CX q[0], q[2]; cphase(0.4) q[0], q[1];",
     lambda c: (c.p(0.3, 0), c.p(0.2, 1), c.cx(0, 2), c.cp(0.4, 0, 1))),
    ("cu(0.1, 0.2, 0.3, 0.4) q[2], q[0];", lambda c: c.cu(0.1, 0.2, 0.3, 0.4, 2, 0)),
    ("ctrl @ u3(0.1, 0.2, 0.3) q[2], q[0];", lambda c: c.append(zyz(0.1, 0.2, 0.3).to_gate().control(1), [2, 0])),
    ("ctrl(2) @ x q[2], q[0], q[1];", lambda c: c.ccx(2, 0, 1)),
    ("ctrl @ ctrl @ gphase(0.3) q[2], q[0];", lambda c: c.cp(0.3, 2, 0)),
    ("ctrl @ swap q[2], q[0], q[1];", lambda c: c.cswap(2, 0, 1)),
    ("ctrl @ s q[2], q[0];", lambda c: c.append(SGate().control(1), [2, 0])),
    ("ctrl @ inv @ t q[2], q[0];", lambda c: c.append(TGate().inverse().control(1), [2, 0])),
    ("inv @ sx q[1];", lambda c: c.append(SXGate().inverse(), [1])),
    ("inv @ cu(0.1, 0.2, 0.3, 0.4) q[2], q[0];", lambda c: c.cu(-0.1, -0.3, -0.2, -0.4, 2, 0)),
    (MINE + "mine(0.7, 0.2) q[2], q[1];", lambda c: c.append(rotations(0.7, 0.2).to_gate(), [2, 1])),
    (MINE + "inv @ mine(0.7, 0.2) q[2], q[1];", lambda c: c.append(rotations(0.7, 0.2).to_gate().inverse(), [2, 1])),
    (MINE + "ctrl @ mine(0.7, 0.2) q[0], q[2], q[1];",
     lambda c: c.append(rotations(0.7, 0.2).to_gate().control(1), [0, 2, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("text", "build"), MEANINGS, ids=[text.splitlines()[-1] for text, _ in MEANINGS])
def test_gates_and_modifiers_mean_what_they_mean_in_qiskit(text, build):
    expected = QuantumCircuit(3)
    build(expected)
    # a phase that depends on the whole circuit cannot be observed; everything else must agree
    assert in_qiskit(body(text)).equiv(Operator(expected), rtol=0, atol=1e-12)


# -- arithmetic, by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("pi/2", math.pi / 2),
        ("τ", 2 * math.pi),
        ("euler", math.e),
        ("7 % 4", 3),
        ("-7 % 4", -3),  # as in C
        ("2**3", 8),
        ("6/3", 2),
        ("(1 + 2) * 3.0 / 4", 2.25),
        ("float(n)/2", 1.5),
        ("int(2.7) - 1", 1),
        ("sin(pi/6)", 0.5),
        ("2*arccos(0.0)", math.pi),
        ("sqrt(2)", math.sqrt(2)),
        ("log(exp(1.5))", 1.5),
        ("x[0]", "x[0]"),
        ("x[-1]", "x[2]"),
        ("-x[1]", "-(x[1])"),
        ("2*x[0]/3", "((2 * x[0]) / 3)"),
        ("x[0]**2", "(x[0] * x[0])"),
        ("(pi - x[0])*(pi - x[1])", "((3.14159 - x[0]) * (3.14159 - x[1]))"),
        ("arctan(tan(x[2]))", "atan(tan(x[2]))"),
        ("arctan2(-1, -1)", -3 * math.pi / 4),
        ("arctan2(x[0], 2)", "atan2(x[0], 2)"),
        ("hypot(n, 4)", 5),
        ("hypot(x[0], hypot(x[1], x[2]))", "hypot(x[0], hypot(x[1], x[2]))"),
        ("6 & 3 | 8", 10),
        ("5 ^ (5 >> 1)", 7),  # the Gray code of 5
        ("n << 2", 12),
        ("popcount(13 ^ 2) - popcount(0)", 4),
    ],
)
def test_angles_are_computed_or_kept_as_expressions(expression, value):
    found = only_angle(expression)
    assert found == (value if isinstance(value, str) else pytest.approx(value, abs=1e-15))


@given(a=st.integers(-50, 50), b=st.integers(1, 9), c=st.integers(-50, 50))
def test_integer_arithmetic_is_that_of_c(a, b, c):
    assert only_angle(f"({a}) % {b} + ({c}) * ({a}) - {b}") == math.fmod(a, b) + c * a - b


# -- structure ---------------------------------------------------------------------------------------------------------


def h(*wires: int) -> list[Gate]:
    return [Gate("h", (wire,)) for wire in wires]


@pytest.mark.parametrize(
    ("text", "gates"),
    [
        ("h q;", h(0, 1, 2)),
        ("h q[1:2];", h(1, 2)),
        ("h q[-1];", h(2)),
        ("for int i in [0:n-1] h q[i];", h(0, 1, 2)),
        ("for int i in [2:-1:0] { h q[i]; }", h(2, 1, 0)),
        ("for int i in [0:2:n] { h q[i]; }", h(0, 2)),
        ("for uint i in {2, 0} { h q[i]; }", h(2, 0)),
        ("for int i in [0:-1] { h q[i]; }", []),
        ("for int i in [0:1] { for int j in [i:1] { h q[i + j]; } }", h(0, 1, 2)),
        ("if (n == 3 && !(n < 2)) { h q[0]; } else { h q[1]; }", h(0)),
        ("if (n % 2 == 0) h q[0]; else h q[1];", h(1)),
        ("int k = 0; for int i in [0:1] { k += 1; h q[k]; }", h(1, 2)),
        ("int k = 0; for int i in [0:1] { int k = 2; h q[k]; } h q[k];", h(2, 2, 0)),
        ("const int m = n - 1; h q[m];", h(2)),
        ("for int names in [0:1] { h q[names]; }", h(0, 1)),
        ("barrier q; h q[0]; barrier q[1];", h(0)),
        ("qubit r; h r;", h(3)),
        ("cx q[0], q[1:2];", [Gate("cx", (0, 1)), Gate("cx", (0, 2))]),
        ("qubit[3] r; cx q, r;", [Gate("cx", (i, i + 3)) for i in range(3)]),
        ("gphase(x[0]); h q[0];", h(0)),
        ("gate both a, b { h a; h b; } both q[2], q[0];", h(2, 0)),
        ("gate many a { for int i in [1:n] { h a; } } many q[1];", h(1, 1, 1)),
    ],
)
def test_statements_unroll_to_gates(text, gates):
    assert list(body(text).gates) == gates


def test_a_loop_and_its_unrolled_text_are_the_same_program():
    loop = "for int i in [0:n-1] { ry(2*x[i]) q[i]; cx q[i], q[(i + 1) % n]; }"
    unrolled = "\n".join(f"ry(2*x[{i}]) q[{i}]; cx q[{i}], q[{(i + 1) % 3}];" for i in range(3))
    assert body(loop).hash == body(unrolled).hash


def test_trainable_inputs_are_weights_and_the_others_data():
    program = body("@trainable\ninput array[float[64], n, 2 * n] w;\n@trainable\ninput angle a;\nrx(w[2, 5] + a) q[0];")
    assert program.inputs == (("x", (3,)),)
    assert [(spec.name, spec.shape, spec.period) for spec in program.weights] == [
        ("w", (3, 6), pytest.approx(2 * math.pi)),
        ("a", (), pytest.approx(2 * math.pi)),
    ]
    assert str(program.slots[0]) == "(w[17] + a[0])"


def test_a_variable_may_hold_an_expression():
    text = "float[64] y = 1; for int i in [0:n-1] { y = y * x[i]; }\nrx(y / 2) q[0];"
    assert str(body(text).slots[0]) == "(((x[0] * x[1]) * x[2]) / 2)"


def test_sizes_replace_constants_and_what_follows_from_them():
    text = "const int n = 2;\nconst int last = n - 1;\nqubit[n] q;\nU(0, 0, 1) q[last];"
    assert read(text).n_wires == 2
    assert read(text, {"n": 5}).gates[-1].wires == (4,)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"depth": 2}, r"circuit 'ring' has sizes n; got 'depth'"),
        ({"m": 2}, r"has sizes n; got 'm'"),
        ({"n": 0}, r"size 'n' must be a positive whole number; got 0"),
        ({"n": 2.0}, r"size 'n' must be a positive whole number; got 2.0"),
    ],
)
def test_a_wrong_size_is_refused_with_the_known_ones(sizes, message):
    with pytest.raises(CircuitError, match=message):
        read("const int n = 2;\nconst int m = n + 1;\nqubit[n] q;", sizes, source="ring")


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSED = [
    ("bit[3] c;", "bit type is not supported"),
    ("bit c = measure q[0];", "bit type"),
    ("measure q[0];", "quantum measurement statement is not supported"),
    ("reset q;", "quantum reset is not supported"),
    ("while (true) { h q; }", "while loop is not supported"),
    ("def f(qubit a) { h a; }", "subroutine definition is not supported"),
    ("let a = q[0:1];", "alias statement is not supported"),
    ("delay[10ns] q;", "delay instruction is not supported"),
    ("box { h q; }", "box is not supported"),
    ("switch (n) { case 3 { h q; } }", "switch statement is not supported"),
    ("extern f(int) -> int;", "extern declaration is not supported"),
    ("cal { x }", "calibration statement is not supported"),
    ("pragma keep", "pragma is not supported"),
    ("output float y;", "output declarations are not supported"),
    ('include "other.inc";', 'include "other.inc" is not supported'),
    ("array[int, 2] a = {1, 2};", "array type is not supported"),
    ("rx(1im) q[0];", "imaginary literal is not supported"),
    ("rx(x[0:1]) q[0];", "range definition is not supported"),
    ("hh q[0];", "gate 'hh' is not known (did you mean 'h'?)"),
    ("rx q[0];", "gate 'rx' acts on 1 wires with 1 angles; got 1 wires and 0 angles"),
    ("cx q[0];", "gate 'cx' acts on 2 wires"),
    ("cx q[1], q[1];", "needs different qubits"),
    ("qubit[2] r; cx q, r;", "equal sizes; got 2, 3"),
    ("h p;", "'p' is not a qubit or register"),
    ("h q[3];", "index 3 of 'q' is outside 0..2"),
    ("rx(x[-4]) q[0];", "index -4 of 'x' is outside 0..2"),
    ("rx(x[0, 1]) q[0];", "'x' has 1 dimensions"),
    ("rx(x) q[0];", "an angle must be a finite number; got an array of shape (3,)"),
    ("rx(y) q[0];", "'y' is not declared here"),
    ("rx(1/2) q[0];", "write 1.0/2 for an angle"),
    ("rx(1.0/0) q[0];", "is not defined"),
    ("rx(x[0]/0) q[0];", "the angle x[0] / 0 is not defined"),
    ("rx(log(-1)) q[0];", "is not defined"),
    ("rx(1e999) q[0];", "finite number; got inf"),
    ("rx(hypot(1)) q[0];", "function 'hypot' takes 2 arguments; got 1"),
    ("rx(sin(1, 2)) q[0];", "function 'sin' takes 1 argument; got 2"),
    ("rx(x[0] & 1) q[0];", "'&' needs integers that are not negative"),
    ("rx(1 << 1000000) q[0];", "for a shift up to 64; got 1, 1000000"),
    ("rx(1 >> -1) q[0];", "'>>' needs integers that are not negative"),
    ("rx(popcount(-1)) q[0];", "popcount needs an integer that is not negative; got -1"),
    ("rx(popcount(x[0])) q[0];", "the argument of popcount must be a whole number"),
    ("rx(sinh(1)) q[0];", "function 'sinh' is not known"),
    ("rx(x[0] % 2) q[0];", "'%' needs integers"),
    ("if (x[0] > 0) { h q; }", "a circuit cannot branch on its data"),
    ("if (n) { h q; }", "a condition must compare"),
    ("for int i in [0:0:2] { h q; }", "has the step 0"),
    ("for float f in [0:1] { h q; }", "a loop counts with int or uint"),
    ("int k = 1; k = 1.5;", "a variable of type int cannot hold 1.5"),
    ("n = 4;", "only a variable that was declared"),
    ("int k;", "needs a value where it is declared"),
    ("const int n = 4;", "'n' is already declared"),
    ("int pi = 3;", "'pi' is already declared"),
    ("input int m;", "a whole number is a size"),
    ("qubit[0] r;", "register 'r' has 0 qubits"),
    ("ctrl @ U(1, 2, 3) q[0], q[1];", "write cu(theta, phi, lambda, gamma)"),
    ("ctrl @ rxx(1) q[0], q[1], q[2];", "'ctrl @ rxx' is not a known gate"),
    ("pow(2) @ x q[0];", "the modifier 'pow @' is not supported"),
    ("negctrl @ x q[0], q[1];", "the modifier 'negctrl @' is not supported"),
    ("@trainable\nh q;", "'@trainable' belongs on the line before an input"),
    ("@trainabel\ninput float w;", "'@trainabel' is not known (did you mean 'trainable'?)"),
    ("gate g a { h a; }\ngate g a { x a; }", "gate 'g' is already defined"),
    ("float y = x[0];\nfor int i in [0:60] { y = y + y; }", "more than 10,000 terms"),
    ("int k = 9223372036854775807;\nk = k + 1;", "an integer leaves the range of 64 bits"),
    ("h q;\nrx(x[0) q[0];", "syntax error: ')' is unexpected here"),
    ('h q;\n"abc', "token recognition error"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_a_circuit_cannot_hold_is_refused_with_line_and_reason(text, reason, capfd):
    with pytest.raises(CircuitError) as caught:
        body(text)
    line = LINE + text.count("\n")
    assert str(caught.value).startswith(f"circuit 'test', line {line}: ")
    assert reason in str(caught.value)
    assert text.splitlines()[-1] in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_error_in_a_loop_or_gate_names_the_inner_line():
    with pytest.raises(CircuitError, match=rf"line {LINE + 2}: gate 'nope'"):
        body("for int i in [0:1] {\n  h q[i];\n  nope q[i];\n}")
    with pytest.raises(CircuitError, match=rf"line {LINE + 1}: 'x' is not declared here"):
        body("gate g a {\n  rx(x[0]) a;\n}\ng q[0];")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("OPENQASM 2.0;\nqubit q;", "is OpenQASM 2.0"),
        ("OPENQASM 3.0;", "declares no qubits"),
        ("", "is empty; a circuit begins with  OPENQASM 3.0;"),
        ("// a comment\n", "is empty"),
        ("qubit q;\n@trainable input float w;\nU(0, 0, w) q;", "line 2: '@trainable' needs a line of its own"),
        ("qubit q;\nh q;", 'include "stdgates.inc";  missing'),
        ("qubit q;\ngate g a { g a; }\ng q;", "must not call itself"),
        ("qubit q;\nrx(" + "(" * 1200 + "1" + ")" * 1200 + ") q;", "nested too deeply"),
        ("qubit q;\nh q", "line 2: syntax error: the end of the text is unexpected here"),
    ],
)
def test_whole_files_that_are_no_circuit_are_refused(text, reason):
    with pytest.raises(CircuitError, match="circuit 'file'") as caught:
        read(text, source="file")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "for int i in [0:1000000000000] { }",
        "qubit[1000] r; for int i in [0:999999999] { h r; }",
        "gate none a { } qubit[1000] r; for int i in [0:10000] { none r; }",
        "gate a0 t { }\n" + "".join(f"gate a{i} t {{ a{i - 1} t; a{i - 1} t; }}\n" for i in range(1, 40)) + "a39 q[0];",
    ],
    ids=["empty loop", "broadcast", "empty gate", "doubling gates"],
)
def test_the_work_of_reading_is_bounded(text, monkeypatch):
    monkeypatch.setattr("qfedfm.quantum.qasm.MAX_STEPS", 20_000)
    with pytest.raises(CircuitError, match="more than 20,000 gates and statements"):
        body(text)
