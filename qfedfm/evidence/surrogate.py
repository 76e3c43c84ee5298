"""A classical surrogate of a head: its Fourier series, fitted to what the head answers.

A head's circuit is a finite Fourier series of its angles (see `fourier`), so a classical series with the same
frequencies can take its place once it is fitted (Schreiber, Eisert and Meyer 2023,
doi:10.1103/PhysRevLett.131.100803; Landman et al. 2022, arXiv:2210.13200). Both papers write the frequencies out, or
draw some. Here the fit is a kernel ridge regression whose kernel holds all of them, each weighed by the ways in which
it arises: no list is cut, and the classical cost is that of comparing a row with the fitted ones. Where it works the
head is called dequantised: whatever it does on such data, a classical regression does. The criterion is stated with
every verdict; a surrogate that fails proves nothing, for others may succeed.
"""

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri
from torch import Tensor

from ..errors import ConfigurationError
from ..heads.variational import CORE, Variational
from ..notebook import table
from ..params import Params, misfit
from ..seeds import stream
from .examined import Data, encode, features_of, variational
from .fourier import Spectrum, fourier_kernel, spectrum
from .showing import number, with_ends
from .statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FITTED = 2 / 3
"""Share of the rows that the surrogate is fitted to, at most; it is judged on the others."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A Fourier series fitted to a head, and how well it does on rows that it was not fitted to.

    error: squared error of the surrogate's scores over the variance of the head's (1 - R^2); scores are logits minus
    their mean over classes, since softmax sees no more. agreement: share of rows that both put into the same class.
    Both with 95 % intervals over held-out rows. spectrum: the frequencies of the series. The surrogate's scores at
    angles x are offset + sum_i K(x, points_i) dual_i, points (fitted rows, n_inputs) in radians, dual (fitted rows,
    outputs). head_scores, scores: (held-out rows, outputs).
    """

    head: Variational
    params: Params
    error: Interval
    agreement: Interval
    spectrum: Spectrum
    points: Tensor
    dual: Tensor
    offset: Tensor
    head_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    tolerance: float

    @property
    def dequantised(self) -> bool:
        """Whether error is at most `tolerance` and agreement at least 1 - `tolerance`, by the worse ends of both."""
        return self.error.high <= self.tolerance and self.agreement.low >= 1 - self.tolerance

    @property
    def verdict(self) -> str:
        """One sentence, with the criterion."""
        criterion = (
            f"criterion: with 95 % confidence relative squared error at most {self.tolerance:g} and the same class on "
            f"at least {100 * (1 - self.tolerance):g} % of rows"
        )
        found = (
            f"a classical Fourier series, fitted to {len(self.points):,} answers of the head, reproduces it on "
            f"{self.error.n:,} other rows with relative squared error {with_ends(self.error)} and the same class on "
            f"{100 * self.agreement.mean:.1f} % ({100 * self.agreement.low:.1f} to {100 * self.agreement.high:.1f} %)"
        )
        if self.dequantised:
            return f"Dequantised: {found}; {criterion}."
        if self.error.low > self.tolerance or self.agreement.high < 1 - self.tolerance:
            return f"Not dequantised by this surrogate, which does not mean that none could: {found}; {criterion}."
        return f"Undecided, more rows are needed: {found}; {criterion}."

    def predict(self, features: ArrayLike | Tensor) -> Tensor:
        """Return the surrogate's scores (rows, outputs) of features (rows, F): no circuit is run."""
        table = features_of(features, 0, 0)[0]
        if reason := misfit(
            self.params, self.head.bind(table.shape[1], self.offset.shape[0]).with_precision("float64").specs
        ):
            raise ConfigurationError(f"the surrogate's head does not read {table.shape[1]} features: {reason}")
        angles = encode(self.head, self.params, table)
        weights = _own(self.head, self.params)
        return self.offset + fourier_kernel(self.head.resolve(), weights, angles, self.points) @ self.dual

    def coefficients(self) -> Tensor:
        """Return the Fourier coefficients of the scores at `spectrum.frequencies`, complex128 (m, outputs).

        c_w = ways_w sum_i dual_i exp(-i w points_i), and the offset is part of c_0; c_-w is the conjugate of c_w. They
        are the head's own only as far as the rows determine them: angles within part of a period leave much open.
        """
        turned = torch.from_numpy(self.spectrum.frequencies) @ self.points.T
        ways = torch.from_numpy(self.spectrum.ways).unsqueeze(1)
        found = ways * (torch.polar(torch.ones_like(turned), -turned) @ self.dual.to(torch.complex128))
        found[0] += self.offset
        return found

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per frequency: frequency (a tuple), ways, amplitude (root of the power over all outputs)."""
        import pandas as pd

        frequency = [tuple(row) for row in self.spectrum.frequencies.tolist()]
        amplitude = self.coefficients().abs().square().sum(1).sqrt().numpy()
        return pd.DataFrame({"frequency": frequency, "ways": self.spectrum.ways, "amplitude": amplitude})

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the surrogate's scores against the head's on held-out rows; return the axes."""
        from .pictures import plot_surrogate

        return plot_surrogate(self, ax)

    def _repr_html_(self) -> str:
        more = "" if self.spectrum.complete else "more than "
        rows = {
            "relative squared error": with_ends(self.error),
            "same class": with_ends(self.agreement),
            "frequencies, up to sign": f"{more}{len(self.spectrum.frequencies):,}",
            "no frequency above": ", ".join(number(limit) for limit in self.spectrum.bound),
            "verdict": self.verdict,
        }
        return table("Fourier surrogate", rows)


