"""What a set of seeds allows one to say about a head and its twin.

The seed is the unit of replication: two arms that ran on the same seeds and splits are compared through their
difference on each seed. `paired` asks two questions at once, since a missing difference is not a shown equality:

- Is there a difference? Student's paired t test (Student 1908, doi:10.1093/biomet/6.1.1) and its interval.
- Is it too small to matter? Two one-sided tests against a margin stated beforehand, TOST (Schuirmann 1987,
  doi:10.1007/BF01068419): equivalent at level alpha when both reject, which is when the 1 - 2 alpha interval lies
  inside (-margin, margin).

Wilcoxon's signed ranks stand beside them as a check that needs no normal distribution. `verdict` puts the outcome into
one sentence; reports and plots take their words and intervals from here and never compute their own.
"""

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from ..errors import ConfigurationError, nearest
from .metrics import METRICS, Metric

FEW_SEEDS = 6  # below it no two-sided Wilcoxon p can reach .05: the smallest is 2 / 2**n
DIGITS = 12  # differences that agree to so many digits of the largest value are ties, apart by rounding only


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds with the confidence interval [low, high], all in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Paired:
    """A paired comparison over `n` seeds, in the unit of the compared values.

    difference: mean of a - b. low, high: its t interval at `confidence`; infinite for one seed. p_difference: two-sided
    paired t test. p_equivalence: TOST for |difference| < margin. p_wilcoxon: two-sided signed ranks, from six seeds.
    A p is None where the seeds do not yield one: a single seed, or no spread between them.
    """

    n: int
    difference: float
    low: float
    high: float
    p_difference: float | None
    p_equivalence: float | None
    p_wilcoxon: float | None
    margin: float
    confidence: float

    @property
    def differs(self) -> bool:
        """Return whether the interval excludes zero."""
        return self.p_difference is not None and not self.low <= 0 <= self.high

    @property
    def equivalent(self) -> bool:
        """Return whether both one-sided tests reject at alpha = 1 - confidence."""
        return self.p_equivalence is not None and self.p_equivalence < 1 - self.confidence


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return mean and t interval, mean +- t(n - 1) s / sqrt(n), of `values` (seeds,).

    One seed says nothing about the spread, so its interval is infinite. Assumes means that are close to normal.
    Raises ConfigurationError for no values, values that are not finite, and a confidence outside (1/2, 1).
    """
    sample = _sample("values", values)
    if not 0.5 < confidence < 1:
        raise ConfigurationError(f"confidence is a probability between 0.5 and 1, such as 0.95; got {confidence}")
    mean, error = float(sample.mean()), _standard_error(sample)
    if sample.size == 1:
        return Interval(mean, -inf, inf, 1)
    half = float(stdtrit(sample.size - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half, sample.size)


def paired(a: ArrayLike, b: ArrayLike, margin: float, confidence: float = 0.95) -> Paired:
    """Return what the differences a - b, seed by seed, say about two arms.

    a, b: (seeds,), the same metric of both arms on the same seeds in the same order. margin: the largest difference
    that would not matter, in the unit of the metric (0.02 for two points of accuracy), to be fixed before the runs.

    With d the mean difference and e its standard error, t = d / e, and TOST's p is the larger of
    P(T > (d + margin) / e) and P(T < (d - margin) / e). Wilcoxon's p is exact, given the ties that are there; zeros are
    left out, as Wilcoxon did (1945, doi:10.2307/3001968). Where every seed shows the same difference the formulas would
    claim certainty from an unknown spread: the interval shrinks to that difference and every p is None.

    Raises ConfigurationError for unequal lengths, values that are not finite, and a margin that is not above zero.
    """
    first, second = _sample("a", a), _sample("b", b)
    if first.size != second.size:
        raise ConfigurationError(
            f"a paired comparison needs both arms on the same seeds; got {first.size} and {second.size} values"
        )
    if not 0 < margin < inf:
        raise ConfigurationError(f"margin is the largest difference that would not matter, above zero; got {margin}")
    difference = _differences(first, second)
    mean = mean_interval(difference, confidence)
    if np.ptp(difference) == 0:  # one seed, or the same difference on all of them
        return Paired(mean.n, mean.mean, mean.low, mean.high, None, None, None, margin, confidence)
    error, freedom = _standard_error(difference), mean.n - 1
    p_difference = 2 * float(stdtr(freedom, -abs(mean.mean) / error))
    p_equivalence = float(stdtr(freedom, (abs(mean.mean) - margin) / error))
    p_wilcoxon = _wilcoxon(difference) if mean.n >= FEW_SEEDS else None
    return Paired(mean.n, mean.mean, mean.low, mean.high, p_difference, p_equivalence, p_wilcoxon, margin, confidence)


def verdict(subject: str, twin: str, metric: str, result: Paired) -> str:
    """Return one sentence on `subject` against its `twin` that claims no more than `result` allows.

    subject, twin: what the arms are called. metric: a key of METRICS. result: paired(subject's values, twin's, ...).
    It says better or worse when the interval excludes zero, equivalent when TOST rejects, both when both hold, and
    undecided otherwise; of one seed, or of seeds without any spread, it reports what was seen and concludes nothing.
    """
    if metric not in METRICS:
        raise ConfigurationError(
            f"metric '{metric}' is not known{nearest(metric, METRICS)}; known are {', '.join(METRICS)}: add it to "
            "qfedfm.evidence.METRICS, which says what better means"
        )
    kind = METRICS[metric]
    name = kind.label
    scale, unit = (100, " points") if kind.percent else (1, "")
    difference, low, high = (_signed(scale * value, kind) for value in (result.difference, result.low, result.high))
    if result.n < 2:
        return f"Nothing can be concluded on {subject} against {twin} in {name} from one seed ({difference}{unit})."
    if result.p_difference is None or result.p_equivalence is None:
        return (
            f"{subject} against {twin} in {name} shows the same difference, {difference}{unit}, on each of "
            f"{result.n} seeds, so that the spread between seeds is unknown and nothing can be concluded beyond them."
        )
    interval = f"{difference}{unit} ({100 * result.confidence:g} % interval {low} to {high}, {result.n} seeds)"
    margin = f"the margin of {scale * result.margin:g}{unit}"
    tost = f"TOST {_p_text(result.p_equivalence)}"
    hint = f"; {result.n} seeds are few, so read it as a hint" if result.n < FEW_SEEDS else ""
    if result.differs:
        better = (result.difference > 0) == kind.higher_is_better
        small = f", a difference smaller than {margin} ({tost})" if result.equivalent else ""
        return f"{subject} is {'better' if better else 'worse'} than {twin} in {name}: {interval}{small}{hint}."
    if result.equivalent:
        return f"{subject} and {twin} are equivalent in {name} within {margin} ({tost}): {interval}{hint}."
    return (
        f"Undecided between {subject} and {twin} in {name}: {interval}, neither a difference nor equivalence within "
        f"{margin} is shown{hint}."
    )


def _sample(name: str, values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ConfigurationError(f"{name} holds one value for each seed, shape (seeds,); got shape {sample.shape}")
    if not np.isfinite(sample).all():
        seeds = np.flatnonzero(~np.isfinite(sample)).tolist()
        raise ConfigurationError(
            f"{name} is not finite at positions {seeds}: a failed run has to be repeated, not averaged"
        )
    return sample


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a - b with rounding removed, so that equal differences are equal floats: (.8 - .7) ties with (.7 - .6)."""
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    return np.round((a - b) / scale, DIGITS) * scale if scale > 0 else a - b


