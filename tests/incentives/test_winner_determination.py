"""Whom to hire: branch and cut against enumeration, the QUBO against both, one case by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError
from qfedfm.incentives import Market, optimum, qubo, solve_qubo
from qfedfm.incentives import winner_determination as wd
from qfedfm.incentives.game import all_coalitions
from qfedfm.seeds import stream


def market(seed, count, most, overlapping=True):
    generator = stream(seed, "market", count)
    overlap = np.triu(generator.exponential(0.3, (count, count)) * (generator.random((count, count)) < 0.5), 1)
    values, bids = generator.uniform(0, 2, count), generator.uniform(0, 1.5, count)
    return Market(values, most, overlap + overlap.T if overlapping else None), bids


def brute_qubo(matrix):
    bits = all_coalitions(len(matrix))
    return bits[((bits @ matrix) * bits).sum(1).argmin()]


def test_by_hand():
    # alone: gains 3, 2, 2; the first two share 2: {0, 2} is worth 5, all three 5, {0, 1} 3
    overlap = np.array([[0.0, 2, 0], [2, 0, 0], [0, 0, 0]])
    bids = np.array([1.0, 1, 1])
    both = Market(np.array([4.0, 3, 3]), 2, overlap)
    chosen, welfare = optimum(both, bids)
    assert (chosen.tolist(), welfare) == ([True, False, True], 5.0)
    assert optimum(both, bids, barred=0)[1] == 4
    assert optimum(both, np.array([9.0, 9, 9]))[1] == 0


@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 9), st.booleans())
@settings(max_examples=40)
def test_branch_and_cut_equals_enumeration(seed, count, most, overlapping):
    hiring, bids = market(seed, count, most, overlapping)
    for barred in (None, 0):
        _, greatest = optimum(hiring, bids, barred)
        chosen = wd._branch_and_cut(hiring, bids, barred)
        assert chosen.sum() <= most
        assert barred is None or not chosen[barred]
        assert hiring.welfare(chosen[None], bids)[0] == pytest.approx(greatest, abs=1e-9)


@given(st.integers(0, 999), st.integers(1, 7), st.integers(1, 8))
@settings(max_examples=40)
def test_the_minimum_of_the_qubo_is_minus_the_greatest_welfare(seed, count, most):
    hiring, bids = market(seed, count, most)
    problem = qubo(hiring, bids)
    bits = all_coalitions(len(problem.matrix))
    assert problem.energy(bits).min() == pytest.approx(-optimum(hiring, bids)[1], abs=1e-9)
    assert np.array_equal(problem.matrix, np.triu(problem.matrix))
    found = solve_qubo(hiring, bids, brute_qubo)
    assert found.feasible
    assert found.gap == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("most", range(1, 8))
def test_slack_reaches_every_sum_up_to_the_limit_and_no_more(most):
    hiring, bids = Market(np.zeros(7), most), np.zeros(7)
    problem = qubo(hiring, bids)
    bits = all_coalitions(len(problem.matrix))
    least = np.full(8, np.inf)
    np.minimum.at(least, bits[:, :7].sum(1), problem.energy(bits))
    assert least[: most + 1].tolist() == [0] * (most + 1)
    assert (least[most + 1 :] >= 1).all()


def test_the_gap_of_a_poor_solver_is_shown():
    hiring, bids = market(5, 6, 3)
    nobody = solve_qubo(hiring, bids, lambda matrix: np.zeros(len(matrix), dtype=bool))
    assert (nobody.welfare, nobody.feasible) == (0, True)
    assert nobody.gap == nobody.greatest == optimum(hiring, bids)[1] > 0
    assert not solve_qubo(hiring, bids, lambda matrix: np.ones(len(matrix), dtype=bool)).feasible


def test_many_clients_are_solved_exactly_too():
    # without overlap the best are simply those of largest gain
    hiring, bids = market(1, 60, 10, overlapping=False)
    gains = np.sort(hiring.values - bids)[::-1][:10]
    assert optimum(hiring, bids)[1] == pytest.approx(gains[gains > 0].sum(), abs=1e-9)


def test_impossible_markets_are_refused():
    for overlap in (np.ones((2, 2)), np.array([[0.0, 1], [2, 0]]), -np.ones((2, 2)) + np.eye(2), np.zeros((3, 3))):
        with pytest.raises(ConfigurationError, match="symmetric"):
            Market(np.ones(2), 1, overlap)
    with pytest.raises(ConfigurationError, match="at least one client"):
        Market(np.ones(2), 0)
    with pytest.raises(ConfigurationError, match="should return 3 bits"):
        solve_qubo(Market(np.ones(2), 1), np.zeros(2), lambda matrix: np.zeros(2))
