"""Reputation: what a client's past contributions say about its next, and who is chosen to train because of it.

Each client has counts r of good rounds and s of bad ones, both multiplied by `decay` each round before the new one is
added; its reputation is the mean of Beta(r + 1, s + 1), (r + 1) / (r + s + 2) (Josang and Ismail 2002, "The beta
reputation system"). A round is good for a client whose measured contribution is above `threshold`. The clients of the
next round are those with the largest of one draw each from these distributions (Thompson 1933, doi:10.2307/2332286), so
that those who are little known, and those who were bad long ago, are tried again.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from ..aggregation import Context, Updates
from ..aggregation.updates import Info
from ..declaration import declared
from ..params import Params, Specs
from .contribution import Contribution

COUNTS = "reputation:"


@declared
class Reputation:
    """A rule that remembers what clients were worth and chooses the next by it.

    rule: what aggregates and measures. decay: what a round ago still counts, in (0, 1]. threshold: a contribution above
    it is good, in the unit of the contribution's metric.
    """

    rule: Contribution = Contribution()
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    threshold: float = 0.0

    def init(self, specs: Specs) -> Params:
        """Return the state of the wrapped rule; clients are added as they take part."""
        return self.rule.init(specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return what the rule returns, with every known client's reputation under "reputation" in its info."""
        inner = {name: tensor for name, tensor in state.items() if not name.startswith(COUNTS)}
        new, after, info = self.rule(inner, params, updates, specs, context)
        counts = self.judged(state, info["contribution"]["value"])
        known = {name.removeprefix(COUNTS): expected(count) for name, count in counts.items()}
        return new, after | counts, info | {"reputation": known}

    def judged(self, state: Params, contributions: Mapping[str, float]) -> Params:
        """Return the counts (good, bad) of every known client after a round, under "reputation:NAME"."""
        counts = {name: self.decay * count for name, count in state.items() if name.startswith(COUNTS)}
        for client, value in contributions.items():
            round_count = torch.tensor([value > self.threshold, value <= self.threshold], dtype=torch.float64)
            counts[COUNTS + client] = round_count + counts.get(COUNTS + client, torch.zeros(2, dtype=torch.float64))
        return dict(sorted(counts.items()))

    def select(self, state: Params, clients: Sequence[str], count: int, generator: np.random.Generator) -> list[str]:
        """Return `count` of the clients to train next, in the order given."""
        counts = [state.get(COUNTS + client, torch.zeros(2, dtype=torch.float64)).numpy() for client in clients]
        drawn = np.array([generator.beta(good + 1, bad + 1) for good, bad in counts])
        return [clients[i] for i in sorted(np.argsort(-drawn, kind="stable")[:count])]


def expected(count: torch.Tensor) -> float:
    """Return the reputation of counts (good, bad): the mean of Beta(good + 1, bad + 1)."""
    good, bad = count.tolist()
    return float((good + 1) / (good + bad + 2))
