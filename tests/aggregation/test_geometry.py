"""Distances, means and medians on lines and circles, against loops and complex numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.aggregation.geometry import (
    along,
    average,
    circular_median,
    combined,
    flat,
    moved,
    norms,
    periods,
    products,
    squared_distances,
    unflat,
    update_distances,
    wrapped,
)
from qfedfm.params import Params, ParamSpec, wrap
from qfedfm.seeds import stream

TURN = 2 * math.pi
SPECS = (
    ParamSpec("line", (2, 2)),
    ParamSpec("angle", (3,), "float64", "angular", TURN, "core"),
    ParamSpec("number", (), "float64"),
    ParamSpec("third", (), "float32", "angular", TURN / 3, "core"),
)


def updates(seed: int, n: int = 6, width: float = 1.0) -> Params:
    rng = stream(seed, "geometry")
    return {
        spec.name: torch.from_numpy(width * rng.normal(size=(n, *spec.shape))).to(spec.torch_dtype) for spec in SPECS
    }


def slow_distances(points: torch.Tensor, turns: torch.Tensor) -> np.ndarray:
    """Return squared geodesic distances entry by entry, by the angle of a complex number on circles."""
    n = len(points)
    total = np.zeros((n, n))
    for column, turn in zip(points.double().numpy().T, turns.tolist(), strict=True):
        apart = column[:, None] - column[None, :]
        if math.isfinite(turn):
            apart = np.angle(np.exp(2j * np.pi * apart / turn)) * turn / TURN
        total += apart**2
    return total


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.3, 1.0, 30.0]))
def test_distances_are_geodesic(seed: int, width: float) -> None:
    delta, turns = updates(seed, width=width), periods(SPECS)
    points = flat(delta, SPECS)
    slow = slow_distances(points, turns)
    np.testing.assert_allclose(squared_distances(points, turns), slow, atol=1e-10 * width**2, rtol=1e-9)
    np.testing.assert_allclose(update_distances(delta, SPECS), slow, atol=1e-10 * width**2, rtol=1e-9)


def test_distances_of_near_and_of_equal_points_lose_no_digits() -> None:
    # by the Gram matrix alone: noise of 1e-5 where 1e-8 is right
    points = torch.from_numpy(stream(0, "near").normal(size=(9, 20000)) * 1e3)
    points[1] = points[0]
    for i in range(2, 8):
        points[i] = points[0] + i * 1e-6
    found = squared_distances(points, periods((ParamSpec("w", (20000,)),)))
    expected = [20000 * (i * 1e-6) ** 2 for i in range(2, 8)]
    assert float(found[0, 1]) == 0.0
    assert found[0, 2:8].tolist() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(found, found.T)


def test_distances_that_overflow_are_infinite_and_the_rest_are_right() -> None:
    points = torch.tensor([[1.0, 2.0], [4.0, 6.0], [1e300, -1e300], [1e300, -1e300]], dtype=torch.float64)
    found = squared_distances(points, torch.full((2,), math.inf, dtype=torch.float64))
    assert float(found[0, 1]) == 25.0
    assert bool(found[:2, 2:].isinf().all())
    assert found.diagonal().tolist() == [0.0] * 4


@given(st.integers(0, 1000))
def test_flat_and_unflat_are_opposites_and_keep_types(seed: int) -> None:
    delta = updates(seed)
    points = flat(delta, SPECS)
    assert points.dtype == torch.float64
    assert bool((points[:, 4:7].abs() <= math.pi).all())
    for i, point in enumerate(points):
        for spec in SPECS:
            tensor, expected = unflat(point, SPECS)[spec.name], delta[spec.name][i]
            expected = expected if spec.period is None else wrap(expected, spec.period)
            assert tensor.dtype == spec.torch_dtype
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_moved_adds_on_the_line_and_on_the_circle() -> None:
    params = {spec.name: torch.zeros(spec.shape, dtype=spec.torch_dtype) for spec in SPECS}
    new = moved(params, torch.full((9,), 6.0, dtype=torch.float64), SPECS)
    assert new["line"].tolist() == [[6.0, 6.0], [6.0, 6.0]]
    assert new["angle"].tolist() == pytest.approx([6 - TURN] * 3)
    assert float(new["third"]) == pytest.approx(6 - TURN, abs=1e-6)


@given(st.integers(0, 1000))
def test_inner_products_norms_and_sums_agree_with_flat_points(seed: int) -> None:
    delta = updates(seed)
    points, coefficients = flat(delta, SPECS), torch.from_numpy(stream(seed, "c").normal(size=6))
    own = {name: tensor[2] for name, tensor in delta.items()}
    centred = wrapped(points - points[2], periods(SPECS))
    torch.testing.assert_close(products(delta, SPECS), points @ points.T)
    torch.testing.assert_close(products(delta, SPECS, own), centred @ centred.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norms(delta, SPECS), points.norm(dim=1))
    torch.testing.assert_close(along(delta, own, SPECS), points @ points[2])
    expected = unflat(coefficients @ points, SPECS)
    seen = unflat(coefficients @ centred, SPECS)
    for name, tensor in combined(delta, coefficients, SPECS).items():
        torch.testing.assert_close(tensor.to(expected[name].dtype), expected[name])
    for name, tensor in combined(delta, coefficients, SPECS, own).items():
        torch.testing.assert_close(tensor.float(), seen[name].float(), rtol=1e-5, atol=1e-5)


@given(st.integers(0, 1000), st.floats(-10, 10))
def test_averages_on_circles_turn_with_their_angles(seed: int, turn: float) -> None:
    delta = updates(seed, width=0.1)
    weights = torch.from_numpy(stream(seed, "w").dirichlet([1.0] * 6))
    other = {name: tensor + turn * (name in ("angle", "third")) for name, tensor in delta.items()}
    still, turned = average(delta, weights, SPECS, near=1), average(other, weights, SPECS, near=4)
    for spec in SPECS:
        apart = turned[spec.name] - still[spec.name] - turn * (spec.name in ("angle", "third"))
        apart = apart if spec.period is None else wrap(apart, spec.period)
        assert float(apart.abs().max()) < 1e-5


@given(st.lists(st.integers(-180, 179), min_size=1, max_size=9, unique=True))
def test_the_circular_median_has_the_least_sum_of_distances_of_all_angles_of_the_circle(degrees: list[int]) -> None:
    # between neighbours the sum is linear or concave, so whole degrees, where the angles are, include the minimum
    angles = torch.tensor(degrees, dtype=torch.float64).unsqueeze(1)

    def cost(angle: float) -> float:
        return float(wrap(angles - angle, 360.0).abs().sum())

    found = float(circular_median(angles, 360.0)[0])
    if max(degrees) - min(degrees) >= 180:
        assert cost(found) == min(cost(angle) for angle in range(-180, 180))
    else:
        assert found == 0.0
