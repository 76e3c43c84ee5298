"""FoolsGold (Fung et al. 2020, arXiv:1808.04866): clients that keep pulling the same way are one attacker in disguise.

Honest clients differ, since their rows do; the puppets of one attacker share its aim. The rule compares not the updates
of a round but their sums over all rounds, client by client, and takes weight from those that resemble another.
"""

import torch
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from .geometry import added, combined, flat
from .updates import Context, Info, Updates


@declared
class FoolsGold:
    """params + sum_i a_i x_i / sum_i a_i with a_i small for clients whose history resembles another's.

    H_i = sum over rounds of x_i; s_ij = cos(H_i, H_j); v_i = max_j s_ij; where v_j > v_i, s_ij is multiplied by
    v_i / v_j; a_i = 1 - max_j s_ij, divided by the largest; then log(a / (1 - a)) + 1/2, held in [0, 1]. Where all are
    alike and nobody has weight left, the parameters stay as they are. Cost n^2 d, memory d for every client ever seen.
    Any n and any number of puppets, but a lone attacker is not seen: the declared breakdown point is zero.

    Departures: the paper adds up sum_i a_i x_i of single gradient steps, here divided by sum_i a_i, since updates are
    whole trainings; all parameters count as indicative features. Angles enter wrapped.
    """

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: no client has a history yet."""
        return {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters, the histories {"history/CLIENT": (d,)}, and the "weight" of each client.

        Clients that are absent keep their history.
        """
        keys = [f"history/{client}" for client in updates.clients]
        histories = flat(updates.delta, specs)
        for history, key in zip(histories, keys, strict=True):
            if key in state:
                history += state[key]
        kept = state | {key: history.clone() for history, key in zip(histories, keys, strict=True)}
        gram = histories @ histories.T
        lengths = gram.diagonal().sqrt()
        weights = by_likeness((gram / (lengths * lengths.unsqueeze(1))).nan_to_num(0, 0, 0))  # 0 / 0 is like nobody
        total = float(weights.sum())
        step = combined(updates.delta, weights / total if total > 0 else weights, specs)
        return added(params, step, specs), kept, {"weight": dict(zip(updates.clients, weights.tolist(), strict=True))}


def by_likeness(cosines: Tensor) -> Tensor:
    """Return the weights (n,) in [0, 1] that FoolsGold gives clients with these cosines (n, n) of their histories."""
    others = cosines.clone().fill_diagonal_(0)
    most = others.amax(1)
    pardon = torch.where(most > most.unsqueeze(1), most.unsqueeze(1) / most, 1)
    weights = (1 - (others * pardon).amax(1)).clamp(0, 1)
    if not weights.any():
        return weights
    return torch.logit(weights / weights.max()).add_(0.5).clamp_(0, 1)
