"""Free riders: clients that send what costs no training, recognised by what they have not in common with the others.

What a client can send without training is nothing, noise, the step that the global model last took (which it can see),
or a mixture of those (Lin et al. 2019, arXiv:1911.12560; Fraboni et al. 2021, arXiv:2006.11901). So the part along the
last step is taken out of every update, and of what remains one asks how much of it lies in the span of the others':
clients that train share directions, or oppose one another along them. Of isotropic noise in d dimensions a share R^2
lies in any given k-dimensional space, and is distributed as Beta(k/2, (d - k)/2), exactly. An update that the others
explain no better than they would noise, or of which nothing remains, is suspect.

A noise rider escapes with probability `level`, whatever d is. Honest clients are safe where they share much and
parameters are many; in a single round, late in training or where clients overfit, theirs may look like noise too.
`FreeRiderScreen` therefore adds up evidence over rounds by Fisher's method, -2 sum ln p with older rounds counting less
(its distribution approximated by that of a scaled chi squared, Satterthwaite 1946). Noise that imitates the shape of
training is not recognised, nor are riders that send copies of one another's noise: those are duplicates.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import betaincc, gammaincc
from torch import Tensor

from ..aggregation import Aggregator, AngularMean, Context, Updates
from ..aggregation.geometry import flat
from ..aggregation.updates import Info
from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs, difference
from .game import Floats

NEGLIGIBLE = 1e-3  # of the median norm, or of the update's own: as good as nothing
TINY = 1e-300
STRONGEST = 1e-6
BEFORE, EVIDENCE = OURS = ("free-riders-before:", "free-riders-evidence:")


@dataclass(frozen=True)
class Screening:
    """What each update looks like. share: R^2, of its square that the others explain, (n,). p: how often they would
    explain as much of noise, (n,), 1 where nothing is left. suspect: p above the level, (n,) bool.
    """

    share: Floats
    p: Floats
    suspect: NDArray[np.bool_]


def screen(updates: Updates, specs: Specs, last: Params | None = None, level: float = 0.01) -> Screening:
    """Return who may have sent nothing, noise, or the last step again.

    last: {name: (*shape)}, the last change of the global parameters; None before the second round. Raises
    `ConfigurationError` for a single client, and unless there are two parameters more than clients. Cost n^2 d + n^4.
    """
    points = flat(updates.delta, specs)
    count, dimension = points.shape
    if count < 2 or dimension < count + 2:
        raise ConfigurationError(
            "to recognise free riders takes 2 clients or more, and 2 parameters more than clients; got "
            f"{count} clients and {dimension} parameters"
        )
    own = points.norm(dim=1)
    if last is not None:
        step = flat({name: tensor[None] for name, tensor in last.items()}, specs)[0]
        along = step / step.norm().clamp(min=TINY)
        points = points - torch.outer(points @ along, along)
        dimension -= 1
    rest = points.norm(dim=1)
    left = ((own > NEGLIGIBLE * own.median()) & (rest > NEGLIGIBLE * own)).numpy()
    unit = points / rest.clamp(min=TINY)[:, None]
    gram = (unit @ unit.T).numpy()
    share, p = np.zeros(count), np.ones(count)
    for i in np.flatnonzero(left):
        others = np.flatnonzero(left & (np.arange(count) != i))
        if len(others):
            explained, _, rank, _ = np.linalg.lstsq(gram[np.ix_(others, others)], gram[others, i], rcond=1e-10)
            share[i] = np.clip(gram[others, i] @ explained, 0, 1)
            p[i] = betaincc(rank / 2, (dimension - rank) / 2, share[i])
    return Screening(share, p, p > level)


@declared
class FreeRiderScreen:
    """A rule before which updates are screened for free riders, on the evidence of all rounds so far.

    rule: what aggregates. level: a client is suspect if noise would have been explained as well over the rounds with a
    probability above it. decay: what a round before still counts, in (0, 1]. remove: whether suspects are left out of
    the round, or only recorded, under "free_riders" in the round's info.
    """

    rule: Aggregator = AngularMean()
    level: Annotated[float, Field(gt=0, lt=1)] = 0.01
    decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    remove: bool = False

    def init(self, specs: Specs) -> Params:
        """Return the state of the wrapped rule; evidence and the parameters of the round before are added later."""
        return self.rule.init(specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return what the rule makes of the updates; raise `ConfigurationError` if all were to be left out."""
        before, evidence = ({n.removeprefix(p): t for n, t in state.items() if n.startswith(p)} for p in OURS)
        inner = {name: tensor for name, tensor in state.items() if not name.startswith(OURS)}
        found = screen(updates, specs, difference(params, before, specs) if before else None, self.level)
        for client, p in zip(updates.clients, found.p, strict=True):
            evidence[client] = gathered(evidence.get(client, torch.zeros(3, dtype=torch.float64)), p, self.decay)
        combined = {client: noise_probability(evidence[client]) for client in updates.clients}
        suspect = np.array([p > self.level for p in combined.values()])
        if self.remove and suspect.all():
            raise ConfigurationError(
                f"all {len(suspect)} clients look like free riders, so none would be left: set remove=False, or a "
                "higher level"
            )
        kept = updates.only(np.flatnonzero(~suspect)) if self.remove else updates
        new, after, info = self.rule(inner, params, kept, specs, context)
        remembered = {BEFORE + name: tensor for name, tensor in params.items()}
        remembered |= {EVIDENCE + client: evidence[client] for client in sorted(evidence)}
        record = {"suspects": [client for client, p in combined.items() if p > self.level], "p": combined}
        return new, after | remembered, info | {"free_riders": record}


def gathered(evidence: Tensor, p: float, decay: float) -> Tensor:
    """Return evidence (3,) after another round: sum of w (-2 ln p), of w and of w^2, w being decay^age.

    A round counts for no more than p = `STRONGEST`, so that one good round does not excuse many.
    """
    news = torch.tensor([-2 * np.log(max(p, STRONGEST)), 1.0, 1.0], dtype=torch.float64)
    return evidence * torch.tensor([decay, decay, decay**2], dtype=torch.float64) + news


def noise_probability(evidence: Tensor) -> float:
    """Return how often noise would have been explained so well over all rounds: chi squared, scaled to two moments."""
    total, weights, squares = evidence.tolist()
    return float(gammaincc(weights**2 / squares, total * weights / squares / 2))
