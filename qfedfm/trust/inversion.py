"""Inversion audit: how much of a client's rows can be read off the update that it sends.

The attacker is the server, or whoever opens its envelopes: it knows model, labels and learning rate, sees the update
g* = (params - trained) / lr of some full-batch gradient steps, and looks for rows whose own update is g*:

- least squares: min |g(x) - g*|^2 by Levenberg-Marquardt from many starts at once;
- gradient matching: min 1 - cos(g(x), g*) by Adam from the same starts (Zhu et al. 2019, arXiv:1906.08935, with the
  cosine of Geiping et al. 2020, arXiv:2003.14053).

One start is what a linear first layer gives away: its gradients are a row times its bias's gradients, so that a single
row is their ratio (Phong et al. 2018, doi:10.1109/TIFS.2017.2787987). All starts are clients of one cohort, the
Jacobian comes from central differences, and so any head is attacked by the same code, in float64.

A circuit protects nothing by being one. What hides rows is noise of a stated (eps, delta), or a sum that is formed in
secret; a low score shows that these attacks failed, not that none can succeed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import ConfigurationError
from ..federation.clients import travelling
from ..heads import Head
from ..heads.model import Model
from ..params import Params, Part
from ..seeds import stream

if TYPE_CHECKING:
    import pandas as pd

STEP = 1e-5  # of central differences: its square and the rounding of float64 over it are both near 1e-10
EXACT = 1e-12  # relative misfit at which a start has arrived
CHUNK = 4096  # updates computed at a time


@dataclass(frozen=True)
class Inversion:
    """What an audit found, one entry a trial.

    errors: {attack: (trials,)}, largest deviation of any feature of any row, rows in their best order, in the unit of
    the features (which lie in [-1, 1]). misfits: {attack: (trials,)}, |g(x) - g*|, which the attacker sees too.
    tolerance: deviation up to which rows count as recovered.
    """

    errors: dict[str, NDArray[np.float64]]
    misfits: dict[str, NDArray[np.float64]]
    tolerance: float

    @property
    def best(self) -> NDArray[np.float64]:
        """The errors (trials,) of the attack that the attacker would trust: the one with the smaller misfit."""
        names = list(self.errors)
        chosen = np.argmin([self.misfits[name] for name in names], axis=0)
        return np.array([self.errors[names[attack]][trial] for trial, attack in enumerate(chosen)])

    @property
    def recovered(self) -> int:
        """The number of trials whose rows were recovered."""
        return int((self.best <= self.tolerance).sum())

    @property
    def score(self) -> float:
        """The share of trials whose rows were recovered: 0 is good, 1 is an open book."""
        return self.recovered / len(self.best)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per attack, and "best": recovered, trials, score, its 95 % Wilson interval, median error."""
        import pandas as pd

        rows = []
        for name, errors in [*self.errors.items(), ("best", self.best)]:
            found, trials = int((errors <= self.tolerance).sum()), len(errors)
            low, high = _wilson(found, trials)
            rows.append((name, found, trials, found / trials, low, high, float(np.median(errors))))
        columns = ["attack", "recovered", "trials", "score", "95 % low", "95 % high", "median error"]
        return pd.DataFrame(rows, columns=columns)


