"""The mean on the circle: angles that differ by a whole period are the same angle, and are averaged as such.

theta + wrap_T(sum_i w_i wrap_T(delta_i)), one step of the Karcher mean on the circle of circumference T (Fletcher et
al. 2004, doi:10.1109/TMI.2004.831793) from the global angle, to which all clients stay close in a round. A client that
reports its angle in another turn of the circle would pull an arithmetic mean to a meaningless place; it does not move
this one.
"""

from ..declaration import declared
from ..params import Params, Specs, wrap
from .updates import Context, Info, Updates, weighted_sum


@declared
class AngularMean:
    """Weighted mean by training rows; angular parameters on their circle, all others on the line."""

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: this mean remembers nothing."""
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
        new = {}
        for spec in specs:
            delta = updates.delta[spec.name]
            if spec.period is not None:
                delta = wrap(delta, spec.period)
            step = weighted_sum(updates.weights, delta)
            new[spec.name] = params[spec.name] + (step if spec.period is None else wrap(step, spec.period))
        return new, state, {}