def fourier_surrogate(
    head: Variational,
    data: Data = None,
    params: Params | None = None,
    queries: int = 1024,
    tolerance: float = 0.01,
    seed: int = 0,
) -> Surrogate:
    """Return the Fourier surrogate of a head at `params`, fitted to some of the rows and judged on the others.

    data: features (rows, F), or a data set of numbers or its source; None for 1,536 rows of standard normal features,
    as many as the circuit has inputs. params: a trained head's, such as `result.params`; None for those it begins with
    under `seed` and two outputs, or as many as the data set has classes. queries: rows to fit, at most two thirds of
    all; some 370 rows or more should be left to judge by, for the criterion asks for 99 % agreement with confidence.
    tolerance: of the criterion, see `Surrogate.dequantised`. Raises `CircuitError` for angles that are not linear in
    the inputs, `ConfigurationError` for parameters that are not the head's and too few rows.
    """
    circuit = variational(head).resolve()
    features, known = features_of(data, circuit.program.n_inputs, seed)
    fitted = min(queries, int(FITTED * len(features)))
    if not 0 < tolerance < 1 or fitted < 8:
        raise ConfigurationError(
            f"expected a tolerance between 0 and 1, and 8 queries or more with half as many other rows; got tolerance "
            f"{tolerance}, queries {queries} and {len(features)} rows"
        )
    classes = len(params["readout.weight"]) if params and "readout.weight" in params else known or 2
    model = head.bind(features.shape[1], classes).with_precision("float64")
    own = {name: value.detach().double() for name, value in (model.init(seed) if params is None else params).items()}
    if reason := misfit(own, model.specs):
        raise ConfigurationError(f"params are not those of this head on {features.shape[1]} features: {reason}")
    features = features[torch.from_numpy(stream(seed, "surrogate").permutation(len(features)))]
    logits = model.apply({name: tensor.unsqueeze(0) for name, tensor in own.items()}, features.unsqueeze(0))[0]
    truth, angles = logits - logits.mean(1, keepdim=True), encode(head, own, features)
    points, offset = angles[:fitted], truth[:fitted].mean(0)
    kernel = fourier_kernel(circuit, _own(head, own), angles, points)
    dual = _ridge(kernel[:fitted], truth[:fitted] - offset)
    scores, wanted = offset + kernel[fitted:] @ dual, truth[fitted:]
    return Surrogate(
        head,
        own,
        _relative_error(scores, wanted),
        _share(int((scores.argmax(1) == wanted.argmax(1)).sum()), len(wanted)),
        spectrum(circuit, _own(head, own)),
        points,
        dual,
        offset,
        wanted.numpy(),
        scores.numpy(),
        tolerance,
    )


def _own(head: Variational, params: Params) -> Params:
    """Return the weights of the head's circuit, by their names there."""
    return {spec.name: params[CORE + spec.name] for spec in head.resolve().program.weights}


def _ridge(kernel: Tensor, wanted: Tensor) -> Tensor:
    """Return (K + t)^(-1) wanted, with t chosen by generalised cross-validation.

    Golub, Heath and Wahba (1979, doi:10.1080/00401706.1979.10489751): t minimises |(1 - H) y|^2 / tr(1 - H)^2 with
    H = K (K + t)^(-1). Answers without noise want a t near rounding.
    """
    values, vectors = torch.linalg.eigh(kernel)
    values, seen = values.clamp_min(0), vectors.mT @ wanted
    best, dual = float("inf"), torch.zeros_like(seen)
    for t in values[-1] * torch.logspace(-16, 0, 33, dtype=values.dtype):
        left = t / (values + t)
        score = float((left.unsqueeze(1) * seen).square().sum() / left.sum().square())
        if score < best:
            best, dual = score, seen / (values + t).unsqueeze(1)
    found: Tensor = vectors @ dual
    return found


def _relative_error(scores: Tensor, wanted: Tensor) -> Interval:
    """Return sum |s - t|^2 / sum |t - mean t|^2 with its 95 % interval: a ratio of means over rows, delta method."""
    missed = (scores - wanted).square().sum(1).numpy()
    power = (wanted - wanted.mean(0)).square().sum(1).numpy()
    if power.sum() == 0:
        raise ConfigurationError("the head gives the same scores for all held-out rows: there is nothing to reproduce")
    ratio = float(missed.sum() / power.sum())
    half = float(ndtri(0.975)) * float((missed - ratio * power).std(ddof=1)) / (float(power.mean()) * sqrt(len(power)))
    return Interval(ratio, max(0.0, ratio - half), ratio + half, len(power))


def _share(hits: int, n: int) -> Interval:
    """Return hits / n with its exact 95 % interval (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    low = float(betaincinv(hits, n - hits + 1, 0.025)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 0.975)) if hits < n else 1.0
    return Interval(hits / n, low, high, n)
