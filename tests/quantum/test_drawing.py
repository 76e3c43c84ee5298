"""Descriptions and pictures of circuits."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from qfedfm.quantum.drawing import describe, draw, draw_text
from qfedfm.quantum.expr import symbols
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.library import load
from qfedfm.quantum.program import Circuit, Gate, assemble, z_on_every_wire


def test_description_counts_what_a_hand_counts():
    # 4 qubits, 2 layers: 4 RX, then twice 4 x (RZ RY RZ) and 4 CX
    assert describe(load("strongly_entangling")).splitlines() == [
        "4 wires, 36 gates, depth 13, 4 inputs, 24 parameters",
        "gates: rz 16, ry 8, cx 8, rx 4",
        "input x (4,)",
        "weight weights (2, 4, 3), period 2 pi",
    ]
    assert "weight scales (2, 4, 1, 3), linear" in describe(load("data_reuploading").program)


def test_text_shows_gates_angles_and_readout():
    x = symbols("input", "x", (2,))
    program = assemble(
        2, [Gate("ry", (0,), (0,)), Gate("cx", (0, 1)), Gate("rz", (1,), (0.5,))], [2 * x[1]], {"x": (2,)}, {}
    )
    assert draw_text(program).splitlines() == [
        "0: ──RY((2 * x[1]))─╭●───────────┤  ",
        "1: ─────────────────╰X──RZ(0.50)─┤  ",
    ]
    circuit = Circuit(program, (((1.0, ((0, "Z"), (1, "X"))),), ((1.0, ((1, "Z"),)),)))
    assert [line.partition("┤")[2].split() for line in draw_text(circuit).splitlines()] == [
        ["╭<Z@X>"],
        ["╰<Z@X>", "<Z>"],
    ]


def test_a_long_angle_is_shown_as_a_function_of_what_it_depends_on():
    x, w = symbols("input", "x", (2,)), symbols("weight", "w", ())
    angles = [0.5 * x[0].hypot(x[1]).arctan2(w) + 0.25 * x[1], x[0].hypot(x[1])]
    program = assemble(1, [Gate("rx", (0,), (0,)), Gate("ry", (0,), (1,))], angles, {"x": (2,)}, {"w": ()})
    assert draw_text(program).split() == ["0:", "──RX(f(x,", "w))──RY(hypot(x[0],", "x[1]))─┤"]


@pytest.mark.parametrize("name", GATES)
def test_every_gate_can_be_drawn(name):
    kind = GATES[name]
    gate = Gate(name, tuple(range(kind.wires)), (0,) * kind.angles)
    program = assemble(3, [gate], [symbols("input", "x", ())], {"x": ()}, {})
    circuit = Circuit(program, z_on_every_wire(3))
    assert draw_text(circuit).count("<Z>") == 3
    assert len(draw(circuit).axes) == 1


def test_figure_is_the_callers_and_pyplot_is_left_alone():
    before = plt.get_fignums()
    figure = Figure(figsize=(3, 2))
    assert draw(load("angle_ring", {"n": 2, "layers": 1}), figure) is figure
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert "RY\n(x[0])" in labels
    assert plt.get_fignums() == before
