"""IFCA, clustered federated learning (Ghosh et al. 2020, arXiv:2006.04088): several models, each client picks its own.

The server holds k models and sends them all. In each round a client trains the one with the lowest mean loss on its own
training rows and says which; the server aggregates the updates of each model among themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..aggregation import Aggregator, Context, Updates
from ..aggregation.updates import Info, Selects
from ..declaration import declared
from ..params import Params, Specs
from ..seeds import stream
from .client_rule import Setting


@declared
class Ifca:
    """`clusters` models that begin at different random values; model averaging (the paper's option II).

    The aggregation rule works within each cluster, with a state for each, on as many clients as chose it; a model that
    nobody chose stays. All models travel down, one update travels up. Evaluation takes for each client the model with
    the lowest loss on its training rows. Which models come of it depends on where they begin: if all clients prefer
    one, the others are never trained, so look at `clusters` in the rounds and try other seeds.

    Not with privacy: which model a client picks tells of its rows, and nothing hides it. A codec with error feedback
    hands what it left out of one model's update on to the next, also where the client has changed models.
    """

    clusters: Annotated[int, Field(ge=2)] = 2

    def unfit(self, optimizer: Any, privacy: Any, rule: Aggregator) -> str:  # noqa: ARG002
        """Return what cannot be: privacy, and a rule that selects clients by what it remembers of all."""
        if privacy is not None:
            return f"Ifca reports the model that fits a client's rows best, which {type(privacy).__name__} cannot hide"
        if isinstance(rule, Selects):
            return f"Ifca keeps a state for each cluster, and {type(rule).__name__} selects clients by one for all"
        return ""

    def told(self, specs: Specs) -> Specs:
        """Return the specs of all models but the first, which travels as the model always does."""
        return tuple(replace(s, name=_name(j, s.name)) for j in range(1, self.clusters) for s in specs)

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty memory: the choice is made anew in every round."""
        return {}

    def candidates(self, known: Params, specs: Specs) -> list[Params]:
        """Return the parameters of every model."""
        return [{spec.name: known[_name(j, spec.name)] for spec in specs} for j in range(self.clusters)]

    def adjust(self, grads: Params, params: Params, start: Params, state: Params, specs: Specs) -> Params:  # noqa: ARG002
        """Return the gradients as they are."""
        return grads

    def keep(self, state: Params, sent: Params, steps: int, rates: Mapping[str, float], specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty memory."""
        return {}

    def around(self, rule: Aggregator, setting: Setting) -> Aggregator:
        """Return the server half."""
        return _Server(rule, setting, self.clusters)


@dataclass(frozen=True)
class _Server:
    """The rule in each cluster; all models but the first are in the state."""

    rule: Aggregator
    setting: Setting
    clusters: int

    def init(self, specs: Specs) -> Params:
        state = {f"{j}/{key}": t for j in range(self.clusters) for key, t in self.rule.init(specs).items()}
        for j in range(1, self.clusters):
            begin = self.setting.model.init(int(stream(self.setting.seed, "cluster", j).integers(2**62)))
            state |= {_name(j, spec.name): begin[spec.name] for spec in specs}
        return state

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        known, kept = params | state, {key: tensor for key, tensor in state.items() if "/" in key}
        infos: Info = {"clusters": dict(zip(updates.clients, updates.clusters, strict=True))}
        for j in sorted(set(updates.clusters)):
            base = {spec.name: known[_name(j, spec.name)] for spec in specs}
            inner = {key.removeprefix(f"{j}/"): t for key, t in kept.items() if key.startswith(f"{j}/")}
            mine = np.flatnonzero(np.array(updates.clusters) == j)
            new, inner, info = self.rule(inner, base, updates.only(mine), specs, context)
            kept |= {f"{j}/{key}": tensor for key, tensor in inner.items()}
            known |= {_name(j, name): tensor for name, tensor in new.items()}
            if info:
                infos[f"cluster {j}"] = info
        others = {name: known[name] for name in state if "/" not in name}
        return {spec.name: known[spec.name] for spec in specs}, others | kept, infos


def _name(cluster: int, name: str) -> str:
    return f"cluster.{cluster}.{name}" if cluster else name
