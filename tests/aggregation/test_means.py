"""Both means by hand, by properties, on the circle by complex numbers, and by what circuits make of the result."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.aggregation import Aggregator, AngularMean, Context, Mean, Updates
from qfedfm.params import Params, ParamSpec, wrap
from qfedfm.quantum.library import load
from qfedfm.quantum.statevector import states
from qfedfm.seeds import stream

TURN = 2 * math.pi
LINE = ParamSpec("line", (2,), "float64")
ANGLE = ParamSpec("angle", (2,), "float64", "angular", TURN, "core")
SPECS = (LINE, ANGLE)
RULES = [Mean(), AngularMean()]
small = st.floats(-1, 1)


def aggregate(rule: Aggregator, params: Params, delta: Params, rows: list[int], specs: Any = SPECS) -> Params:
    updates = Updates(tuple(f"client-{i}" for i in range(len(rows))), delta, tuple(rows))
    new, state, info = rule(rule.init(specs), params, updates, specs, Context(1, stream(0)))
    assert (state, info) == ({}, {})
    return new


def vectors(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Params, Params, list[int]]:
    """Draw parameters, up to six updates with angles well within half a turn, and rows."""
    n = draw(st.integers(1, 6))

    def entries(count: int) -> list[float]:
        return draw(st.lists(small, min_size=count, max_size=count))

    params = {spec.name: vectors(entries(2))[0] for spec in SPECS}
    delta = {spec.name: vectors(*(entries(2) for _ in range(n))) for spec in SPECS}
    return params, delta, draw(st.lists(st.integers(1, 50), min_size=n, max_size=n))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_federated_averaging_worked_by_hand(rule: Aggregator) -> None:
    # 1 and 3 rows: (1 * (4, 0) + 3 * (0, -2)) / 4 = (1, -3/2)
    delta = {"line": vectors([4.0, 0.0], [0.0, -2.0]), "angle": vectors([0.4, 0.0], [0.0, -0.2])}
    new = aggregate(rule, {"line": vectors([10, 10])[0], "angle": vectors([1, 1])[0]}, delta, [1, 3])
    assert new["line"].tolist() == pytest.approx([11.0, 8.5], abs=1e-12)
    assert new["angle"].tolist() == pytest.approx([1.1, 0.85], abs=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_of_clients_is_of_no_importance(rule: Aggregator, case: Any, random: Any) -> None:
    params, delta, rows = case
    order = list(range(len(rows)))
    random.shuffle(order)
    moved = aggregate(rule, params, {name: t[order] for name, t in delta.items()}, [rows[i] for i in order])
    for name, tensor in aggregate(rule, params, delta, rows).items():
        torch.testing.assert_close(moved[name], tensor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(rounds())
def test_equal_updates_give_that_update(rule: Aggregator, case: Any) -> None:
    params, delta, rows = case
    same = {name: tensor[:1].expand(len(rows), -1) for name, tensor in delta.items()}
    for name, tensor in aggregate(rule, params, same, rows).items():
        torch.testing.assert_close(tensor, params[name] + delta[name][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(rounds(), st.floats(-1, 1), small, st.integers(2, 5))
def test_scaled_shifted_and_repeated_updates(
    rule: Aggregator, case: Any, factor: float, shift: float, times: int
) -> None:
    params, delta, rows = case
    step = {name: tensor - params[name] for name, tensor in aggregate(rule, params, delta, rows).items()}
    other = aggregate(
        rule,
        {name: tensor + 7 * shift for name, tensor in params.items()},
        {name: factor * tensor + shift for name, tensor in delta.items()},
        [times * count for count in rows],
    )
    for name, tensor in other.items():
        torch.testing.assert_close(tensor - params[name] - 7 * shift, factor * step[name] + shift, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_float32_updates_are_summed_in_float64_and_stay_float32(rule: Aggregator) -> None:
    spec = ParamSpec("line", (1,))
    delta = {"line": torch.tensor([[1e8], [1.0], [-1e8]])}
    new = aggregate(rule, {"line": torch.zeros(1)}, delta, [5, 5, 5], (spec,))
    assert new["line"].dtype == torch.float32
    assert float(new["line"]) == pytest.approx(1 / 3, abs=1e-6)  # summed in float32: 0


@given(
    st.sampled_from([TURN, 2 * TURN, TURN / 3]),
    small,
    st.lists(st.tuples(st.floats(-0.1, 0.1), st.integers(-3, 3), st.integers(1, 20)), min_size=1, max_size=8),
)
def test_for_small_dispersions_the_angular_mean_is_the_argument_of_the_mean_phasor(
    period: float, centre: float, reports: list[tuple[float, int, int]]
) -> None:
    # for phases within e of their centre the two means differ by at most e^3, here (.1 * 2 pi / T)^3 of a radian
    spec = ParamSpec("angle", (), "float64", "angular", period, "core")
    angles = np.array([centre + offset + turns * period for offset, turns, _ in reports])
    rows = np.array([count for _, _, count in reports])
    phasor = (rows / rows.sum() * np.exp(2j * np.pi * angles / period)).sum()
    delta = {"angle": torch.tensor(angles - centre)}
    params = {"angle": torch.tensor(centre, dtype=torch.float64)}
    new = float(aggregate(AngularMean(), params, delta, rows.tolist(), (spec,))["angle"])
    turned = np.angle(np.exp(2j * np.pi * new / period) / phasor)
    assert abs(turned) < (0.1 * TURN / period) ** 3


@pytest.mark.parametrize(
    ("start", "reports", "expected"),
    [
        (3.1, [-3.1, 3.0], 3.1 + (TURN - 6.3) / 2),  # deltas 2 pi - 6.2 = .0832 and -.1
        (0.0, [TURN - 0.2, 0.4], 0.1),  # -.2 and .4
        (-3.0, [3.1, -3.1], -3.0 + (6.1 - TURN - 0.1) / 2),  # -.1832 and -.1
        (1.0, [1.0 + 3 * TURN, 1.0 - 2 * TURN], 1.0),
    ],
)
def test_angles_across_the_seam_worked_by_hand(start: float, reports: list[float], expected: float) -> None:
    params = {"line": torch.zeros(2, dtype=torch.float64), "angle": vectors([start, start])[0]}
    delta = {"line": torch.zeros(2, 2, dtype=torch.float64), "angle": vectors(*([r - start] * 2 for r in reports))}
    assert aggregate(AngularMean(), params, delta, [5, 5])["angle"].tolist() == pytest.approx([expected] * 2, abs=1e-12)
    arithmetic = aggregate(Mean(), params, delta, [5, 5])["angle"].tolist()
    assert arithmetic == pytest.approx([sum(reports) / 2] * 2, abs=1e-12)


@given(rounds(), st.integers(-3, 3).filter(bool), st.data())
def test_a_client_a_whole_period_off_leaves_the_angular_mean_and_moves_the_mean(
    case: Any, turns: int, data: st.DataObject
) -> None:
    params, delta, rows = case
    liar = data.draw(st.integers(0, len(rows) - 1))
    off = {"line": delta["line"], "angle": delta["angle"].clone()}
    off["angle"][liar] += turns * TURN
    honest, angular = (aggregate(AngularMean(), params, d, rows)["angle"] for d in (delta, off))
    torch.testing.assert_close(angular, honest, rtol=0, atol=1e-12)
    moved = aggregate(Mean(), params, off, rows)["angle"] - aggregate(Mean(), params, delta, rows)["angle"]
    share = rows[liar] / sum(rows)
    torch.testing.assert_close(moved, torch.full((2,), share * turns * TURN, dtype=torch.float64), rtol=0, atol=1e-10)


def test_the_period_is_that_of_each_parameter() -> None:
    specs = (ANGLE, ParamSpec("half", (2,), "float64", "angular", 2 * TURN, "core"))
    params = {spec.name: torch.zeros(2, dtype=torch.float64) for spec in specs}
    delta = {spec.name: vectors([TURN, 0.0]) for spec in specs}  # a CRX that is one turn off is another gate
    new = aggregate(AngularMean(), params, delta, [3], specs)
    assert new["angle"].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert abs(new["half"][0]) == pytest.approx(TURN, abs=1e-12)


def test_fidelity_of_states_from_wrapped_reports() -> None:
    # 1,000 four-qubit strongly entangling circuits of two layers with random true angles; five clients report them with
    # a standard error of .15 in [-pi, pi). Fidelities of one circuit scatter by .01 and .36, so the means are known to
    # .0003 and .011; the tolerances leave room for how the circuits and the number of clients were chosen.
    specs = (program := load("strongly_entangling", {"n": 4, "layers": 2}).program).weights
    (spec,) = specs
    assert spec.period == pytest.approx(TURN)
    generator, circuits = stream(0, "fidelity"), 1000
    truth = torch.from_numpy(generator.uniform(-math.pi, math.pi, (circuits, *spec.shape)))
    reports = wrap(truth + torch.from_numpy(generator.normal(0, 0.15, (5, *truth.shape))), TURN)
    start = wrap(truth + torch.from_numpy(generator.normal(0, 0.15, truth.shape)), TURN)
    x = {"x": torch.from_numpy(generator.uniform(-1, 1, (circuits, 1, 4)))}

    def fidelity(weights: torch.Tensor) -> float:
        true, found = (states(program, x, {spec.name: w}) for w in (truth, weights))
        return float((true.conj() * found).sum(1).abs().square().mean())

    results = {
        type(rule): fidelity(
            aggregate(rule, {spec.name: start}, {spec.name: reports - start}, [8] * 5, specs)[spec.name]
        )
        for rule in RULES
    }
    assert results[AngularMean] == pytest.approx(0.98, abs=0.005)
    assert results[Mean] == pytest.approx(0.51, abs=0.05)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_means_are_aggregators(rule: Aggregator) -> None:
    assert isinstance(rule, Aggregator)


def test_weights_are_shares_of_rows() -> None:
    updates = Updates(("a", "b", "c"), {}, (1, 2, 5))
    assert updates.weights.tolist() == [1 / 8, 2 / 8, 5 / 8]
