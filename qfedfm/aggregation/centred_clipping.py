"""Centred clipping (Karimireddy et al. 2021, arXiv:2012.10333): average the clipped differences from the last step.

An honest update is near to where the model went last round; what is far from there is cut to length, so that nobody,
however far away, moves the model by more than tau / n. The memory over rounds is what defeats attacks too small to be
seen in any one round.
"""

from typing import Annotated

import torch
from pydantic import Field

from ..declaration import declared
from ..params import Params, Specs
from .geometry import added, combined, norms
from .updates import Context, Info, Updates


@declared
class CentredClipping:
    """v <- v + (1/n) sum_i (x_i - v) min(1, tau / |x_i - v|), repeated; params + v. v starts at zero and is kept.

    tau: in the units of an update's norm. iterations: l in the paper. Cost n d an iteration. Any n; f clients of any
    size move a round's result by at most 2 tau f / n an iteration. Differences of angles go the shorter way round.

    Departures: the paper's clients send their momentum, ours send what training made of the model; and v is this rule's
    last step, not a mean of gradients, so tau is best set near the spread of the updates.
    """

    tau: Annotated[float, Field(gt=0)] = 1.0
    iterations: Annotated[int, Field(ge=1)] = 1

    def init(self, specs: Specs) -> Params:
        """Return the centre v {name: (*shape)}, zero."""
        return {spec.name: torch.zeros(spec.shape, dtype=torch.float64) for spec in specs}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters, the new centre, and how many updates the last iteration "clipped"."""
        n, centre = len(updates.clients), state
        for _ in range(self.iterations):
            length = norms(updates.delta, specs, centre)
            factors = self.tau / length.clamp(min=self.tau)
            move = combined(updates.delta, factors / n, specs, centre)
            centre = {name: tensor + move[name] for name, tensor in centre.items()}
        return added(params, centre, specs), centre, {"clipped": int((length > self.tau).sum())}
