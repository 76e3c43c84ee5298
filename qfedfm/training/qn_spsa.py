"""QN-SPSA: the metric of a natural gradient from four fidelities, however many weights there are.

For random signs D1, D2 and F(v) = |<psi(w)|psi(v)>|^2, averaged over the rows of the minibatch,

    d = F(w + c (D1 + D2)) - F(w + c D1) - F(w + c (D2 - D1)) + F(w - c D1),
    g' = -(1/2) d / (2 c^2) (D1 D2^T + D2 D1^T) / 2,    g <- (k g + g') / (k + 1)

(Gacon et al. 2021, doi:10.22331/q-2021-10-20-567). The mean begins at the identity and goes on while the optimiser's
state does: `Training(keep_state=True)` lets it grow over rounds. With `Training(gradient=Spsa())` the gradient takes
two values more, as in the paper; there one pair of signs serves all rows, here `Spsa` draws one for each.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params
from ..quantum import compute_uncompute
from .optimizers import spread
from .problem import Call, Problem


@declared
class QnSpsa:
    """step: c in radians. repeats: pairs of directions in each step."""

    step: Annotated[float, Field(gt=0, le=math.pi)] = 0.1
    repeats: Annotated[int, Field(ge=1)] = 1

    def init(self, weights: Params) -> Params:
        """Return the identity for each client (C, P, P), and how many estimates it holds, (C,)."""
        first = next(iter(weights.values()))
        count = sum(tensor[0].numel() for tensor in weights.values())
        one = torch.eye(count, dtype=first.dtype, device=first.device)
        return {"metric": one.repeat(len(first), 1, 1), "metrics": first.new_ones(len(first))}

    def measure(self, problem: Problem, calls: Sequence[Call], weights: Params, state: Params) -> Tensor:
        """Return the mean of all estimates so far."""
        size = state["metric"].shape[1]
        for _ in range(self.repeats):
            signs = np.stack([np.where(g.random((2, size)) < 0.5, -1.0, 1.0) for g in problem.generators])
            one, two = torch.from_numpy(signs).to(state["metric"]).unbind(1)
            away = self.step * torch.stack([one + two, one, two - one, -one], 1)  # (C, 4, P)
            there = dict(zip(weights, torch.split(away, [w[0].numel() for w in weights.values()], 2), strict=True))
            moved = {name: w.unsqueeze(1) + there[name].view(len(w), 4, *w.shape[1:]) for name, w in weights.items()}
            found = torch.stack([_fidelities(problem, call, moved) for call in calls]).sum(0)
            second = (found[:, 0] - found[:, 1] - found[:, 2] + found[:, 3]) / (2 * self.step**2)
            outer = one[:, :, None] * two[:, None, :]
            new = -spread(second, outer) * (outer + outer.mT) / 4
            known = state["metrics"].add_(1)
            state["metric"].add_((new - state["metric"]) / spread(known, new))
        return state["metric"]


def _fidelities(problem: Problem, call: Call, moved: Params) -> Tensor:
    """Return the fidelity of a circuit's state with that at four other sets of weights, mean over rows (C, 4)."""
    program, zeros = compute_uncompute(call.program)
    own = {name: tensor.repeat_interleave(4, 0) for name, tensor in call.weights.items()}
    others = {
        f"{name}.other": moved[call.names[name]].flatten(0, 1) if call.names[name] in moved else own[name]
        for name in own
    }
    values = problem.run(program, call.inputs, own | others, (zeros,))
    clients, rows = problem.labels.shape
    return problem.average(values.view(clients, 4, rows).transpose(1, 2))
