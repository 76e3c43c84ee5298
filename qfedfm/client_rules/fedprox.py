"""FedProx (Li et al. 2020, arXiv:1812.06127): clients are held near the model that they were sent."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from ..aggregation import Aggregator
from ..declaration import declared
from ..params import Params, Specs, difference
from .client_rule import Setting


@declared
class FedProx:
    """Each client minimises L_k(w) + mu/2 |w - w_0|^2 with w_0 the model of the round: g + mu (w - w_0).

    mu: the pull; 0 is plain federated averaging. Angles are pulled the shorter way round. Parameters that a client
    keeps for itself are not pulled. Nothing is remembered and nothing more is sent, so that every aggregation rule
    goes with it. It shortens the way that clients go apart and slows them down as much; where clients with several
    local steps stop is moved towards the optimum, and is not the optimum.
    """

    mu: Annotated[float, Field(ge=0)] = 0.01

    def unfit(self, optimizer: Any, privacy: Any, rule: Aggregator) -> str:  # noqa: ARG002
        """Return an empty string: FedProx goes with everything."""
        return ""

    def told(self, specs: Specs) -> Specs:  # noqa: ARG002
        """Return nothing."""
        return ()

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty memory."""
        return {}

    def adjust(self, grads: Params, params: Params, start: Params, state: Params, specs: Specs) -> Params:  # noqa: ARG002
        """Return g + mu (w - w_0)."""
        away = difference(params, start, specs)
        return grads | {spec.name: grads[spec.name] + self.mu * away[spec.name] for spec in specs}

    def keep(self, state: Params, sent: Params, steps: int, rates: Mapping[str, float], specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty memory."""
        return {}

    def around(self, rule: Aggregator, setting: Setting) -> Aggregator:  # noqa: ARG002
        """Return the rule itself: the server does nothing more."""
        return rule
