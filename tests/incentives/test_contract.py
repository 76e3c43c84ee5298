"""Contract menus: who takes part and who picks what by enumeration, profit against a search, two types by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError
from qfedfm.incentives import menu


@st.composite
def types(draw):
    count = draw(st.integers(1, 6))
    costs = np.cumsum(draw(st.lists(st.floats(0.05, 1), min_size=count, max_size=count)))[::-1]
    shares = np.array(draw(st.lists(st.floats(0.02, 1), min_size=count, max_size=count)))
    return costs, shares / shares.sum()


def test_two_types_worked_by_hand():
    # costs 2 and 1, half each, g = 12 ln(1 + q): the cheap type asks g' = 1, q = 11; the dear one's row costs
    # 2 + (2 - 1) (.5 / .5) = 3, q = 3. Rewards 2 * 3 = 6 and 6 + 1 * 8 = 14; the cheap type keeps 3, what it would
    # gain by posing as the dear one.
    found = menu(np.array([2.0, 1.0]), np.array([0.5, 0.5]), worth=12, scale=1, most=100)
    assert found.rows == pytest.approx([3, 11])
    assert found.rewards == pytest.approx([6, 14])
    assert found.gains(1.0) == pytest.approx([3, 3])
    assert found.profit == pytest.approx(0.5 * (12 * np.log(4) - 6) + 0.5 * (12 * np.log(12) - 14))
    assert (found.choose(2.0), found.choose(1.0), found.choose(2.5)) == (0, 1, None)


@given(types(), st.floats(0.1, 50), st.floats(0.1, 10), st.floats(0.5, 100))
def test_everybody_takes_part_and_picks_what_is_meant_for_it(kinds, worth, scale, most):
    costs, shares = kinds
    found = menu(costs, shares, worth, scale, most)
    slack = 1e-9 * max(1, found.rewards.max())
    assert (np.diff(found.rows) >= -1e-12).all()
    for own, cost in enumerate(costs):
        gains = found.gains(cost)
        assert gains[own] >= -slack
        assert gains[own] >= gains.max() - slack
        picked = found.choose(cost)
        assert found.rows[picked] == pytest.approx(found.rows[own], abs=1e-6 * most) or own == 0


def least_rewards(costs, rows):
    """Return the smallest rewards that keep everybody, by raising them until nobody prefers another's offer."""
    rewards = costs * rows
    for _ in range(len(costs)):
        for k in range(len(costs)):
            rewards[k] = max(rewards[k], (rewards - costs[k] * rows).max() + costs[k] * rows[k])
    return rewards


@pytest.mark.parametrize("shares", [[0.3, 0.4, 0.3], [0.6, 0.1, 0.3], [0.05, 0.15, 0.8]])
def test_no_menu_on_a_grid_earns_more(shares):
    # the second case needs ironing: virtual costs 3.6, 7, 1
    costs, shares = np.array([3.0, 2.0, 1.0]), np.array(shares)
    found = menu(costs, shares, worth=10, scale=2, most=6)
    grid = np.linspace(0, 6, 25)
    earned = []
    for rows in itertools.combinations_with_replacement(grid, 3):
        rows = np.array(rows)
        rewards = least_rewards(costs, rows)
        earned.append(shares @ (10 * np.log1p(rows / 2) - rewards))
    assert found.profit >= max(earned) - 1e-9
    assert found.profit <= max(earned) + 0.02  # the grid is fine


@given(types())
@settings(max_examples=30)
def test_rewards_are_the_least_that_keep_everybody(kinds):
    costs, shares = kinds
    found = menu(costs, shares, worth=10, scale=1, most=50)
    assert found.rewards == pytest.approx(least_rewards(costs, found.rows), abs=1e-8)


def test_impossible_menus_are_refused():
    with pytest.raises(ConfigurationError, match="from the dearest type"):
        menu(np.array([1.0, 2.0]), np.array([0.5, 0.5]), 1, 1, 1)
    with pytest.raises(ConfigurationError, match="sum to one"):
        menu(np.array([2.0, 1.0]), np.array([0.5, 0.6]), 1, 1, 1)
    with pytest.raises(ConfigurationError, match="should be positive"):
        menu(np.array([2.0]), np.array([1.0]), 1, 0, 1)
