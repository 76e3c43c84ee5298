"""The effective dimension: how many directions of its parameters a model's predictions really depend on.

Abbas et al. (2021, doi:10.1038/s43588-021-00084-1), for the Fisher information of the predicted class probabilities:

    d_eff = 2 log( mean over parameters of sqrt det(1 + kappa F) ) / log kappa,    kappa = gamma n / (2 pi log n),

F normalised to mean trace d, the number of parameters. It needs no quantum part: a head and its classical twin are
measured alike. Only the eigenvalues of F enter, and they are those of the smaller of J^T J and J J^T.
"""

from dataclasses import dataclass
from math import log, pi, sqrt
from typing import TYPE_CHECKING

import torch
from scipy.special import stdtrit
from torch import Tensor

from ..errors import ConfigurationError
from ..heads.model import Model
from ..notebook import table
from ..params import Params, stack
from ..seeds import stream
from .examined import at_least_two
from .showing import number, with_ends
from .statistics import Interval

if TYPE_CHECKING:
    import pandas as pd

ENTRIES = 2**23
"""Gradient entries that are held at once."""


@dataclass(frozen=True)
class EffectiveDimension:
    """dimension: d_eff with the interval of its sampling over parameters. parameters: d. rows: n of the formula.

    rank: the most that the estimate of F can see, the rows it was averaged over times the classes less one.
    """

    dimension: Interval
    parameters: int
    rows: int
    rank: int

    @property
    def share(self) -> float:
        """d_eff / d, the normalised effective dimension."""
        return self.dimension.mean / self.parameters

    @property
    def verdict(self) -> str:
        """One sentence."""
        limit = f"; at most {self.rank} can be seen" if self.rank < self.parameters else ""
        return (
            f"effective dimension {with_ends(self.dimension)} of {self.parameters} parameters at {self.rows:,} rows of "
            f"data{limit}."
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return one row: dimension, low, high, parameters, share, rows."""
        import pandas as pd

        d = self.dimension
        return pd.DataFrame(
            {
                "dimension": [d.mean],
                "low": d.low,
                "high": d.high,
                "parameters": self.parameters,
                "share": self.share,
                "rows": self.rows,
            }
        )

    def _repr_html_(self) -> str:
        rows = {"effective dimension": with_ends(self.dimension), "share": number(self.share), "verdict": self.verdict}
        return table("Effective dimension", rows)


def effective_dimension(
    model: Model, features: Tensor, rows: int | None = None, gamma: float = 1.0, samples: int = 50, seed: int = 0
) -> EffectiveDimension:
    """Return the effective dimension of `model` over all its trainable parameters, drawn as it draws its first ones.

    features: (R, F); the Fisher information is averaged over them, exactly over the predicted classes. rows: n, the
    size of the data set in question; None takes R. samples: random sets of parameters. Raises `ConfigurationError`
    where kappa is not above 1 (n below 19 at gamma = 1), since the formula then has no meaning.
    """
    at_least_two("samples", samples)
    exact = model.with_precision("float64")
    params = stack([exact.init(int(s)) for s in stream(seed, "capacity").integers(2**31, size=samples)])
    count = len(features) if rows is None else rows
    spectra = fisher_spectra(exact, params, features.double())
    parameters = sum(spec.size for spec in model.specs if spec.trainable)
    outputs = exact.apply({name: tensor[:1] for name, tensor in params.items()}, features[None, :1].double()).shape[-1]
    found = dimension_of(spectra, parameters, count, gamma)
    return EffectiveDimension(found, parameters, count, len(features) * (outputs - 1))


def fisher_spectra(model: Model, params: Params, features: Tensor) -> Tensor:
    """Return the eigenvalues, but for zeros, of F = mean over rows of E_c[g g^T], g = d log p(c | row), (samples, m).

    params: {name: (samples, *shape)}; p is the softmax of the model's outputs. features: (rows, F). With outputs f and
    their gradients J, sqrt(p_c) g_c = sqrt(p_c) (J_c - sum_b p_b J_b).
    """
    names = [spec.name for spec in model.specs if spec.trainable]
    size, samples, rows = sum(params[name][0].numel() for name in names), len(params[names[0]]), len(features)
    first = {name: tensor[:1] for name, tensor in params.items()}
    with torch.no_grad():
        outputs = model.apply(first, features[None, :1]).shape[-1]
    per_set, spectra = rows * outputs, []
    some = max(1, ENTRIES // (per_set * size))
    data = features.repeat_interleave(outputs, 0).unsqueeze(1)  # a client for each row and output
    pick = torch.eye(outputs, dtype=features.dtype).repeat(rows, 1)
    for start in range(0, samples, some):
        own = {name: tensor[start : start + some] for name, tensor in params.items()}
        here = len(own[names[0]])
        copies = {name: tensor.detach().repeat_interleave(per_set, 0) for name, tensor in own.items()}
        leaves = {name: copies[name].requires_grad_() for name in names}
        f = model.apply(copies | leaves, data.repeat(here, 1, 1))[:, 0]
        found = torch.autograd.grad((f * pick.repeat(here, 1)).sum(), list(leaves.values()), allow_unused=True)
        flat = [
            (torch.zeros_like(leaf) if part is None else part).flatten(1)
            for part, leaf in zip(found, leaves.values(), strict=True)
        ]
        jacobian = torch.cat(flat, 1).reshape(here, rows, outputs, size)
        p = f.detach().reshape(here, rows, outputs, outputs)[:, :, 0].softmax(-1).unsqueeze(-1)
        scores = (p.sqrt() * (jacobian - (p * jacobian).sum(2, keepdim=True))).flatten(1, 2) / sqrt(rows)
        gram = scores.mT @ scores if size < per_set else scores @ scores.mT
        spectra.append(torch.linalg.eigvalsh(gram).clamp_min(0))
    return torch.cat(spectra)


def dimension_of(spectra: Tensor, parameters: int, rows: int, gamma: float = 1.0) -> Interval:
    """Return d_eff of Fisher matrices with these eigenvalues (samples, m), and its jackknife 95 % interval.

    The jackknife leaves out one set of parameters at a time, in the mean and in the normalisation of the trace.
    """
    if not 0 < gamma <= 1:
        raise ConfigurationError(f"gamma: expected a number above 0 and at most 1; got {gamma}")
    kappa = gamma * rows / (2 * pi * log(rows)) if rows > 1 else 0.0
    if kappa <= 1:
        raise ConfigurationError(
            f"the effective dimension needs gamma n > 2 pi log n; got gamma = {gamma} and n = {rows}: state the size "
            "of the data set by rows=, of some hundreds or more"
        )
    samples, trace = len(spectra), spectra.sum(1).double()
    if float(trace.sum()) == 0:
        return Interval(0.0, 0.0, 0.0, samples)

    def found(trace_mean: Tensor, kept: Tensor) -> Tensor:
        scale = kappa * parameters / trace_mean  # (variants,)
        half = torch.log1p(scale[:, None, None] * spectra.double()).sum(2) / 2  # (variants, samples)
        return 2 * (torch.logsumexp(half + kept.log(), 1) - kept.sum(1).log()) / log(kappa)

    everyone = torch.ones(1, samples, dtype=torch.float64)
    value = float(found(trace.mean(0, keepdim=True), everyone))
    without = 1 - torch.eye(samples, dtype=torch.float64)
    others = torch.cat([found((kept @ trace / kept.sum()).reshape(1), kept[None]) for kept in without])
    half = float(stdtrit(samples - 1, 0.975)) * sqrt((samples - 1) * float(others.var(correction=0)))
    return Interval(value, value - half, value + half, samples)