def inversion_audit(
    head: Head,
    *,
    n_features: int = 3,
    n_outputs: int = 2,
    rows: int = 1,
    trials: int = 15,
    uploads: int = 1,
    steps: int = 1,
    noise: float = 0.0,
    parts: tuple[Part, ...] | None = None,
    starts: int = 16,
    lr: float = 0.1,
    tolerance: float = 0.05,
    seed: int = 0,
) -> Inversion:
    """Attack `trials` clients of a head, each with parameters and rows of its own, and return what was recovered.

    rows: that one client holds, features uniform in [-1, 1]. uploads: updates from the same rows that the attacker has
    seen, each at other parameters (as over the rounds of a federation). steps: full-batch gradient steps at rate `lr`
    behind an update. noise: standard deviation added to every entry of g*; gradients by the parameter-shift rule from S
    shots have at most 1 / sqrt(2 S) of it in each derivative of an expectation value. parts: of the model that are
    seen, None for all that travels. starts: of each search. A search costs some 100 Jacobians, each of 2 rows
    n_features updates a start.
    """
    if min(n_features, n_outputs, rows, trials, uploads, steps, starts) < 1 or noise < 0 or lr <= 0:
        raise ConfigurationError("inversion_audit: expected positive sizes and rate, and noise of at least 0")
    model = head.bind(n_features, n_outputs).with_precision("float64")
    seen = [spec.name for spec in travelling(model.specs) if parts is None or spec.part in parts]
    if not seen:
        raise ConfigurationError(f"inversion_audit: nothing of this head travels in the parts {parts}")
    errors: dict[str, list[float]] = {"least squares": [], "gradient matching": []}
    misfits: dict[str, list[float]] = {name: [] for name in errors}
    for trial in range(trials):
        draw = stream(seed, "inversion", trial)
        truth = torch.from_numpy(draw.uniform(-1, 1, (rows, n_features)))
        labels = torch.from_numpy(draw.integers(n_outputs, size=rows))
        models = [model.init(int(draw.integers(2**31))) for _ in range(uploads)]
        updates = _Updates(model, models, labels, seen, (rows, n_features), steps, lr)
        target = updates(truth.reshape(1, -1))[0]
        target = target + noise * torch.from_numpy(draw.standard_normal(len(target)))
        guesses = torch.from_numpy(draw.uniform(-1, 1, (starts, rows * n_features)))
        guesses[0] = updates.leak(target)
        for name, search in (("least squares", least_squares), ("gradient matching", gradient_matching)):
            found = search(updates, target, guesses)
            misfit = (updates(found) - target).norm(dim=1)
            best = int(misfit.nan_to_num(torch.inf).argmin())
            misfits[name].append(float(misfit[best]))
            errors[name].append(_deviation(found[best].view(rows, n_features), truth))
    return Inversion(
        {name: np.array(some) for name, some in errors.items()},
        {name: np.array(some) for name, some in misfits.items()},
        tolerance,
    )


@dataclass(frozen=True)
class _Updates:
    """The map from rows to the update that they cause, for many guesses at once.

    models: parameters {name: (*shape)} that each upload started from. seen: names of the parameters in an update.
    shape: (rows, n_features).
    """

    model: Model
    models: list[Params]
    labels: Tensor
    seen: list[str]
    shape: tuple[int, int]
    steps: int
    lr: float

    def __call__(self, points: Tensor) -> Tensor:
        """Return the updates (S, uploads d) of rows (S, rows n_features)."""
        return torch.cat([self._of(part) for part in torch.split(points, CHUNK)])

    def _of(self, points: Tensor) -> Tensor:
        features = points.view(-1, *self.shape)
        return torch.cat([self._upload(start, features) for start in self.models], dim=1)

    def _upload(self, start: Params, features: Tensor) -> Tensor:
        guesses = len(features)
        params = {name: t.expand(guesses, *t.shape) for name, t in start.items()}
        learnt = [spec.name for spec in self.model.specs if spec.trainable]
        labels = self.labels.repeat(guesses)
        for _ in range(self.steps):
            leaves = {name: params[name].detach().requires_grad_() for name in learnt}
            outputs = self.model.apply(params | leaves, features)
            loss = cross_entropy(outputs.flatten(0, 1), labels, reduction="sum") / self.shape[0]
            grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            moved = {name: leaves[name].detach() - self.lr * g for name, g in zip(learnt, grads, strict=True)}
            params = params | moved
        return torch.cat([((start[name] - params[name]) / self.lr).view(guesses, -1) for name in self.seen], dim=1)

    def leak(self, target: Tensor) -> Tensor:
        """Return the rows (rows n_features,) that a first linear layer gives away if there is one; zeros otherwise."""
        rows, n_features = self.shape
        sizes = [self.models[0][name].numel() for name in self.seen]
        entries = torch.split(target[: sum(sizes)], sizes)
        first = {n: t.view(self.models[0][n].shape) for n, t in zip(self.seen, entries, strict=True)}
        for name, weight in first.items():
            bias = first.get(f"{name.removesuffix('.weight')}.bias")
            if name.endswith(".weight") and weight.shape[-1] == n_features and bias is not None:
                strongest = int(bias.abs().argmax())
                return (weight[strongest] / bias[strongest]).nan_to_num(0, 0, 0).clamp(-1, 1).repeat(rows)
        return torch.zeros(rows * n_features, dtype=target.dtype)


