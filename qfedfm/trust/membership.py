"""Membership inference: can one tell from a model which rows it was trained on?

Every row gets a score, and the AUC is the chance that a row which was trained on scores higher than one which was not:
1/2 is a coin, 1 certainty.

- loss: a row is a member if its loss is small (Yeom et al. 2018, doi:10.1109/CSF.2018.00027);
- likelihood ratio: shadow models, each trained on a random half of the rows, show what logit a row gets as a member and
  as another; the score is ln N(logit; in) - ln N(logit; out), with one variance for all rows as the paper advises for
  few shadows (Carlini et al. 2022, doi:10.1109/SP46214.2022.9833649, LiRA).

Target and shadows are clients of one cohort, trained in one call. A low AUC is no guarantee: averages hide single rows,
and other attacks may do better. Only noise with a stated (eps, delta) bounds all of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from ..errors import ConfigurationError
from ..federation import Training
from ..heads import Head
from ..heads.losses import row_losses
from ..heads.model import Model
from ..params import Params, stack
from ..privacy import DpSgd
from ..seeds import stream
from ..training import Lane, train_cohort

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Auc:
    """The area under a ROC curve with its 95 % interval [low, high], from `members` and `others` rows."""

    value: float
    low: float
    high: float
    members: int
    others: int


@dataclass(frozen=True)
class Membership:
    """What both attacks found on one model. train_accuracy, test_accuracy: of its members and of the other rows."""

    loss: Auc
    likelihood_ratio: Auc
    train_accuracy: float
    test_accuracy: float


def membership_audit(
    head: Head,
    table: Tensor,
    labels: Tensor,
    training: Training | None = None,
    *,
    shadows: int = 32,
    seed: int = 0,
) -> Membership:
    """Train a target and `shadows` models, each on a random half of the rows, and try to tell its members.

    table: (rows, n_features) and labels: (rows,) int64, from one population. training: as a client trains in one
    round, `privacy` at the level of rows included; None for the defaults. Raises `ConfigurationError` for fewer than 8
    rows or 4 shadows, and for privacy that is not of rows.
    """
    training = Training() if training is None else training
    if len(table) < 8 or shadows < 4:
        raise ConfigurationError(
            f"membership_audit needs at least 8 rows and 4 shadows; got {len(table)} rows and {shadows} shadows"
        )
    if labels.is_floating_point():
        raise ConfigurationError(
            "membership_audit reads the probability of a row's class; got labels that are numbers to be predicted"
        )
    if training.privacy is not None and not isinstance(training.privacy, DpSgd):
        raise ConfigurationError(
            f"membership_audit tells rows of one client apart, and {training.privacy} hides whole clients: use DpSgd"
        )
    classes = int(labels.max()) + 1
    model = head.bind(table.shape[1], classes)
    model = model.with_precision("float64" if table.dtype == torch.float64 else "float32")
    count, half = len(table), len(table) // 2
    member = np.zeros((shadows + 1, count), dtype=bool)
    lanes = []
    for i in range(shadows + 1):
        member[i, stream(seed, "member", i).choice(count, half, replace=False)] = True
        mine, order, noise = np.flatnonzero(member[i]), stream(seed, "order", i), stream(seed, "noise", i)
        lanes.append(Lane(mine, order, training.optimizer, noise))
    weights = [weight for lane in lanes if (weight := training.weights(labels[lane.rows], classes)) is not None]
    trained = train_cohort(
        model,
        stack([model.init(seed)] * (shadows + 1)),
        table,
        labels,
        lanes,
        batch_size=training.batch_size,
        epochs=training.epochs,
        steps=training.steps,
        privacy=training.privacy,
        class_weights=torch.stack(weights) if weights else None,
    )
    losses, right = _losses(model, trained.params, table, labels)
    logits = _logit(losses)
    ratio = likelihood_ratio(logits[0], logits[1:], member[1:])
    mine = member[0]
    return Membership(
        auc(-losses[0, mine], -losses[0, ~mine]),
        auc(ratio[mine], ratio[~mine]),
        float(right[0, mine].mean()),
        float(right[0, ~mine].mean()),
    )


def likelihood_ratio(target: Array, shadows: Array, member: NDArray[np.bool_]) -> Array:
    """Return the score of each row, (rows,): ln N(target; in) - ln N(target; out).

    target: (rows,) logits of the true class under the audited model. shadows: (S, rows), the same under each shadow.
    member: (S, rows), whether the shadow was trained on the row. Means are per row and kind, the two variances are of
    all rows together. Rows that all shadows or none have seen score 0.
    """
    seen, unseen = member.sum(0), (~member).sum(0)
    usable = (seen > 0) & (unseen > 0)
    score = np.zeros(len(target))
    inside, outside = (_per_row(shadows[:, usable], chosen[:, usable]) for chosen in (member, ~member))
    score[usable] = _log_normal(target[usable], *inside) - _log_normal(target[usable], *outside)
    return score


def auc(members: Array, others: Array) -> Auc:
    """Return P(member > other) + P(equal) / 2 with its interval by DeLong, DeLong and Clarke-Pearson (1988).

    members: (m,), others: (n,), scores. Variance: of the share of others below each member, over m, plus that of the
    share of members above each other, over n (doi:10.2307/2531595). Assumes independent rows.
    """
    m, n = len(members), len(others)
    if m < 2 or n < 2:
        raise ConfigurationError(f"auc needs at least two members and two others; got {m} and {n}")
    ranks = rankdata(np.concatenate([members, others]))
    below = (ranks[:m] - rankdata(members)) / n
    above = 1 - (ranks[m:] - rankdata(others)) / m
    value = float(below.mean())
    half = 1.959964 * float(np.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n))
    return Auc(value, max(0.0, value - half), min(1.0, value + half), m, n)


def _losses(model: Model, params: Params, table: Tensor, labels: Tensor) -> tuple[Array, NDArray[np.bool_]]:
    """Return the cross-entropy of every row under every model and whether it is right, both (models, rows)."""
    models = len(next(iter(params.values())))
    with torch.no_grad():
        outputs = model.apply(params, table.expand(models, *table.shape))
        losses = row_losses(outputs, labels.expand(models, -1))
    return losses.double().numpy(), (outputs.argmax(2) == labels).numpy()


def _logit(losses: Array) -> Array:
    """Return ln p / (1 - p) of the true class, from its cross-entropy -ln p."""
    return np.asarray(-losses - np.log(np.maximum(-np.expm1(-losses), 1e-300)))


def _per_row(shadows: Array, chosen: NDArray[np.bool_]) -> tuple[Array, float]:
    """Return the mean (rows,) of the chosen entries and their variance around it, over all rows."""
    counts = chosen.sum(0)
    mean = np.where(chosen, shadows, 0.0).sum(0) / counts
    spread = float(np.where(chosen, np.square(shadows - mean), 0.0).sum() / max(1, int((counts - 1).sum())))
    return mean, max(spread, 1e-30)


def _log_normal(x: Array, mean: Array, variance: float) -> Array:
    return np.asarray(-np.square(x - mean) / (2 * variance) - 0.5 * np.log(variance))
