"""Attacks against their papers' formulas, worked by NumPy, and what they do to data."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.attacks import (
    Adversary,
    Alie,
    AngleDrift,
    Backdoor,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    MinMax,
    PeriodShift,
    Scaling,
    SignFlip,
)
from qfedfm.attacks.poisoned_updates import alie_z
from qfedfm.errors import ConfigurationError
from qfedfm.params import ParamSpec
from qfedfm.seeds import stream

TURN = 2 * math.pi
SPECS = (ParamSpec("line", (3,), "float64"), ParamSpec("angle", (2, 2), "float64", "angular", TURN, "core"))
ATTACKS = [
    SignFlip(), Gaussian(), Scaling(), FreeRider(), Alie(), InnerProduct(), MinMax(), PeriodShift(), AngleDrift(),
]  # fmt: skip


def updates(count, seed):
    generator = stream(seed, "updates")
    return {spec.name: torch.from_numpy(generator.normal(size=(count, *spec.shape))) for spec in SPECS}


OWN, HONEST = updates(2, 1), updates(5, 2)


def craft(attack, own=OWN, honest=HONEST, seed=0):
    return attack.craft(own, honest, SPECS, stream(seed, "attack"))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_what_is_sent_has_the_shape_of_an_update_and_is_drawn_from_the_generator_alone(attack):
    before = {name: tensor.clone() for name, tensor in OWN.items()}
    first, again = craft(attack), craft(attack)
    for name, tensor in OWN.items():
        assert first[name].shape == tensor.shape
        assert first[name].dtype == tensor.dtype
        assert torch.equal(first[name], again[name])
        assert torch.equal(tensor, before[name])


def test_simple_attacks_by_hand():
    assert torch.equal(craft(SignFlip(2.0))["line"], -2 * OWN["line"])
    assert torch.equal(craft(Scaling(3.0))["angle"], 3 * OWN["angle"])
    torch.testing.assert_close(craft(InnerProduct(0.5))["line"][1], -0.5 * HONEST["line"].mean(0))
    shifted = craft(PeriodShift(2))
    torch.testing.assert_close(shifted["angle"], OWN["angle"] + 2 * TURN)
    assert torch.equal(shifted["line"], OWN["line"])
    drift = craft(AngleDrift(0.3))["angle"] - OWN["angle"]
    torch.testing.assert_close(drift.abs(), torch.full_like(drift, 0.3))
    torch.testing.assert_close(drift[0], drift[1])
    assert craft(FreeRider(0.0))["line"].abs().max() == 0


@pytest.mark.parametrize(("n", "m", "z"), [(50, 12, 0.3360), (20, 6, 0.3661), (10, 2, 0.0), (4, 3, 0.0)])
def test_alie_z_of_baruch_et_al_section_3_3(n, m, z):
    # s = floor(n/2 + 1) - m supporters; 50 and 12: s = 14, Phi^-1(24/38) = .3360, by a table of the normal distribution
    # 20 and 6: s = 5, Phi^-1(9/14) = .3661; 10 and 2: s = 4, Phi^-1(4/8) = 0; 4 and 3: attackers are the majority
    assert alie_z(n, m) == pytest.approx(z, abs=5e-4)


def test_alie_stays_within_the_honest_deviation():
    honest = HONEST["line"].numpy()
    sent = craft(Alie(1.5))["line"].numpy()
    np.testing.assert_allclose(sent[0], honest.mean(0) - 1.5 * honest.std(0))


def test_min_max_goes_as_far_as_two_honest_clients_are_apart_and_no_farther():
    sent = craft(MinMax())
    flat = np.concatenate([HONEST[spec.name].flatten(1).numpy() for spec in SPECS], axis=1)
    attack = np.concatenate([sent[spec.name][0].flatten().numpy() for spec in SPECS])
    widest = max(np.linalg.norm(a - b) for a in flat for b in flat)
    assert max(np.linalg.norm(flat - attack, axis=1)) == pytest.approx(widest, rel=1e-9)


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_as_many_attack_as_the_fraction_says_and_they_are_the_same_every_time(n, fraction, seed):
    names = [f"c{i}" for i in range(n)]
    adversary = Adversary(SignFlip(), fraction)
    members = adversary.members(names, seed)
    assert len(members) == adversary.number(n) == math.floor(fraction * n + 1e-9)
    assert members == adversary.members(names, seed)
    assert members <= set(names)


def test_labels_flip_and_features_stay():
    table, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])
    changed, flipped = LabelFlip().poison(table, labels, 3)
    assert torch.equal(changed, table)
    assert flipped.tolist() == [2, 1, 0, 1, 2]


def test_a_backdoor_sets_its_trigger_and_its_target():
    table, labels = torch.zeros(5, 40), torch.tensor([0, 1, 1, 1, 0])
    changed, relabelled = Backdoor(target=1, width=0.1, value=3.0).poison(table, labels, 2)
    assert relabelled.tolist() == [1] * 5
    assert (changed == 3).sum(1).tolist() == [4] * 5
    assert torch.equal(changed[0], changed[4])
    assert table.abs().max() == 0
    with pytest.raises(ConfigurationError, match="expected a class from 0 to 1; got 2"):
        Backdoor(target=2).poison(table, labels, 2)
