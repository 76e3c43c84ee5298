"""Amplitude estimation of Shapley values: the circuit's state, the theory of outcomes, coverage, oracle calls."""

import math

import numpy as np
import pytest
from test_shapley import exact

from qfedfm.errors import ConfigurationError
from qfedfm.incentives import Game, QuantumShapley, sampling_calls, weighted_voting
from qfedfm.incentives.quantum_shapley import arrivals, phases
from qfedfm.quantum import states
from qfedfm.seeds import stream

GAMES = [(51, [50, 49, 1]), (3, [2, 1, 1, 1]), (12, [4, 4, 4, 2, 2, 1])]


@pytest.mark.parametrize("players", range(2, 9))
def test_the_circuit_prepares_the_weights_of_shapleys_formula(players):
    state = states(arrivals(players), {}, {})[0, :, 0].numpy()
    size = np.array([k.bit_count() for k in range(2 ** (players - 1))])
    weight = [math.factorial(s) * math.factorial(players - 1 - s) / math.factorial(players) for s in size]
    assert np.abs(state - np.sqrt(weight)).max() < 1e-5  # complex64, some 100 gates


def test_outcomes_follow_brassard_et_al_2002_theorem_11():
    # |A|0> = sin(t)|good> + cos(t)|bad>: outcome y with probability (F(y/M - t/pi) + F(y/M + t/pi)) / 2,
    # F(d) = sin^2(M d pi) / (M^2 sin^2(d pi))
    start, marked, grid = np.sqrt([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False]), 16
    turn = math.asin(math.sqrt(0.4)) / math.pi

    def kernel(distance):
        return np.sin(grid * distance * np.pi) ** 2 / (grid * np.sin(distance * np.pi)) ** 2

    y = np.arange(grid) / grid
    assert phases(start, marked, grid) == pytest.approx((kernel(y - turn) + kernel(y + turn)) / 2, abs=1e-12)


@pytest.mark.parametrize("amplitude", [0.0, 1.0, 0.5])
def test_angles_on_the_grid_are_found_with_certainty(amplitude):
    start = np.sqrt([amplitude, 1 - amplitude])
    found = phases(start, np.array([True, False]), 8)
    angles = np.pi / 8 * np.minimum(np.arange(8), 8 - np.arange(8))
    assert found[np.isclose(np.sin(angles) ** 2, amplitude)].sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("quota", "weights"), GAMES)
def test_intervals_hold_the_exact_values_as_often_as_they_say(quota, weights):
    # 40 repetitions for each player; confidence .985, so at most 8 % may miss: more has a probability below 1e-3
    game = weighted_voting(quota, weights)
    truth, method = exact(game), QuantumShapley(qubits=5)
    assert method.confidence == pytest.approx(0.9845, abs=1e-3)
    covered = []
    for seed in range(40):
        found = method.values(game, stream(seed, "outcomes"))
        covered.append((found.low - 1e-12 <= truth) & (truth <= found.high + 1e-12))
    assert np.mean(covered) > 0.92


def test_the_error_falls_with_the_inverse_of_oracle_calls_and_sampling_with_its_root():
    game = weighted_voting(51, [50, 49, 1])
    widths, calls = [], []
    for qubits in (4, 6, 8):
        found = QuantumShapley(qubits=qubits).values(game, stream(7))
        widths.append(float((found.high - found.low).max()) / 2)
        calls.append(found.oracle_calls)
        assert found.oracle_calls == 3 * 9 * 2 * (2**qubits - 1)
        assert found.value == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=math.pi / 2**qubits)
    assert widths[0] / widths[2] == pytest.approx(16, rel=0.2)
    assert calls[2] / calls[0] == pytest.approx(17, rel=0.01)
    asked = [sampling_calls(2 / 3, width, 0.95) for width in widths]
    assert asked[2] / asked[0] == pytest.approx(256, rel=0.4)


def test_games_without_pivots_are_refused():
    for worth in (lambda c: c.sum(1) / 2, lambda c: (c.sum(1) == 1).astype(float)):
        with pytest.raises(ConfigurationError, match="worth 0 or 1"):
            QuantumShapley().values(Game(3, worth), stream(0))
    with pytest.raises(ConfigurationError, match="2 to 12 players; got 13"):
        QuantumShapley().values(weighted_voting(7, [1] * 13), stream(0))
    with pytest.raises(ConfigurationError, match="odd number; got 4"):
        QuantumShapley(runs=4)
