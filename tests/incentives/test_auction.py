"""Auctions: published special cases, and a search for lies that pay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_winner_determination import market

from qfedfm.errors import ConfigurationError
from qfedfm.incentives import Award, Market, affordable, budgeted, optimum, vcg
from qfedfm.seeds import stream

LIES = 24


def lies(costs, values, client, generator):
    """Return bids of one client that might pay: at random, and just beside everything that decides who wins."""
    others = np.delete(costs, client)
    ratios = np.delete(costs / values, client) * values[client]
    edges = np.concatenate([others, ratios, [costs[client]], values[[client]]])
    near = np.concatenate([edges - 1e-6, edges + 1e-6, [0.0]])
    return np.maximum(0, np.concatenate([near, generator.uniform(0, 2 * costs.max(), LIES)]))


def best_lie(mechanism, costs, values, generator):
    """Return the most that any client gains by any lie, over what it has when it bids its cost."""
    honest = mechanism(costs).utility(costs)
    gained = []
    for client in range(len(costs)):
        for lie in lies(costs, values, client, generator):
            bids = costs.copy()
            bids[client] = lie
            gained.append(mechanism(bids).utility(costs)[client] - honest[client])
    return max(gained)


def test_vickrey_1961_one_winner_of_equal_worth_is_paid_the_second_lowest_bid():
    award = vcg(Market(np.full(4, 10.0), most=1), np.array([5.0, 3.0, 4.0, 7.0]))
    assert award.winners.tolist() == [False, True, False, False]
    assert award.payments.tolist() == [0, 4, 0, 0]


def test_k_winners_of_equal_worth_are_paid_the_next_bid():
    award = vcg(Market(np.full(5, 10.0), most=3), np.array([5.0, 3.0, 4.0, 7.0, 6.0]))
    assert award.payments.tolist() == [6, 6, 6, 0, 0]


def test_a_winner_without_competition_is_paid_its_value():
    assert vcg(Market(np.array([10.0, 8]), most=2), np.array([1.0, 2.0])).payments.tolist() == [10, 8]


def test_no_lie_pays_under_vcg():
    worst = []
    for seed in range(30):
        count = 2 + seed % 4
        hiring, costs = market(seed, count, 1 + seed % 3)
        worst.append(best_lie(lambda bids, m=hiring: vcg(m, bids), costs, hiring.values, stream(seed, "lies")))
    assert max(worst) < 1e-9


def test_a_lie_pays_where_a_heuristic_stands_in_for_the_optimum():
    # gains 10, 9, 9 and the first has 8 in common with each: greedily 0 and 1 are hired, worth 11; 1 and 2 are worth 18
    overlap = np.array([[0.0, 8, 8], [8, 0, 0], [8, 0, 0]])
    hiring, costs = Market(np.full(3, 12.0), 2, overlap), np.array([2.0, 3, 3])

    def greedy(bids, barred=None):
        chosen = np.zeros(3, dtype=bool)
        for _ in range(2):
            joined = [chosen | (np.arange(3) == i) for i in range(3) if not chosen[i] and i != barred]
            chosen = max(joined, key=lambda some: float(hiring.welfare(some[None], bids)[0]))
        return chosen, float(hiring.welfare(chosen[None], bids)[0])

    def award(bids):
        winners, welfare = greedy(bids)
        pay = [bids[i] + welfare - greedy(bids, i)[1] if winners[i] else 0.0 for i in range(3)]
        return Award(winners, np.array(pay))

    assert optimum(hiring, costs)[1] == 18
    assert greedy(costs)[1] == 11
    assert best_lie(award, costs, hiring.values, stream(0, "lies")) > 5
    assert best_lie(lambda bids: vcg(hiring, bids), costs, hiring.values, stream(0, "lies")) < 1e-9


@given(st.integers(0, 9999), st.integers(1, 7), st.integers(1, 4))
@settings(max_examples=50)
def test_vcg_hires_the_best_and_nobody_loses(seed, count, most):
    hiring, costs = market(seed, count, most)
    award = vcg(hiring, costs)
    assert hiring.welfare(award.winners[None], costs)[0] == optimum(hiring, costs)[1]
    assert (award.utility(costs) >= -1e-12).all()
    assert (award.payments[award.winners] >= costs[award.winners] - 1e-12).all()
    assert (award.payments[~award.winners] == 0).all()


def instance(seed, count):
    generator = stream(seed, "budget", count)
    values, costs = generator.uniform(0.2, 2, count), generator.uniform(0.05, 1, count)
    return values, costs, float(generator.uniform(0.2, 3))


def test_singer_2010_equal_values_by_hand():
    # bids 1, 2, 3, 6, budget 10: 3 <= 10/3 and 6 > 10/4, so three are hired and paid min(10/3, 6)
    award = budgeted(np.ones(4), np.array([1.0, 2, 3, 6]), 10)
    assert award.winners.tolist() == [True, True, True, False]
    assert award.payments == pytest.approx([10 / 3] * 3 + [0])
    # the fourth bids 3.1: the winners could be no dearer than that
    assert budgeted(np.ones(4), np.array([1.0, 2, 3, 3.1]), 10).payments == pytest.approx([3.1] * 3 + [0])


def test_no_lie_pays_under_the_budgeted_auction():
    worst = []
    for seed in range(60):
        values, costs, budget = instance(seed, 2 + seed % 6)
        worst.append(
            best_lie(lambda bids, v=values, b=budget: budgeted(v, bids, b), costs, values, stream(seed, "lies"))
        )
    assert max(worst) < 1e-9


@given(st.integers(0, 9999), st.integers(1, 12))
def test_the_budget_is_kept_and_nobody_loses(seed, count):
    values, costs, budget = instance(seed, count)
    award = budgeted(values, costs, budget)
    assert award.payments.sum() <= budget * (1 + 1e-12)
    assert (award.utility(costs) >= -1e-12).all()
    assert values[award.winners].sum() <= affordable(values, costs, budget) + 1e-9


@given(st.integers(0, 9999), st.integers(2, 7))
@settings(max_examples=40)
def test_payments_are_the_highest_bids_that_still_win_found_by_bisection(seed, count):
    values, costs, budget = instance(seed, count)
    award = budgeted(values, costs, budget)
    for client in np.flatnonzero(award.winners):
        low, high = costs[client], 10 * budget + 10
        for _ in range(60):
            bids = costs.copy()
            bids[client] = (low + high) / 2
            low, high = (bids[client], high) if budgeted(values, bids, budget).winners[client] else (low, bids[client])
        assert award.payments[client] == pytest.approx(low, rel=1e-9)


@pytest.mark.parametrize("bids", [[1.0], [1.0, -0.1], [np.nan, 1.0]])
def test_impossible_bids_are_refused(bids):
    for award in (lambda b: vcg(Market(np.ones(2), 1), b), lambda b: budgeted(np.ones(2), b, 1.0)):
        with pytest.raises(ConfigurationError, match="expected 2 finite bids"):
            award(np.array(bids))
    with pytest.raises(ConfigurationError, match="positive values"):
        budgeted(np.zeros(2), np.ones(2), 1.0)
