"""Federated averaging: the mean of the updates, weighted by training rows (McMahan et al. 2017, arXiv:1602.05629)."""

from ..declaration import declared
from ..params import Params, Specs
from .updates import Context, Info, Updates, weighted_sum


@declared
class Mean:
    """params + sum_i w_i delta_i with w_i the client's share of all rows.

    Angles are averaged as if they were numbers on a line; `AngularMean` is the rule that knows they are not.
    """

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: the mean remembers nothing."""
        return {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the averaged parameters."""
        new = {spec.name: params[spec.name] + weighted_sum(updates.weights, updates.delta[spec.name]) for spec in specs}
        return new, state, {}
