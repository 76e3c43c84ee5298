"""Norm clipping (Sun et al. 2019, arXiv:1911.07963): no update is longer than C, then any rule.

A backdoor that must win in one round needs a boosted, long update. Clipping takes the boost away; with the mean behind
it, a client moves the model by at most its weight times C.
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from ..declaration import declared
from ..params import Params, Specs
from ..privacy import clip_updates
from .angular import AngularMean
from .updates import Aggregator, Context, Info, Updates


@declared
class NormClipping:
    """`rule` on x_i min(1, C / |x_i|), |x_i| taken over all parameters together, angles wrapped.

    norm: C, in the units of an update's norm. rule: what aggregates the clipped updates; its state is the state. Cost
    n d and the rule's own. Any n that the rule takes. With a mean, f clients of weight w move the result by at most
    2 w C, whatever they send; that is a bound and not a defence against updates of ordinary length.
    """

    norm: Annotated[float, Field(gt=0)] = 1.0
    rule: Aggregator = AngularMean()

    def init(self, specs: Specs) -> Params:
        """Return the state of the rule."""
        return self.rule.init(specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return what the rule returns, its info with the number of updates that were "clipped"."""
        delta, length = clip_updates(updates.delta, self.norm, specs)
        new, state, info = self.rule(state, params, replace(updates, delta=delta), specs, context)
        return new, state, info | {"clipped": int((length > self.norm).sum())}
