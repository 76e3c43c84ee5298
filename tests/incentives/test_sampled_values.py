"""Sampled values against exact ones: coverage of intervals, no bias, truncation; leave-one-out by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from test_shapley import exact, table, worths

from qfedfm.errors import ConfigurationError
from qfedfm.incentives import Game, Gtg, LeaveOneOut, MonteCarlo, weighted_voting
from qfedfm.incentives.gtg import guided
from qfedfm.incentives.permutations import gains
from qfedfm.seeds import stream

UNTRUNCATED = {"round_truncation": 0.0, "truncation": 0.0, "settled": 0.0}


def saturating(players, seed=0):
    """Return a game like learning: everybody adds something, the later the less."""
    parts = stream(seed, "parts").uniform(0.1, 1, players)
    return Game(players, lambda coalitions: 1 - np.exp(-(coalitions @ parts)))


@pytest.mark.parametrize("method", [MonteCarlo(permutations=40), Gtg(blocks=10, **UNTRUNCATED)], ids=str)
def test_intervals_of_95_percent_cover_the_exact_values(method):
    # 200 seeds x 6 players; players of one draw are dependent, so the tolerance is 4 sd of 200 independent covers:
    # .95 +- .062. Student's interval over 10 or 20 nearly normal means is close to nominal.
    game = saturating(6)
    truth = exact(game)
    covered = []
    for seed in range(200):
        found = method.values(game, stream(seed, "draw"))
        covered.append((found.low <= truth) & (truth <= found.high))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.062)


@pytest.mark.parametrize("method", [MonteCarlo(permutations=20), Gtg(blocks=4, prefix=2, **UNTRUNCATED)], ids=str)
def test_sampled_values_have_no_bias_and_share_out_everything(method):
    worth = stream(3, "worth").normal(size=2**5)
    game, truth = table(worth), exact(table(worth))
    found = np.array([method.values(game, stream(seed, "draw")).value for seed in range(300)])
    assert found.sum(1) == pytest.approx(np.full(300, worth[-1] - worth[0]), abs=1e-10)
    deviations = (found.mean(0) - truth) / (found.std(0, ddof=1) / math.sqrt(300))
    assert np.abs(deviations).max() < 4


def test_reversed_orders_err_less_than_independent_ones():
    game = saturating(8)
    paired = [MonteCarlo(permutations=10).values(game, stream(s, "draw")).value for s in range(200)]
    alone = [
        gains(game, stream(s, "draw").permuted(np.tile(np.arange(8), (10, 1)), axis=1), 0.0).mean(0) for s in range(200)
    ]
    assert np.var(paired, axis=0).sum() < 0.5 * np.var(alone, axis=0).sum()


@given(worths(4))
@settings(max_examples=30)
def test_gtg_is_exact_without_truncation_when_a_block_holds_all_orders(worth):
    game = table(worth)
    found = Gtg(blocks=2, prefix=game.players, **UNTRUNCATED).values(game, stream(0))
    assert found.value == pytest.approx(exact(game), abs=1e-9)


def test_a_block_begins_in_every_way_once():
    orders = guided(5, 2, stream(0))
    assert sorted(map(tuple, orders[:, :2])) == sorted(itertools.permutations(range(5), 2))
    assert (np.sort(orders, axis=1) == np.arange(5)).all()


def test_truncation_saves_evaluations_and_errs_by_no_more_than_it_says():
    full, cut = saturating(10), saturating(10)
    MonteCarlo(permutations=100).values(full, stream(1))
    found = MonteCarlo(permutations=100, truncation=0.05).values(cut, stream(1))
    assert found.evaluations < 0.7 * full.evaluations
    assert 0 <= cut.whole - cut.empty - found.value.sum() < 0.05


def test_a_round_that_changed_nothing_costs_two_evaluations():
    game = Game(7, lambda coalitions: 0.005 * coalitions.sum(1) / 7)
    found = Gtg(round_truncation=0.01).values(game, stream(0))
    assert found.value.tolist() == [0] * 7
    assert (found.evaluations, found.low) == (2, None)


def test_gtg_stops_when_values_have_settled():
    additive = Game(6, lambda coalitions: coalitions @ np.arange(1.0, 7.0))
    found = Gtg(blocks=50, truncation=0.0).values(additive, stream(0))
    assert found.value == pytest.approx(np.arange(1, 7), abs=1e-12)
    assert found.evaluations <= 2 + 2 * 6 * 6  # two blocks of six orders


def test_leave_one_out_by_hand_does_not_miss_one_of_two_alike():
    game = Game(3, lambda c: (c[:, 0] | c[:, 1]) + 2.0 * c[:, 2])
    found = LeaveOneOut().values(game, stream(0))
    assert found.value.tolist() == [0, 0, 2]
    assert found.evaluations == 4
    assert exact(game) == pytest.approx([0.5, 0.5, 2])


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ConfigurationError, match="an even number; got 7"):
        MonteCarlo(permutations=7)
    for prefix in (4, 3):
        players = 3 if prefix == 4 else 60
        with pytest.raises(ConfigurationError, match=f"{prefix} leading positions of {players}"):
            Gtg(prefix=prefix).values(weighted_voting(2, [1] * players), stream(0))
