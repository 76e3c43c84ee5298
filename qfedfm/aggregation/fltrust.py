"""FLTrust (Cao et al. 2021, arXiv:2012.13995): the server trains on a few clean rows of its own and trusts likeness.

A client's trust is the cosine between its update and the server's, nothing where they point apart; every update is
brought to the length of the server's. That holds against any number of attackers, for the price of clean rows.
"""

import torch

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs, stack
from .geometry import added, along, combined, norms
from .updates import Context, Info, Updates


@declared
class FLTrust:
    """params + sum_i t_i (|g| / |x_i|) x_i / sum_i t_i with t_i = max(0, cos(x_i, g)) and g the server's own update.

    Cost n d and the server's training. Any n and f: the step is never longer than |g|. Where nobody is trusted or g is
    zero, the parameters stay as they are. Angles are taken as seen from the global model, wrapped.
    """

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: FLTrust remembers nothing."""
        return {}

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters and the "trust" in each client; `ConfigurationError` without rows of the server."""
        if context.root is None:
            raise ConfigurationError(
                "FLTrust compares every update with one that the server makes from clean rows of its own, and this "
                "server has none: give it root rows (Context.root), or choose a rule that needs none, such as Median"
            )
        own = context.root(params)
        length, lengths = float(norms(stack([own]), specs)), norms(updates.delta, specs)
        cosines = (along(updates.delta, own, specs) / (lengths * length)).nan_to_num(0, 0, 0)
        trust = cosines.clamp(0, 1)
        total = float(trust.sum())
        factors = trust * length / lengths / total if total > 0 else torch.zeros_like(trust)
        step = combined(updates.delta, factors.nan_to_num(0, 0, 0), specs)
        return added(params, step, specs), state, {"trust": dict(zip(updates.clients, trust.tolist(), strict=True))}
