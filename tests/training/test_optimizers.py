"""Optimisers of a cohort against torch.optim, one client at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qfedfm.errors import ConfigurationError
from qfedfm.params import Params
from qfedfm.training import Adam, Optimizer, Sgd

LEARNING_RATES = torch.tensor([0.3, 0.01, 0.07], dtype=torch.float64)
SHAPES = {"w": (4, 2), "b": (3,), "scalar": ()}
RULES: dict[str, tuple[Optimizer, Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (Sgd(), torch.optim.SGD, {}),
    "momentum": (Sgd(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    "adam": (Adam(), torch.optim.Adam, {}),
    "quick adam": (Adam(beta1=0.5, beta2=0.9, eps=1e-3), torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
}


def loss(params: Params, client: int) -> Tensor:
    """A bumpy function that differs between clients."""
    return sum((p.square() + torch.sin((client + 2) * p)).sum() for p in params.values())


def start(client: int, dtype: torch.dtype) -> Params:
    generator = torch.Generator().manual_seed(client)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_twenty_steps_equal_torchs_for_every_client(name: str, dtype: torch.dtype, tolerance: float) -> None:
    ours, theirs, options = RULES[name]
    cohort = {key: torch.stack([start(c, dtype)[key] for c in range(3)]) for key in SHAPES}
    state = ours.init(cohort)
    for _ in range(20):
        leaves = {key: tensor.clone().requires_grad_() for key, tensor in cohort.items()}
        total = sum(loss({key: tensor[c] for key, tensor in leaves.items()}, c) for c in range(3))
        grads = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
        ours.step(cohort, grads, state, dict.fromkeys(SHAPES, LEARNING_RATES.to(dtype)))
    for c in range(3):
        alone = {key: tensor.requires_grad_() for key, tensor in start(c, dtype).items()}
        optimizer = theirs(list(alone.values()), lr=float(LEARNING_RATES[c]), **options)
        for _ in range(20):
            optimizer.zero_grad()
            loss(alone, c).backward()
            optimizer.step()
        for key, tensor in alone.items():
            torch.testing.assert_close(cohort[key][c], tensor.detach(), rtol=0, atol=tolerance)


def test_rates_may_differ_between_parameters() -> None:
    params = {"a": torch.zeros(2, 1), "b": torch.zeros(2, 1)}
    rates = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.5, 0.25])}
    Sgd().step(params, {"a": torch.ones(2, 1), "b": torch.ones(2, 1)}, {}, rates)
    assert params["a"].flatten().tolist() == [-1.0, -2.0]
    assert params["b"].flatten().tolist() == [-0.5, -0.25]


def test_adams_first_step_is_the_learning_rate_by_hand() -> None:
    # m/(1-b1) = g and v/(1-b2) = g^2, so the step is lr g/(|g| + eps) = lr sign(g), whatever the size of the gradient
    params = {"w": torch.zeros(1, 3, dtype=torch.float64)}
    rule = Adam()
    state = rule.init(params)
    grads = {"w": torch.tensor([[2.0, -1e-3, 500.0]], dtype=torch.float64)}
    rule.step(params, grads, state, {"w": torch.tensor([0.1], dtype=torch.float64)})
    assert params["w"][0].tolist() == pytest.approx([-0.1, 0.1, -0.1], rel=1e-4)
    assert state["steps"].tolist() == [1.0]


def test_adams_correction_counts_the_steps_of_each_client() -> None:
    params = {"w": torch.zeros(2, 1, dtype=torch.float64)}
    rule, one = Adam(), {"w": torch.ones(2, 1, dtype=torch.float64)}
    rates = {"w": torch.full((2,), 0.1, dtype=torch.float64)}
    state = rule.init(params)
    rule.step({"w": params["w"][:1]}, {"w": one["w"][:1]}, {k: t[:1] for k, t in state.items()}, {"w": rates["w"][:1]})
    rule.step(params, one, state, rates)
    assert state["steps"].tolist() == [2.0, 1.0]
    assert params["w"].flatten().tolist() == pytest.approx([-0.2, -0.1], rel=1e-6)


@pytest.mark.parametrize("rule", [Sgd(), Sgd(momentum=0.9), Adam()], ids=str)
def test_rules_are_optimizers_and_their_state_has_a_client_axis(rule: Optimizer) -> None:
    assert isinstance(rule, Optimizer)
    state = rule.init({"w": torch.ones(5, 2), "b": torch.ones(5)})
    assert all(tensor.shape[0] == 5 and not tensor.any() for tensor in state.values())


def test_sgd_without_momentum_remembers_nothing() -> None:
    assert Sgd().init({"w": torch.ones(5, 2)}) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sgd(lr=0), "Sgd: learning rates are positive numbers; got 0"),
        (lambda: Sgd(lr=float("nan")), "got nan"),
        (lambda: Adam(lr=float("inf")), "got inf"),
        (lambda: Sgd(momentum=1.0), "expected 0 <= momentum < 1; got 1.0"),
        (lambda: Adam(beta2=1.0), "expected 0 <= beta1, beta2 < 1"),
        (lambda: Adam(eps=0), "eps > 0"),
        (lambda: Adam(rates={"circuit": 0.1}), "Adam.rates: no part 'circuit'; parts are projection, core, readout"),
        (lambda: Sgd(rates={"core": -0.1}), "learning rates are positive numbers; got -0.1"),
        (lambda: Adam(learning_rate=0.1), "Adam has no field 'learning_rate'"),
    ],
)
def test_bad_optimisers_are_refused(make: Callable[[], Optimizer], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
