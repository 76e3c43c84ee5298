"""The statistics against published examples, SciPy's own tests, simulation, and what a sentence may claim."""

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from qfedfm.errors import ConfigurationError
from qfedfm.evidence import METRICS, Paired, mean_interval, paired, verdict

SLEEP_DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
DEPRESSION_FIRST = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
DEPRESSION_SECOND = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]

scores = st.floats(0, 1).map(lambda value: round(value, 3))
pairs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.lists(scores, min_size=n, max_size=n), st.lists(scores, min_size=n, max_size=n))
)


def around(difference: float, spread: float, n: int = 10) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two arms whose differences have exactly this mean and this standard error."""
    steps = np.linspace(-1, 1, n)
    twin = np.linspace(0.7, 0.8, n)
    return twin + difference + steps / steps.std(ddof=1) * spread * np.sqrt(n), twin


def test_student_1908_sleep_data_as_printed_by_r() -> None:
    result = paired(SLEEP_DRUG_1, SLEEP_DRUG_2, margin=1.0)
    assert result.difference == pytest.approx(-1.58)
    assert result.p_difference == pytest.approx(0.002833, abs=5e-7)
    assert (result.low, result.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_hollander_wolfe_1973_depression_data_signed_ranks() -> None:
    result = paired(DEPRESSION_FIRST, DEPRESSION_SECOND, margin=1.0)
    assert result.p_wilcoxon == pytest.approx(0.0390625)  # V = 40 of 9 pairs; one-sided .01953


def test_tost_example_of_the_pingouin_manual() -> None:
    result = paired([4, 7, 8, 6, 3, 2], [6, 8, 7, 10, 11, 9], margin=0.5)
    assert result.p_equivalence == pytest.approx(0.954854, abs=5e-7)
    assert not result.equivalent


def test_tost_worked_by_hand() -> None:
    # differences .1 .2 .3: mean .2, standard error .1 / sqrt 3; margin .5: t = -.3 sqrt(3) / .1 = -5.19615 on 2 degrees
    # of freedom, where P(T < t) = 1/2 + t / (2 sqrt(2 + t^2)): 1/2 - 5.19615 / (2 sqrt 29) = .0175494
    result = paired([1.1, 1.2, 1.3], [1.0, 1.0, 1.0], margin=0.5)
    assert result.p_equivalence == pytest.approx(0.0175494, abs=5e-8)
    assert result.equivalent


@pytest.mark.parametrize(("seeds", "smallest"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_smallest_two_sided_wilcoxon_p(seeds: int, smallest: float) -> None:
    differences = np.arange(1.0, seeds + 1)
    assert stats.wilcoxon(differences).pvalue == smallest
    shown = paired(differences, np.zeros(seeds), margin=1.0).p_wilcoxon
    assert shown == (smallest if seeds >= 6 else None)


@given(st.lists(st.integers(-40, 40).filter(bool), min_size=6, max_size=20, unique_by=abs))
def test_wilcoxon_equals_scipy_without_ties(differences: list[int]) -> None:
    result = paired(differences, np.zeros(len(differences)), margin=1.0)
    assert result.p_wilcoxon == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_wilcoxon_with_ties_is_the_share_of_all_sign_patterns() -> None:
    twin = np.array([0.70, 0.60, 0.65, 0.72, 0.68, 0.71, 0.66])
    differences = np.array([0.1, 0.1, 0.1, 0.2, 0.2, 0.3, -0.1])
    ranks = stats.rankdata(np.abs(differences))
    signs = 1 - 2 * ((np.arange(2**7)[:, None] >> np.arange(7)) & 1)
    sums, seen = signs @ ranks, np.sign(differences) @ ranks
    expected = np.mean(np.abs(sums) >= abs(seen))
    assert paired(twin + differences, twin, margin=0.1).p_wilcoxon == pytest.approx(expected)


@given(pairs, st.floats(0.01, 0.5))
def test_equals_scipy_where_there_is_a_spread(arms: tuple[list[float], list[float]], margin: float) -> None:
    a, b = np.array(arms[0]), np.array(arms[1])
    assume(np.ptp(np.round(a - b, 6)) > 0)
    result = paired(a, b, margin)
    reference = stats.ttest_rel(a, b)
    bounds = reference.confidence_interval(0.95)
    assert result.p_difference == pytest.approx(reference.pvalue, abs=1e-8)
    assert (result.low, result.high) == pytest.approx((bounds.low, bounds.high), abs=1e-8)
    above = stats.ttest_1samp(a - b, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(a - b, margin, alternative="less").pvalue
    tost = max(float(above), float(below))
    assert result.p_equivalence == pytest.approx(tost, abs=1e-8)
    narrow = stats.ttest_rel(a, b).confidence_interval(0.9)
    assume(abs(tost - 0.05) > 1e-6)
    assert result.equivalent == (-margin < narrow.low and narrow.high < margin)


@pytest.mark.parametrize("seeds", [3, 10])
def test_interval_covers_the_mean_of_normal_values_as_often_as_it_says(seeds: int) -> None:
    # 20,000 repetitions, fixed seed: the share has standard error sqrt(.95 * .05 / 20000) = .0015; four of them allowed
    values = np.random.default_rng(404).normal(3.0, 2.0, size=(20_000, seeds))
    intervals = [mean_interval(row) for row in values]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.0062)


def test_one_seed_has_an_infinite_interval_and_no_p() -> None:
    interval = mean_interval([0.8])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.8, -inf, inf, 1)
    result = paired([0.8], [0.7], margin=0.02)
    assert (result.low, result.high) == (-inf, inf)
    assert (result.p_difference, result.p_equivalence, result.p_wilcoxon) == (None, None, None)
    assert "Nothing can be concluded" in verdict("vqc", "linear", "accuracy", result)


@pytest.mark.parametrize("difference", [0.0, 0.1])
def test_equal_differences_prove_nothing_even_when_rounding_spreads_them(difference: float) -> None:
    twin = np.array([0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.3])
    result = paired(twin + difference, twin, margin=0.5)
    assert result.p_difference is None
    assert result.low == pytest.approx(difference) == result.high
    assert not result.differs
    assert not result.equivalent
    sentence = verdict("vqc", "linear", "accuracy", result)
    assert "nothing can be concluded" in sentence
    assert "on each of 7 seeds" in sentence


@given(pairs, st.floats(0.01, 0.5))
def test_swapping_the_arms_changes_the_sign_and_nothing_else(arms: tuple[list[float], list[float]], m: float) -> None:
    one, other = paired(arms[0], arms[1], m), paired(arms[1], arms[0], m)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert (one.p_difference, one.p_equivalence, one.p_wilcoxon) == pytest.approx(
        (other.p_difference, other.p_equivalence, other.p_wilcoxon)
    )


@given(pairs, st.integers(-5, 5))
def test_shifting_both_arms_changes_nothing(arms: tuple[list[float], list[float]], shift: int) -> None:
    here = paired(*arms, 0.1)
    there = paired(np.array(arms[0]) + shift, np.array(arms[1]) + shift, 0.1)
    assert (here.difference, here.low, here.high) == pytest.approx((there.difference, there.low, there.high), abs=1e-9)
    assert (here.p_difference, here.p_equivalence, here.p_wilcoxon) == pytest.approx(
        (there.p_difference, there.p_equivalence, there.p_wilcoxon), abs=1e-6
    )


@given(pairs, st.floats(0.001, 0.5), st.sampled_from(sorted(METRICS)), st.sampled_from([0.8, 0.95, 0.99]))
def test_verdict_never_claims_more_than_the_interval(
    arms: tuple[list[float], list[float]], margin: float, metric: str, confidence: float
) -> None:
    result = paired(*arms, margin, confidence)
    sentence = verdict("vqc", "twin", metric, result)
    if len(arms[0]) < 2 or result.low <= 0 <= result.high:
        assert " is better " not in sentence
        assert " is worse " not in sentence
    if result.p_equivalence is None or result.p_equivalence >= 1 - confidence:
        assert " are equivalent " not in sentence
        assert "smaller than the margin" not in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert "seed" in sentence


@pytest.mark.parametrize(
    ("metric", "arms", "margin", "expected"),
    [
        (
            "accuracy",
            around(-0.031, 0.004),
            0.02,
            "vqc is worse than mlp in accuracy: −3.1 points (95 % interval −4.0 to −2.2, 10 seeds).",
        ),
        (
            "accuracy",
            around(0.008, 0.002),
            0.02,
            "vqc is better than mlp in accuracy: +0.8 points (95 % interval +0.3 to +1.3, 10 seeds), "
            "a difference smaller than the margin of 2 points (TOST p < 0.001).",
        ),
        (
            "accuracy",
            around(-0.002, 0.002),
            0.02,
            "vqc and mlp are equivalent in accuracy within the margin of 2 points (TOST p < 0.001): "
            "−0.2 points (95 % interval −0.7 to +0.3, 10 seeds).",
        ),
        (
            "accuracy",
            around(-0.01, 0.01, n=5),
            0.02,
            "Undecided between vqc and mlp in accuracy: −1.0 points (95 % interval −3.8 to +1.8, 5 seeds), "
            "neither a difference nor equivalence within the margin of 2 points is shown; 5 seeds are few, so read it "
            "as a hint.",
        ),
        (
            "loss",
            around(-0.031, 0.004),
            0.02,
            "vqc is better than mlp in loss: −0.031 (95 % interval −0.04 to −0.022, 10 seeds).",
        ),
        (
            "ece",
            around(0.031, 0.004),
            0.02,
            "vqc is worse than mlp in expected calibration error: +3.1 points (95 % interval +2.2 to +4.0, 10 seeds).",
        ),
        (
            "auroc",
            around(0.031, 0.004),
            0.02,
            "vqc is better than mlp in AUROC: +0.031 (95 % interval +0.022 to +0.04, 10 seeds).",
        ),
        (
            "rmse",
            around(0.31, 0.04),
            0.2,
            "vqc is worse than mlp in RMSE: +0.31 (95 % interval +0.22 to +0.4, 10 seeds).",
        ),
        (
            "r2",
            around(0.002, 0.002),
            0.02,
            "vqc and mlp are equivalent in R² within the margin of 0.02 (TOST p < 0.001): +0.002 (95 % interval "
            "−0.0025 to +0.0065, 10 seeds).",
        ),
    ],
)
def test_verdict_wording(
    metric: str, arms: tuple[NDArray[np.float64], NDArray[np.float64]], margin: float, expected: str
) -> None:
    assert verdict("vqc", "mlp", metric, paired(*arms, margin)) == expected


def test_a_small_but_clear_difference_is_not_shown_as_zero() -> None:
    result = Paired(10, 0.0003, 0.0001, 0.0004, 0.01, 0.001, 0.01, margin=0.02, confidence=0.95)
    assert "+0.03 points (95 % interval +0.01 to +0.04, 10 seeds)" in verdict("vqc", "mlp", "accuracy", result)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired([0.1, 0.2], [0.1], 0.02), "same seeds; got 2 and 1"),
        (lambda: paired([0.1, np.nan], [0.1, 0.2], 0.02), r"not finite at positions \[1\]"),
        (lambda: paired([], [], 0.02), r"got shape \(0,\)"),
        (lambda: paired([0.1, 0.2], [0.1, 0.1], 0.0), "above zero; got 0.0"),
        (lambda: mean_interval([0.1, 0.2], confidence=95), "between 0.5 and 1"),
        (lambda: verdict("a", "b", "acuracy", paired([1.0, 2.0], [1.0, 1.0], 0.1)), "did you mean 'accuracy'"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call()
