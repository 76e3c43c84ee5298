"""E91 and BBM92 as circuits, on PennyLane and on Aer: published values, and probabilities worked by hand."""

from math import cos, pi, sqrt

import numpy as np
import pytest

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.entangled import chsh_of_qber
from qfedfm.qkd.textbook_e91 import (
    BENNETT_BRASSARD_MERMIN,
    EKERT,
    Directions,
    measure_with_aer,
    measure_with_pennylane,
)
from qfedfm.seeds import stream

BACKENDS = pytest.mark.parametrize("measure", [measure_with_pennylane, measure_with_aer])


@BACKENDS
@pytest.mark.parametrize("visibility", [1.0, 0.9, 1 / sqrt(2), 0.3])
def test_chsh_is_2_sqrt_2_v_ekert_1991(measure, visibility):
    """36,000 pairs, 4000 a correlation: five sigmas of a normal S, seed fixed."""
    found = measure(EKERT, 36_000, visibility, stream(1, "pairs")).chsh()
    sigma = (found.high - found.low) / (2 * 1.959964)
    assert 0.015 < sigma < 0.033
    assert abs(found.value - 2 * sqrt(2) * visibility) < 5 * sigma


@BACKENDS
@pytest.mark.parametrize(("directions", "share"), [(EKERT, 2 / 9), (BENNETT_BRASSARD_MERMIN, 1 / 2)])
def test_qber_is_half_of_one_less_v_and_goes_with_chsh(measure, directions, share):
    """Within five sigmas of the binomials; S from the QBER is the S of the other directions."""
    pairs = measure(directions, 18_000, 0.92, stream(2, "pairs"))
    alice, bob = pairs.sifted()
    qber = pairs.qber()
    assert abs(len(alice) - share * 18_000) < 5 * sqrt(share * (1 - share) * 18_000)
    assert (qber.errors, qber.bits) == (np.count_nonzero(alice != bob), len(alice))
    assert abs(qber.value - 0.04) < 5 * sqrt(0.04 * 0.96 / len(alice))
    assert qber.interval[0] < 0.04 < qber.interval[1]
    assert abs(alice.mean() - 0.5) < 5 * 0.5 / sqrt(len(alice))
    if directions == EKERT:
        assert pairs.chsh().low < chsh_of_qber(qber.value) < pairs.chsh().high


@BACKENDS
def test_any_two_directions_agree_with_probability_half_of_one_plus_v_cos(measure):
    """Angles that no symmetry helps, 2000 pairs a choice, five sigmas."""
    directions = Directions((0.3, -1.1), (2.0, 0.9, pi))
    pairs = measure(directions, 12_000, 0.8, stream(3, "pairs"))
    for a, b in np.ndindex(2, 3):
        chosen = (pairs.alice_direction == a) & (pairs.bob_direction == b)
        expected = (1 + 0.8 * cos(directions.alice[a] - directions.bob[b])) / 2
        seen = np.mean(pairs.alice_bit[chosen] == pairs.bob_bit[chosen])
        assert abs(seen - expected) < 5 * sqrt(expected * (1 - expected) / chosen.sum())


@BACKENDS
def test_without_noise_equal_directions_give_equal_bits_and_a_seed_the_same_pairs(measure):
    first, again = (measure(EKERT, 500, 1.0, stream(4, "pairs")) for _ in range(2))
    assert first.qber().errors == 0
    assert np.array_equal(first.alice_bit, again.alice_bit)
    assert np.array_equal(first.bob_bit, again.bob_bit)


def test_bbm92_has_no_directions_for_chsh():
    with pytest.raises(ConfigurationError, match="EKERT"):
        measure_with_pennylane(BENNETT_BRASSARD_MERMIN, 50, 1.0, stream(5, "pairs")).chsh()


@BACKENDS
@pytest.mark.parametrize(("pairs", "visibility"), [(0, 1.0), (10, 1.1), (10, -0.1), (10, float("nan"))])
def test_what_cannot_be_is_refused(measure, pairs, visibility):
    with pytest.raises(ConfigurationError, match="at least one pair and a visibility of 0 to 1"):
        measure(EKERT, pairs, visibility, stream(6, "pairs"))
