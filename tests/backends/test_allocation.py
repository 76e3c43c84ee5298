"""Shots spread over the points of a gradient: the total stays, the mean stays, the variance falls where it must."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.backends import Executor, ParameterShift, Session, Shots
from qfedfm.backends.allocation import allot, single_shot_spread
from qfedfm.errors import ConfigurationError
from qfedfm.quantum import Gate, assemble, pauli_z
from qfedfm.quantum.expr import Expr
from qfedfm.seeds import stream

RULES = ["uniform", "coefficient", "variance", "weighted_random"]
W = [Expr("weight", ("w", i)) for i in range(2)]
FOUR = assemble(2, [Gate("ry", (0,), (1.2,)), Gate("crx", (0, 1), (0,)), Gate("rx", (1,), (0.4,))], W[:1], {"x": (1,)},
                {"w": (1,)})  # fmt: skip
# at (pi/2, 0) the first angle's points have <Z_0> = +-1 and <Z_1> = 1; the second's have 0 and 0
CERTAIN = assemble(2, [Gate("ry", (0,), (0,)), Gate("ry", (1,), (1,))], W, {"x": (1,)}, {"w": (2,)})


def gradients(program, values, observables, rule, shots, clients, steps=1, rows=1):
    """Return for each client the derivative of the sum over observables, mean over rows, at the last of some steps."""
    executor = Executor(Shots(shots).connect(Session(1)), shots, ParameterShift(allocation=rule), seed=2)
    leaf = torch.tensor([values] * clients).double().requires_grad_()
    x = {"x": torch.zeros(clients, rows, 1).double()}
    with executor.task("round-1"):
        for _ in range(steps):
            executor.take_usage()
            found = executor(program, x, {"w": leaf}, observables)
            (grad,) = torch.autograd.grad(found.sum(2).mean(1).sum(), leaf)
    return grad, executor


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 40), st.integers(0, 999), st.sampled_from(RULES[1:]))
def test_the_total_is_the_uniform_one_for_every_row(rows, points, shots, seed, rule):
    generator = np.random.default_rng(seed)
    weights, spread = generator.normal(size=(1, 3, points)), generator.uniform(0.01, 2, (rows, points))
    found = allot(rule, weights, shots, rows, spread if seed % 2 else None, generator)
    assert found.shots.shape == (rows, points)
    assert (found.shots.sum(1) == shots * points).all()
    assert (found.shots >= (0 if rule == "weighted_random" else 1)).all()


def test_shots_follow_weights_and_spreads_by_hand():
    weights = np.array([[[3.0, 0.0, -1.0], [4.0, 5.0, 0.0]]])  # norms 5, 5, 1
    generator = stream(0, "none")
    assert allot("coefficient", weights, 37, 1, None, generator).shots.tolist() == [
        [50, 50, 11]
    ]  # 1 + 108 * (5, 5, 1)/11
    spread = np.array([[1.0, 3.0, 0.0]])
    assert allot("variance", weights, 41, 1, spread, generator).shots.tolist() == [[31, 91, 1]]  # 1 + 120 * (1, 3, 0)/4
    assert single_shot_spread(np.array([[0.0], [0.01]]), np.array([9, 100])).tolist() == pytest.approx(
        [np.sqrt(1 / 10), np.sqrt(101 / 101)]
    )


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_unbiased_and_costs_the_same(rule):
    """2000 independent gradients of a four-term rule with 8 shots a point; mean within 4.5 standard errors of exact."""
    clients, shots = 2000, 8
    found, executor = gradients(FOUR, [0.7], (pauli_z(1),), rule, shots, clients, steps=3)
    exact = torch.tensor([0.7]).double().requires_grad_()
    # <Z_1> of a controlled RX: cos^2(.6) cos(.4) + sin^2(.6) cos(w + .4)
    value = np.cos(0.6) ** 2 * np.cos(0.4) + np.sin(0.6) ** 2 * torch.cos(exact + 0.4)
    (expected,) = torch.autograd.grad(value.sum(), exact)
    assert abs(found.mean() - expected) < 4.5 * found.std() / clients**0.5
    usage = executor.take_usage()
    assert sum(one.shots for one in usage) == clients * shots * 5
    executions = [one.executions for one in usage]
    assert set(executions) == {5} if rule != "weighted_random" else min(executions) < 5


def test_coefficients_lower_the_variance_of_a_four_term_rule_by_a_third():
    """Weights .427 and .073, twice each: (sum |w|)^2 = 1 against 4 sum w^2 = 1.5; variances are near 1."""
    observables = (((1.0, ((1, "Y"),)),),)
    spread = {r: float(gradients(FOUR, [0.0], observables, r, 100, 4000)[0].var()) for r in ("uniform", "coefficient")}
    assert 0.55 < spread["coefficient"] / spread["uniform"] < 0.8


def test_measured_variances_send_shots_where_the_noise_is():
    """Of four points two are certain. With sigma sqrt(1/51) for them (one imagined shot) and sqrt(2) for the others,
    those get 1.82 times the shots, and the variance of the gradients is .55 of the uniform one; 1500 clients.
    """
    observables = (((1.0, ((0, "Z"),)), (1.0, ((1, "Z"),))),)
    where, found = [np.pi / 2, 0.0], {}
    for rule in ("uniform", "variance"):
        found[rule] = gradients(CERTAIN, where, observables, rule, 50, 1500, steps=2, rows=2)[0].var(0).sum()
    assert 0.48 < found["variance"] / found["uniform"] < 0.63


def test_what_was_learnt_is_forgotten_between_tasks():
    executor = Executor(Shots(20).connect(Session(1)), 20, ParameterShift(allocation="variance"), seed=2)
    leaf, x = torch.tensor([[0.3, 1.0]]).double().requires_grad_(), {"x": torch.zeros(1, 4, 1).double()}

    def values(name):
        with executor.task(name):
            found = [executor(CERTAIN, x, {"w": leaf}, (pauli_z(0),)) for _ in range(3)]
        return [torch.autograd.grad(one.sum(), leaf)[0] for one in found]

    first, _, again = values("a"), values("b"), values("a")
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_unknown_rules_are_refused():
    with pytest.raises(ConfigurationError, match=r"ParameterShift.allocation"):
        ParameterShift(allocation="best")
