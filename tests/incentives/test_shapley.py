"""Exact Shapley values: published games, an independent route over all orders, and the axioms."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError
from qfedfm.incentives import Game, Shapley, shapley_values, weighted_voting
from qfedfm.incentives.game import all_coalitions
from qfedfm.seeds import stream


def exact(game):
    return Shapley().values(game, stream(0)).value


def table(worth):
    """Return the game whose coalition k (as in `all_coalitions`) is worth worth[k]."""
    players = len(worth).bit_length() - 1
    return Game(players, lambda coalitions: np.asarray(worth)[coalitions @ (1 << np.arange(players))])


@st.composite
def worths(draw, most=5):
    players = draw(st.integers(1, most))
    return np.array(draw(st.lists(st.floats(-10, 10), min_size=2**players, max_size=2**players)))


@pytest.mark.parametrize(
    ("quota", "weights", "expected"),
    [
        (51, [50, 49, 1], ["2/3", "1/6", "1/6"]),
        (3, [2, 1, 1, 1], ["1/2", "1/6", "1/6", "1/6"]),  # Shapley and Shubik 1954: a president with two votes of five
        (65, [50, 30, 20], ["2/3", "1/6", "1/6"]),
        (2, [1, 1, 1], ["1/3", "1/3", "1/3"]),
        (12, [4, 4, 4, 2, 2, 1], ["14/60", "14/60", "14/60", "9/60", "9/60", "0"]),  # the EEC of 1958: no power for one
    ],
)
def test_published_voting_games(quota, weights, expected):
    assert exact(weighted_voting(quota, weights)) == pytest.approx([float(Fraction(x)) for x in expected], abs=1e-14)


def test_security_council_of_the_united_nations_shapley_and_shubik_1954():
    # 5 permanent members with a veto, 10 others, 9 votes of 15: 421/2145 and 4/2145
    values = exact(weighted_voting(39, [7] * 5 + [1] * 10))
    assert values[:5] == pytest.approx([421 / 2145] * 5, abs=1e-13)
    assert values[5:] == pytest.approx([4 / 2145] * 10, abs=1e-13)


def test_glove_game():
    # one left glove, two right ones; a pair is worth 1
    game = Game(3, lambda c: np.minimum(c[:, 0], c[:, 1:].sum(1)).astype(float))
    assert exact(game) == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=1e-14)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_airport_game_littlechild_and_owen_1973(costs):
    # the runway that the largest aircraft needs: each part is shared by all who need it
    costs = np.sort(costs)
    game = Game(len(costs), lambda c: np.where(c, costs, 0).max(1))
    shares = np.diff(costs, prepend=0) / np.arange(len(costs), 0, -1)
    assert exact(game) == pytest.approx(np.cumsum(shares), abs=1e-9)


@given(worths())
def test_values_equal_the_mean_gain_over_all_orders_of_arrival(worth):
    players = len(worth).bit_length() - 1
    total = np.zeros(players)
    for order in itertools.permutations(range(players)):
        coalition = 0
        for player in order:
            total[player] += worth[coalition | 1 << player] - worth[coalition]
            coalition |= 1 << player
    assert shapley_values(worth) == pytest.approx(total / math.factorial(players), abs=1e-10)


@given(worths())
def test_efficiency(worth):
    assert shapley_values(worth).sum() == pytest.approx(worth[-1] - worth[0], abs=1e-10)


@given(worths(4), st.floats(-5, 5))
def test_a_player_who_adds_a_constant_is_worth_it_and_a_null_player_nothing(worth, added):
    joined = np.concatenate([worth, worth + added])  # the new player is the highest bit
    values = shapley_values(joined)
    assert values[-1] == pytest.approx(added, abs=1e-10)
    assert values[:-1] == pytest.approx(shapley_values(worth), abs=1e-10)


@given(worths(), st.data())
def test_symmetry(worth, data):
    players = len(worth).bit_length() - 1
    i, j = (data.draw(st.integers(0, players - 1)) for _ in range(2))
    masks = np.arange(len(worth))
    bit_i, bit_j = masks >> i & 1, masks >> j & 1
    swapped = masks & ~(1 << i) & ~(1 << j) | bit_i << j | bit_j << i
    values = shapley_values(worth + worth[swapped])
    assert values[i] == pytest.approx(values[j], abs=1e-10)


@given(worths(), st.floats(-3, 3), st.integers(0, 99))
def test_linearity(worth, factor, seed):
    other = stream(seed, "other").normal(size=len(worth))
    together = shapley_values(worth + factor * other)
    assert together == pytest.approx(shapley_values(worth) + factor * shapley_values(other), abs=1e-10)


def test_a_coalition_is_evaluated_once_and_all_in_one_call():
    asked = []

    def worth(coalitions):
        asked.append(coalitions.copy())
        return coalitions.sum(1).astype(float)

    game = Game(10, worth)
    Shapley().values(game, stream(0))
    game(all_coalitions(10)[::-1])
    assert [len(some) for some in asked] == [1024]
    assert game.evaluations == 1024
    assert (game.empty, game.whole) == (0, 10)
    again = np.repeat(all_coalitions(2), 2, axis=0)
    assert table([0, 1, 2, 3])(again).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_cannot_be_valued_is_refused():
    with pytest.raises(ConfigurationError, match=r"at most 16 players: use MonteCarlo\(\)"):
        exact(weighted_voting(9, [1] * 17))
    with pytest.raises(ConfigurationError, match="1 of them NaN"):
        Game(1, lambda c: np.array([0.0, np.nan]))(all_coalitions(1))
    with pytest.raises(ConfigurationError, match="at least one player"):
        Game(0, lambda c: c.sum(1))
