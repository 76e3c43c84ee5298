"""q-FFL, solved by q-FedAvg (Li et al. 2020, arXiv:1905.10497): clients that do badly count more.

Minimises sum_k F_k^(q+1) / (q+1): q = 0 is the mean over clients, large q approaches the worst client (agnostic
federated learning). The length of the step follows from an estimate of the local Lipschitz constant, so that q can be
changed without tuning a new rate.
"""

from typing import Annotated

import torch
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from .geometry import added, combined, norms
from .updates import Context, Info, Updates

SMALLEST_LOSS = 1e-10


@declared
class QFedAvg:
    """params + sum_k D_k / sum_k h_k with D_k = F_k^q L x_k and h_k = q F_k^(q-1) |L x_k|^2 + L F_k^q, L = 1 / lr.

    q: how much fairness. lr: the clients' learning rate, whose inverse stands for the Lipschitz constant L. F_k: the
    loss that client k reports, at least 1e-10. Cost n d. Any n; no attacker is withstood, and a client that reports a
    large loss is weighed up. All clients count the same. Angles enter wrapped.

    The paper's F_k(w^t) is the loss of the global model on the client's rows before it trains, which clients report
    with `Training(report_loss="before")`. By default they report the mean training loss of their last epoch, taken
    while the model was moving: lower, and lower by more for clients that learn fast. With several local steps that
    misleads this rule; with one step on all rows both are the same.
    """

    q: Annotated[float, Field(ge=0)] = 1.0
    lr: Annotated[float, Field(gt=0)] = 0.1

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: q-FedAvg remembers nothing."""
        return {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters and the "weight" of each update; `ConfigurationError` without reported losses."""
        n = len(updates.clients)
        if len(updates.losses) != n:
            raise ConfigurationError(
                f"QFedAvg weighs clients by their losses: expected {n} numbers in Updates.losses; got {updates.losses}"
            )
        losses = torch.tensor(updates.losses, dtype=torch.float64).clamp(min=SMALLEST_LOSS)
        emphasis = (losses / losses.max()) ** self.q  # the common factor cancels, and large powers do not overflow
        squares = norms(updates.delta, specs).square() / self.lr
        weights = emphasis / (emphasis * (self.q * squares / losses + 1)).sum()
        step = combined(updates.delta, weights, specs)
        return added(params, step, specs), state, {"weight": dict(zip(updates.clients, weights.tolist(), strict=True))}
