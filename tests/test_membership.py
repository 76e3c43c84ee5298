"""Membership inference: AUC against hand counts and formulas, audits of models that leak and that do not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, norm

from qfedfm.errors import ConfigurationError
from qfedfm.federation import Training
from qfedfm.heads import Mlp
from qfedfm.privacy import DpSgd, LocalDp
from qfedfm.training import Adam
from qfedfm.trust.membership import auc, likelihood_ratio, membership_audit

scores = arrays(np.float64, st.integers(2, 12), elements=st.integers(-3, 3).map(float))


@given(scores, scores)
def test_auc_is_the_mann_whitney_statistic_ties_included(members: np.ndarray, others: np.ndarray) -> None:
    found = auc(members, others)
    expected = mannwhitneyu(members, others, method="asymptotic").statistic / (len(members) * len(others))
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert auc(others, members).value == pytest.approx(1 - found.value, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_delong_variance_by_hand() -> None:
    # members 3, 1; others 2, 0: shares below each member 1, 1/2; above each other 1/2, 1; AUC 3/4
    found = auc(np.array([3.0, 1.0]), np.array([2.0, 0.0]))
    half = 1.959964 * np.sqrt((1 / 8) / 2 + (1 / 8) / 2)
    assert (found.value, found.low, found.high) == (0.75, pytest.approx(0.75 - half), 1.0)


def test_intervals_cover_the_area_of_two_normals() -> None:
    # AUC of N(1, 1) over N(0, 1) is Phi(1 / sqrt 2); 400 draws of 60 + 60, 95 % nominal: 3.3 points are 3 sigma
    rng, truth = np.random.default_rng(2), norm.cdf(1 / np.sqrt(2))
    found = [auc(rng.normal(1, 1, 60), rng.normal(0, 1, 60)) for _ in range(400)]
    assert np.mean([one.low <= truth <= one.high for one in found]) == pytest.approx(0.95, abs=0.033)


def test_likelihood_ratio_is_that_of_the_normals_it_was_given() -> None:
    # one row; in: 2, 4 (mean 3, variance 2), out: -1, 1 (mean 0, variance 2): score(x) = (x^2 - (x - 3)^2) / 4
    shadows, member = np.array([[2.0], [4.0], [-1.0], [1.0]]), np.array([[True], [True], [False], [False]])
    for x in (-1.0, 0.0, 1.5, 4.0):
        assert likelihood_ratio(np.array([x]), shadows, member)[0] == pytest.approx((x**2 - (x - 3) ** 2) / 4)
    assert likelihood_ratio(np.array([1.0]), shadows, np.ones_like(member)).tolist() == [0]


def data(rows: int = 60, features: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points whose labels are coins: whatever a model knows of them, it has by heart."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(rows, features))), torch.from_numpy(rng.integers(2, size=rows))


LONG = Training(Adam(lr=0.05), batch_size=10, epochs=40)


def test_a_model_that_learns_coins_by_heart_gives_its_members_away_and_a_private_one_does_not() -> None:
    table, labels = data()
    open_book = membership_audit(Mlp((16,)), table, labels, LONG, shadows=16)
    assert open_book.train_accuracy == 1.0
    assert open_book.loss.low > 0.65
    assert open_book.likelihood_ratio.low > 0.75
    noisy = Training(Adam(lr=0.05), batch_size=10, epochs=40, privacy=DpSgd(clip=0.1, sigma=20.0))
    private = membership_audit(Mlp((16,)), table, labels, noisy, shadows=16)
    assert private.loss.low < 0.5 < private.loss.high
    assert private.likelihood_ratio.low < 0.5 < private.likelihood_ratio.high


def test_an_audit_repeats_and_follows_its_seed() -> None:
    table, labels = data(20, 3)
    once, again, other = (membership_audit(Mlp((2,)), table, labels, shadows=4, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_what_cannot_be_audited_is_refused() -> None:
    table, labels = data(20, 3)
    with pytest.raises(ConfigurationError, match="at least 8 rows and 4 shadows"):
        membership_audit(Mlp((2,)), table, labels, shadows=2)
    with pytest.raises(ConfigurationError, match="hides whole clients"):
        membership_audit(Mlp((2,)), table, labels, Training(privacy=LocalDp()))
    with pytest.raises(ConfigurationError, match="two members"):
        auc(np.array([1.0]), np.array([1.0, 2.0]))
