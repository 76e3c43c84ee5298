"""SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378): control variates undo what unlike clients drift apart.

Client k holds c_k, an estimate of its gradient at the global model, and the server c, the mean of all c_k. Every local
step follows g - c_k + c: what is special about the client is taken out, what is common is put in. By option II of the
paper c_k becomes the mean gradient of the round, c_k - c - x_k / (K eta): x_k the update, K the steps, eta the rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..aggregation import Aggregator, Context, Updates
from ..aggregation.updates import Info, weighted_sum
from ..declaration import declared
from ..params import Params, Specs
from ..training import Sgd
from .client_rule import Setting, inner_state, needs_mean, outer_state, shares, turned

CONTROL, OWN = "control.", "own."


@declared
class Scaffold:
    """g - c_k + c on the clients; c <- c + sum_k p_k (c_k' - c_k) on the server, p_k the share in all enrolled rows.

    Needs plain `Sgd`, for x_k / (K eta) is a mean gradient only then, and the mean as aggregation, for c has to stay
    the mean of all c_k. A server step other than one is not offered.

    c travels down with the model, twice the bytes. Departure from the paper: c_k' - c_k does not travel up, since the
    server computes the same -c - x_k / (K eta) from the update and the reported steps; the paper's means over clients
    are means by rows here. A client whose update is lost on its way keeps a control that the server does not know of.
    Privacy holds as without SCAFFOLD: c_k and c follow from what was released. Angles: x_k goes the shorter way
    round, so a client must not go further than half a period in a round.
    """

    def unfit(self, optimizer: Any, privacy: Any, rule: Aggregator) -> str:  # noqa: ARG002
        """Return what SCAFFOLD lacks: plain gradient descent on clients, the mean on the server."""
        if not isinstance(optimizer, Sgd) or optimizer.momentum:
            return (
                "Scaffold needs optimizer=Sgd(lr) without momentum: its control variates are the mean gradients that "
                f"plain steps leave in an update; got {optimizer!r:.100}"
            )
        return needs_mean("Scaffold", rule, "the server's control variate is the mean of the clients'")

    def told(self, specs: Specs) -> Specs:
        """Return the specs of c."""
        return tuple(replace(s, name=CONTROL + s.name, kind="linear", period=None, pair=None) for s in specs)

    def init(self, specs: Specs) -> Params:
        """Return c_k = 0."""
        return _zeros(OWN, specs)

    def adjust(self, grads: Params, params: Params, start: Params, state: Params, specs: Specs) -> Params:  # noqa: ARG002
        """Return g - c_k + c."""
        names = [spec.name for spec in specs]
        return grads | {name: grads[name] - state[OWN + name] + state[CONTROL + name] for name in names}

    def keep(self, state: Params, sent: Params, steps: int, rates: Mapping[str, float], specs: Specs) -> Params:
        """Return c_k' = c_k - c - x_k / (K eta)."""
        return {
            OWN + name: state[OWN + name] - state[CONTROL + name] - delta / (steps * rates[name])
            for name, delta in turned(sent, specs).items()
        }

    def around(self, rule: Aggregator, setting: Setting) -> Aggregator:
        """Return the server half."""
        return _Server(rule, setting)


@dataclass(frozen=True)
class _Server:
    """The mean, and c beside it."""

    rule: Aggregator
    setting: Setting

    def init(self, specs: Specs) -> Params:
        return _zeros(CONTROL, specs) | outer_state(self.rule.init(specs))

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        new, inner, info = self.rule(inner_state(state), params, updates, specs, context)
        share, steps = shares(updates, self.setting.rows), torch.tensor(updates.steps, dtype=torch.float64)
        rates = self.setting.rates(context.round)
        controls = {}
        for name, delta in turned(updates.delta, specs).items():
            mean_gradients = weighted_sum(share / (steps * rates[name]), -delta)
            controls[CONTROL + name] = (1 - float(share.sum())) * state[CONTROL + name] + mean_gradients
        return new, controls | outer_state(inner), info


def _zeros(prefix: str, specs: Specs) -> Params:
    return {prefix + spec.name: torch.zeros(spec.shape, dtype=spec.torch_dtype) for spec in specs}
