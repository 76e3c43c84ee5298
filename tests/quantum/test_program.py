import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import programs

from qfedfm.errors import CircuitError
from qfedfm.quantum.expr import Expr, const
from qfedfm.quantum.program import Gate, Program, assemble

X, Y = Expr("input", ("x", 0)), Expr("input", ("x", 1))
W, V = Expr("weight", ("w", 0)), Expr("weight", ("w", 1))
SMALL = assemble(
    2, [Gate("rx", (0,), (0,)), Gate("ry", (1,), (1,)), Gate("cx", (0, 1))], [X, W / 2], {"x": (2,)}, {"w": (2,)}
)
SMALL_JSON = (
    '{"format":1,"gates":[["rx",[0],[0]],["ry",[1],[1]],["cx",[0,1],[]]],"inputs":[["x",[2]]],"n_wires":2,'
    '"slots":[["input","x",0],["/",["weight","w",0],2.0]],"weights":[["w",[2]]]}'
)


@given(programs())
@settings(max_examples=50)
def test_json_round_trip_keeps_program_and_hash(program):
    again = Program.from_json(program.to_json())
    assert again == program
    assert again.hash == program.hash


def test_json_and_hash_of_a_small_program_are_fixed():
    assert SMALL.to_json() == SMALL_JSON
    assert SMALL.hash == "36571762cf9716b093e4c71e1779110a9969776ab07f90e0facda4aab17756e3"


def test_counts_of_a_small_program():
    assert SMALL.count_gates() == {"rx": 1, "ry": 1, "cx": 1}
    assert (SMALL.depth, SMALL.n_inputs, SMALL.n_parameters) == (2, 2, 2)


def test_equal_slots_are_merged_and_constant_slots_become_constants():
    gates = [Gate("rx", (0,), (0,)), Gate("ry", (0,), (1,)), Gate("rz", (0,), (2,))]
    program = assemble(1, gates, [2 * W, const(0.5), 2 * W], {}, {"w": (2,)})
    assert [gate.angles for gate in program.gates] == [(0,), (0.5,), (0,)]
    assert program.slots == (2 * W,)


@pytest.mark.parametrize(
    ("gates", "slots", "period"),
    [
        (["rx"], [W], 2),
        (["crx"], [W], 4),
        (["rx"], [W / 3], 6),
        (["crx"], [2 * W + X], 2),
        (["rx", "crx"], [W, W], 4),  # holds for both
        (["rx", "ry"], [W / 2, W / 3], 12),
        (["rx", "ry"], [W, 2 * V], 2),  # one period for the array
        (["rx", "ry"], [W, math.sqrt(2) * V], None),  # incommensurable
        (["rx"], [W * X], None),
        (["rx", "ry"], [W, V.sin()], None),
        (["rx"], [X], None),  # not used at all
    ],
)
def test_period_of_a_weight_in_units_of_pi(gates, slots, period):
    wires = {"crx": (0, 1)}
    listed = [Gate(name, wires.get(name, (0,)), (number,)) for number, name in enumerate(gates)]
    spec = assemble(2, listed, slots, {"x": (2,)}, {"w": (2,)}).weights[0]
    assert spec.kind == ("linear" if period is None else "angular")
    assert spec.period == (None if period is None else pytest.approx(period * math.pi))


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate("rxx ", (0, 1), (0.1,)), "gate 'rxx ' is not known .did you mean 'rxx'"),
        (Gate("cx", (0,)), "acts on 2 wires with 0 angles; got 1 wires and 0 angles"),
        (Gate("rx", (0,)), "acts on 1 wires with 1 angles; got 1 wires and 0 angles"),
        (Gate("cx", (1, 1)), "wires must differ and lie in 0..1"),
        (Gate("x", (2,)), "wires must differ and lie in 0..1"),
        (Gate("x", (-1,)), "wires must differ and lie in 0..1"),
        (Gate("rx", (0,), (3,)), "uses slot 3; the circuit has 1 slots"),
        (Gate("rx", (0,), (math.nan,)), "has the angle nan; angles must be finite"),
        (Gate("rx", (0,), (0,)), "uses weight v.0., which is not declared"),
    ],
)
def test_gates_that_cannot_be_are_refused(gate, message):
    with pytest.raises(CircuitError, match=message):
        assemble(2, [gate], [Expr("weight", ("v", 0))], {"x": (1,)}, {"w": (1,)})


def test_circuits_that_cannot_be_are_refused():
    with pytest.raises(CircuitError, match="at least one wire; got 0"):
        assemble(0, [], [], {}, {})
    with pytest.raises(CircuitError, match="different names; got a as both"):
        assemble(1, [], [], {"a": (1,)}, {"a": (1,)})
    with pytest.raises(CircuitError, match=r"weight w\[1\], which is not declared"):
        assemble(1, [Gate("rx", (0,), (0,))], [V], {}, {"w": (1,)})


OTHER = st.one_of(st.none(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=2))


@given(st.sampled_from(sorted(json.loads(SMALL_JSON))), OTHER)
def test_altered_json_is_read_or_refused_with_one_kind_of_error(field, replacement):
    data = json.loads(SMALL_JSON) | {field: replacement}
    try:
        program = Program.from_json(json.dumps(data))
    except CircuitError:
        return
    assert Program.from_json(program.to_json()) == program


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "[" * 100_000])
def test_other_text_is_refused(text):
    with pytest.raises(CircuitError):
        Program.from_json(text)
