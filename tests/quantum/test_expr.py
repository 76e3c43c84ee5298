import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import arguments, slots, value

from qfedfm.errors import CircuitError
from qfedfm.quantum.angles import evaluate
from qfedfm.quantum.expr import UNARY, Expr, affine_in, as_expr, const, from_json, symbols

X, W, V = Expr("input", ("x", 0)), Expr("weight", ("w", 1)), Expr("weight", ("v", 0))


@given(st.lists(slots(), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=50)
def test_slots_evaluated_together_equal_each_tree_walked_alone(many, clients, rows):
    inputs, weights = arguments(clients, rows, 0, torch.float64)
    angles = evaluate(many, inputs, weights)
    assert angles.shape == (clients, len(many), rows if any(slot.uses("input") for slot in many) else 1)
    for client in range(clients):
        for row in range(angles.shape[2]):
            arrays = {("input", name): tensor[client, row].reshape(-1) for name, tensor in inputs.items()}
            arrays |= {("weight", name): tensor[client].reshape(-1) for name, tensor in weights.items()}
            alone = torch.stack([value(slot, arrays) for slot in many])
            torch.testing.assert_close(angles[client, :, row], alone, atol=1e-14, rtol=1e-14)


def test_python_numpy_and_torch_arithmetic_give_the_same_trees():
    w = symbols("weight", "w", (2, 2))
    assert w.shape == (2, 2)
    assert w[1, 0] == Expr("weight", ("w", 2))
    assert symbols("input", "x", ()) == X
    assert np.sin(w)[0, 1] == torch.sin(W) == W.sin() == Expr("sin", (W,))
    assert (2 * w)[0, 1] == torch.multiply(2, W) == 2 * W == Expr("*", (const(2), W))
    assert (np.array([1.0, 2.0]) * W)[1] == 2 * W
    assert W**3 == W * W * W
    assert torch.hypot(W, X) == np.hypot(np.array([W]), X)[0] == Expr("hypot", (W, X))
    assert torch.atan2(W, X) == torch.arctan2(W, X) == np.arctan2(np.array([W]), np.array([X]))[0]
    assert str(const(1).arctan2(W)) == "atan2(1, w[1])"
    assert torch.arctan(W) == np.arctan(np.array([W]))[0]


def test_constants_fold_and_neutral_elements_vanish():
    assert as_expr(np.array(2.0)) * 3 - 1 == const(5)
    assert const(0.25).sqrt() == const(0.5)
    assert const(3.0).hypot(4) == const(5)
    assert const(1.0).arctan2(-1) == const(3 * math.pi / 4)
    assert W + 0 == W * 1 == 1 * W == W / 1 == -torch.neg(W) == W
    assert float(const(1.5)) == 1.5


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_constants_are_those_of_torch(name):
    function = torch.neg if name == "neg" else getattr(torch, name)
    assert UNARY[name](0.3) == pytest.approx(function(torch.tensor(0.3, dtype=torch.float64)).item(), abs=1e-15)


def test_angle_and_length_of_a_vector_have_torchs_gradients_and_none_at_the_origin():
    points = torch.tensor([[[3.0, 4.0], [-1.0, 0.0], [0.0, 0.0], [-0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    x, y = symbols("input", "x", (2,))
    angles = evaluate([x.hypot(y), y.arctan2(x)], {"x": points}, {})[0]
    assert angles[:, 0].tolist() == [5, pytest.approx(math.atan2(4, 3), abs=1e-15)]
    assert angles[:, 1].tolist() == [1, pytest.approx(math.pi, abs=1e-15)]
    assert angles[:, 2:].tolist() == [[0, 0], [0, 0]]
    lengths, turns = (torch.autograd.grad(row.sum(), points, retain_graph=True)[0][0] for row in angles)
    torch.testing.assert_close(lengths, torch.tensor([[0.6, 0.8], [-1, 0], [0, 0], [0, 0]], dtype=torch.float64))
    torch.testing.assert_close(turns, torch.tensor([[-0.16, 0.12], [0, -1], [0, 0], [0, 0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: float(W), "turns the angle w.1. into a plain number"),
        (lambda: bool(X * W), "do not branch"),
        (lambda: W**0.5, "positive whole power; got 0.5"),
        (lambda: torch.sigmoid(W), "torch.sigmoid is not known for angles"),
        (lambda: const(2).arcsin(), "asin.2.0,. is not defined"),
        (lambda: const(1) / 0, "the angle 1 / 0 is not defined"),
        (lambda: X / 0, r"the angle x\[0\] / 0 is not defined"),
        (lambda: symbols("input", "x", (2, -1)), r"'x' has the shape \(2, -1\); its sizes must be positive"),
        (lambda: const(math.inf), "must be finite; got inf"),
        (lambda: const(1e308) * 10, "must be finite"),
        (lambda: W + "a", "must be a number or an expression .* got 'a'"),
    ],
)
def test_what_is_not_an_angle_is_refused(act, message):
    with pytest.raises(CircuitError, match=message):
        act()


@pytest.mark.parametrize(
    ("expr", "coefficient"),
    [
        (W, 1.0),
        (X, 0.0),
        (-W / 4 + X, -0.25),
        (3 * (W - V) - W, 2.0),
        (V * 2, 0.0),
        (W * X, None),
        (X * V + W, 1.0),
        (W.sin(), None),
        (1 / W, None),
    ],
)
def test_rate_at_which_a_weight_turns(expr, coefficient):
    assert affine_in(expr, W) == coefficient


@given(slots())
def test_json_round_trip(expr):
    assert from_json(expr.to_json()) == expr


def test_json_by_hand():
    assert (0.5 * W - X.sin()).to_json() == ["-", ["*", 0.5, ["weight", "w", 1]], ["sin", ["input", "x", 0]]]


@pytest.mark.parametrize(
    "data", [True, "w", ["eval", "1"], ["weight", "w", -1], ["sin"], ["+", 1.0], ["hypot", 1.0], None, math.nan]
)
def test_other_json_is_refused(data):
    with pytest.raises(CircuitError):
        from_json(data)
