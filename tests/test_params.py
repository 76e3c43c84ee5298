import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.params import ParamSpec, difference, params_hash, specs_hash, stack, unstack, wrap

TURN = 2 * math.pi
ANGLE = ParamSpec("angle", (2,), "float64", "angular", TURN, "core")
periods = st.sampled_from([TURN, 2 * TURN, 1.0, TURN / 3])
angles = st.floats(-100, 100)


@given(angles, periods, st.integers(-20, 20))
def test_wrap_keeps_the_angle_and_forgets_whole_turns(angle: float, period: float, turns: int) -> None:
    wrapped = float(wrap(torch.tensor(angle + turns * period, dtype=torch.float64), period))
    assert -period / 2 - 1e-9 <= wrapped <= period / 2 + 1e-9
    assert np.exp(2j * np.pi * wrapped / period) == pytest.approx(np.exp(2j * np.pi * angle / period), abs=1e-9)


@pytest.mark.parametrize(
    ("angle", "period", "expected"),
    [(0.0, 4.0, 0.0), (1.9, 4.0, 1.9), (2.0, 4.0, -2.0), (-2.0, 4.0, -2.0), (3.0, 4.0, -1.0), (-9.0, 4.0, -1.0)],
)
def test_wrap_worked_by_hand(angle: float, period: float, expected: float) -> None:
    assert float(wrap(torch.tensor(angle, dtype=torch.float64), period)) == pytest.approx(expected, abs=1e-12)


def test_difference_goes_the_shorter_way_round_the_circle_and_straight_on_the_line() -> None:
    specs = (ANGLE, replace(ANGLE, name="line", kind="linear", period=None))
    new = {name: torch.tensor([-3.0, 1.0], dtype=torch.float64) for name in ("angle", "line")}
    old = {name: torch.tensor([3.0, 0.5], dtype=torch.float64) for name in ("angle", "line")}
    delta = difference(new, old, specs)
    assert delta["angle"].tolist() == pytest.approx([TURN - 6, 0.5])
    assert delta["line"].tolist() == [-6.0, 0.5]


def test_stack_puts_clients_first_and_unstack_takes_them_apart() -> None:
    many = [{"w": torch.full((2, 3), float(i)), "b": torch.tensor(float(-i))} for i in range(4)]
    stacked = stack(many)
    assert stacked["w"].shape == (4, 2, 3)
    assert stacked["b"].tolist() == [0, -1, -2, -3]
    for one, other in zip(unstack(stacked), many, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("w", "b"))


def test_the_hash_of_parameters_is_that_of_names_shapes_and_little_endian_bytes() -> None:
    content = b'["w", "<f4", [2]]' + np.array([1.0, -2.5], "<f4").tobytes() + b'["b", "<f8", []]'
    content += np.array(0.25, "<f8").tobytes()
    params = {"w": torch.tensor([1.0, -2.5]), "b": torch.tensor(0.25, dtype=torch.float64)}
    assert params_hash(params) == hashlib.sha256(content).hexdigest()


def test_parameters_that_differ_anywhere_have_other_hashes() -> None:
    values = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    zero = values.clone()
    zero[0, 1] = -0.0
    sets = [{"w": values}, {"v": values}, {"w": values.T}, {"w": values.flatten()}, {"w": values.double()}]
    sets += [{"w": zero}, {"w": values, "v": values}, {"w": torch.nextafter(values, torch.tensor(9.0))}]
    assert len({params_hash(params) for params in sets}) == len(sets)
    assert params_hash({"w": values.T.contiguous().T}) == params_hash({"w": values})


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"}, {"shape": (3,)}, {"dtype": "float32"}, {"period": 2 * TURN},
        {"kind": "linear", "period": None}, {"part": "readout"}, {"trainable": False}, {"shared": False}, {"pair": "b"},
    ],
    ids=str,
)  # fmt: skip
def test_specs_that_differ_anywhere_have_other_hashes(change: dict[str, object]) -> None:
    assert specs_hash([replace(ANGLE, **change)]) != specs_hash([ANGLE])
    assert specs_hash([replace(ANGLE)]) == specs_hash([ANGLE])


def test_the_hash_of_specs_depends_on_their_order() -> None:
    other = replace(ANGLE, name="other")
    assert specs_hash([ANGLE, other]) != specs_hash([other, ANGLE])


@pytest.mark.parametrize(("kind", "period"), [("angular", None), ("linear", TURN), ("generator", TURN)])
def test_angles_have_periods_and_nothing_else_does(kind: str, period: float | None) -> None:
    with pytest.raises(ValueError, match="parameter 'w': angular parameters have a period and no others do"):
        ParamSpec("w", (1,), kind=kind, period=period)


def test_size_counts_entries() -> None:
    assert ParamSpec("w", (2, 3, 4)).size == 24
    assert ParamSpec("scalar", ()).size == 1