def _standard_error(sample: NDArray[np.float64]) -> float:
    return float(sample.std(ddof=1)) / sqrt(sample.size) if sample.size > 1 else inf


def _wilcoxon(difference: NDArray[np.float64]) -> float:
    """Return the two-sided p of the signed ranks: the share of sign patterns whose rank sum is as far out as this one.

    Ties share their mean rank, so ranks are doubled to stay whole; a rank is in the positive sum or not, each with
    probability 1/2, and the distribution of the sum is the convolution over ranks.
    """
    moved = difference[difference != 0]
    _, place, ties = np.unique(np.abs(moved), return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(ties) - ties + 1)[place]
    probability = np.ones(1)
    for rank in ranks:
        probability = (np.pad(probability, (0, rank)) + np.pad(probability, (rank, 0))) / 2
    smaller = min(ranks[moved > 0].sum(), ranks[moved < 0].sum())
    return min(1.0, 2 * float(probability[: smaller + 1].sum()))


def _signed(number: float, kind: Metric) -> str:
    """Return a difference as text that never rounds to zero: one decimal in points ("−1.2"), else two digits."""
    text = f"{number:+.1f}" if kind.percent and abs(number) >= 0.05 else f"{number:+.2g}"
    return text.replace("-", "−")


def _p_text(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
