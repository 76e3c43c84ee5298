"""FedDyn (Acar et al. 2021, arXiv:2111.04263): a penalty that moves with each client until all agree at the optimum.

Client k minimises L_k(w) - <g_k, w> + alpha/2 |w - w_0|^2, and g_k becomes the gradient of L_k where it stopped. The
server remembers h, the mean of all g_k, and goes on from the clients' mean by -h / alpha.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from ..aggregation import Aggregator, Context, Updates
from ..aggregation.geometry import added
from ..aggregation.updates import Info, weighted_sum
from ..declaration import declared
from ..params import Params, Specs, difference
from .client_rule import Setting, inner_state, needs_mean, outer_state, shares, turned

OWN, SERVER = "own.", "h."


@declared
class FedDyn:
    """g - g_k + alpha (w - w_0) on the clients, g_k <- g_k - alpha x_k; mean - h / alpha, h <- h - alpha sum_k p_k x_k.

    x_k: the update. p_k: the client's share in all enrolled rows (in the paper one over their number). alpha: the pull;
    large is slow, small lets the server's step -h / alpha overshoot. Any optimiser, for g_k is told by where the client
    stopped and not by how it got there. Needs the mean as aggregation, for h has to stay the mean of all g_k.

    Nothing more is sent, either way. A client whose update is lost on its way keeps a g_k that the server does not know
    of. Privacy holds as without FedDyn: g_k and h follow from what was released. Angles: differences go the shorter
    way round, so a client must not go further than half a period in a round.
    """

    alpha: Annotated[float, Field(gt=0)] = 0.1

    def unfit(self, optimizer: Any, privacy: Any, rule: Aggregator) -> str:  # noqa: ARG002
        """Return what FedDyn lacks: the mean on the server."""
        return needs_mean("FedDyn", rule, "the server's correction is the mean of the clients'")

    def told(self, specs: Specs) -> Specs:  # noqa: ARG002
        """Return nothing: h stays on the server."""
        return ()

    def init(self, specs: Specs) -> Params:
        """Return g_k = 0."""
        return _zeros(OWN, specs)

    def adjust(self, grads: Params, params: Params, start: Params, state: Params, specs: Specs) -> Params:
        """Return g - g_k + alpha (w - w_0)."""
        away = difference(params, start, specs)
        return grads | {name: grads[name] - state[OWN + name] + self.alpha * apart for name, apart in away.items()}

    def keep(self, state: Params, sent: Params, steps: int, rates: Mapping[str, float], specs: Specs) -> Params:  # noqa: ARG002
        """Return g_k' = g_k - alpha x_k."""
        return {OWN + name: state[OWN + name] - self.alpha * delta for name, delta in turned(sent, specs).items()}

    def around(self, rule: Aggregator, setting: Setting) -> Aggregator:
        """Return the server half."""
        return _Server(rule, setting, self.alpha)


@dataclass(frozen=True)
class _Server:
    """The mean, moved by -h / alpha."""

    rule: Aggregator
    setting: Setting
    alpha: float

    def init(self, specs: Specs) -> Params:
        return _zeros(SERVER, specs) | outer_state(self.rule.init(specs))

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        mean, inner, info = self.rule(inner_state(state), params, updates, specs, context)
        share = shares(updates, self.setting.rows)
        h = {
            name: state[SERVER + name] - self.alpha * weighted_sum(share, delta)
            for name, delta in turned(updates.delta, specs).items()
        }
        new = added(mean, {name: -tensor / self.alpha for name, tensor in h.items()}, specs)
        return new, {SERVER + name: tensor for name, tensor in h.items()} | outer_state(inner), info


def _zeros(prefix: str, specs: Specs) -> Params:
    return {prefix + spec.name: torch.zeros(spec.shape, dtype=spec.torch_dtype) for spec in specs}