def jacobian(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Return d function / d point, (S, d, n), by central differences at points (S, n); function: (m, n) -> (m, d)."""
    count, n = points.shape
    shift = STEP * torch.eye(n, dtype=points.dtype).repeat_interleave(count, 0)
    ahead, behind = function(torch.cat([points.repeat(n, 1) + shift, points.repeat(n, 1) - shift])).chunk(2)
    return ((ahead - behind) / (2 * STEP)).view(n, count, -1).permute(1, 2, 0)


def least_squares(function: Callable[[Tensor], Tensor], target: Tensor, points: Tensor, iterations: int = 60) -> Tensor:
    """Return points (S, n) after Levenberg-Marquardt on |function(x) - target|^2, every start on its own.

    (J^T J + mu diag(J^T J)) step = -J^T r (Marquardt 1963, doi:10.1137/0111030); mu falls by 3 after a step that helps
    and grows by 4 after one that does not. All stop as soon as one has arrived.
    """
    damping = torch.full((len(points),), 1e-2, dtype=points.dtype)
    residual = function(points) - target
    for _ in range(iterations):
        if residual.norm(dim=1).min() < EXACT * target.norm():
            break
        slopes = jacobian(function, points)
        normal, gradient = slopes.mT @ slopes, slopes.mT @ residual.unsqueeze(2)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        weight = damping.unsqueeze(1) * diagonal + 1e-15 * diagonal.amax(1, keepdim=True) + 1e-30
        step = torch.linalg.solve(normal + torch.diag_embed(weight), gradient).squeeze(2)
        trial = points - step
        other = function(trial) - target
        better = other.square().sum(1) < residual.square().sum(1)
        points, residual = (torch.where(better.unsqueeze(1), a, b) for a, b in ((trial, points), (other, residual)))
        damping = torch.where(better, damping / 3, damping * 4).clamp(1e-12, 1e12)
    return points


def gradient_matching(
    function: Callable[[Tensor], Tensor], target: Tensor, points: Tensor, iterations: int = 100, lr: float = 0.1
) -> Tensor:
    """Return points (S, n) after Adam on 1 - cos(function(x), target), the rate falling to zero along a cosine."""
    points = points.clone()
    optimizer = torch.optim.Adam([points], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        values, slopes = function(points), jacobian(function, points)
        size = values.norm(dim=1, keepdim=True).clamp(min=1e-30)
        towards = target / target.norm().clamp(min=1e-30)
        along = values / size
        outer = ((along * towards).sum(1, keepdim=True) * along - towards) / size  # d (1 - cos) / d values
        points.grad = (slopes.mT @ outer.unsqueeze(2)).squeeze(2)
        optimizer.step()
        schedule.step()
    return points


def _wilson(found: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z, share = 1.959964, found / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return middle - half, middle + half


def _deviation(found: Tensor, truth: Tensor) -> float:
    """Return the largest deviation of any feature, rows (R, F) matched so that its sum is least."""
    apart = (found.unsqueeze(1) - truth.unsqueeze(0)).abs().amax(2).nan_to_num(torch.inf).clamp(max=1e9).numpy()
    return float(apart[linear_sum_assignment(apart)].max())
