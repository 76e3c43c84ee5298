"""DP-FedAvg: a trusted server that hides each client (McMahan et al. 2018, arXiv:1710.06963).

params + (sum_i delta_i min(1, C / |delta_i|) + N(0, (sigma C)^2)) / n: every client counts alike, whatever number of
rows it claims, since a weight of its own would be a way to be seen. Who sees the models, and knows all other clients,
cannot tell whether one client took part. The clip may follow a quantile of the lengths (`AdaptiveClip`).
"""

from typing import Annotated

import torch
from pydantic import Field

from ..declaration import declared
from ..errors import PrivacyExhausted
from ..params import Params, Specs, wrap
from ..privacy import ORDERS, AdaptiveClip, clip_updates, epsilon, subsampled_gaussian
from ..privacy.clipping import Positive
from ..privacy.noise import gaussian
from .updates import Context, Info, Updates


@declared
class DpFedAvg:
    """Clipped, unweighted, noised mean of the updates.

    clip: C, in the units of an update's norm, angles wrapped; with `adaptive` the first one. sigma: noise over C, that
    of the quantile's count included. delta: of the eps. budget: eps at which the rule refuses to go on.

    Neighbours differ in one client, whose updates are there or are zero. The rounds of a client add up as Gaussian
    mechanisms with q = 1: clients are chosen in the open (and by a seed that all know), which amplifies nothing. Who is
    left out because it failed is taken not to depend on its data. Reported losses, the ledger and the server's own
    evaluation are records of the trusted server and no part of the guarantee. Breakdown point 0, but a client moves the
    model by at most C / n. Cost n d.
    """

    clip: Positive = 1.0
    sigma: Positive = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    adaptive: AdaptiveClip | None = None
    budget: Positive | None = None

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the first clip, if it adapts; rounds taken part in, "rounds/CLIENT", follow as clients do."""
        return {"clip": torch.tensor(self.clip, dtype=torch.float64)} if self.adaptive else {}

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters, clip and rounds, and under "privacy" what the most frequent client has spent.

        Raises `PrivacyExhausted` where this round would spend more than the budget.
        """
        counts = {f"rounds/{client}": torch.tensor(0) for client in updates.clients}
        counts |= {key: count for key, count in state.items() if key.startswith("rounds/")}
        counts |= {f"rounds/{client}": counts[f"rounds/{client}"] + 1 for client in updates.clients}
        rounds = max(int(count) for count in counts.values())
        eps = self.epsilon(rounds)
        if self.budget is not None and eps > self.budget:
            raise PrivacyExhausted(
                f"the privacy budget is spent: eps {self.epsilon(rounds - 1) if rounds > 1 else 0:.4g} after "
                f"{rounds - 1} rounds with the same client, {eps:.4g} after one more, and {self.budget:g} allowed "
                f"(delta {self.delta:g}): stop here, or begin again with a larger sigma"
            )
        clip, n = float(state["clip"]) if self.adaptive else self.clip, len(updates.clients)
        sigma = self.adaptive.sigma_of_sum(self.sigma, n) if self.adaptive else self.sigma
        clipped, length = clip_updates(updates.delta, clip, specs)
        sums = {name: tensor.double().sum(0, keepdim=True) for name, tensor in clipped.items()}
        noise = gaussian(sums, sigma * clip, [context.generator])
        new = {}
        for spec in specs:
            step = ((sums[spec.name] + noise[spec.name])[0] / n).to(spec.torch_dtype)
            new[spec.name] = params[spec.name] + (step if spec.period is None else wrap(step, spec.period))
        if self.adaptive:
            counts["clip"] = torch.tensor(self.adaptive.next(clip, length, context.generator), dtype=torch.float64)
        return new, counts, {"privacy": {"eps": eps, "delta": self.delta, "rounds": rounds, "clip": clip}}

    def epsilon(self, rounds: int) -> float:
        """Return the eps of a client that took part in so many rounds."""
        return epsilon(rounds * subsampled_gaussian(1.0, self.sigma, ORDERS), self.delta).eps
