"""FedNova (Wang et al. 2020, arXiv:2007.07481): average directions per step, not the distances that clients went.

With equal epochs a client with more rows takes more steps and goes further, so the mean optimises an objective in which
it counts twice: by its rows and by its steps. Dividing each update by its steps restores the objective by rows.
"""

import torch

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from .geometry import added, combined
from .updates import Context, Info, Updates


@declared
class FedNova:
    """params + tau_eff sum_i p_i x_i / tau_i with tau_eff = sum_i p_i tau_i, p_i the share of rows, tau_i the steps.

    The paper's |a_i|_1 is tau_i for plain gradient descent, which is what is assumed: with local momentum or Adam the
    normalisation is an approximation. Cost n d. Any n; no attacker is withstood, and a client that reports few
    steps is weighed up. Equal steps give the mean. Angles enter wrapped.
    """

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: FedNova remembers nothing."""
        return {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters and the "effective_steps" tau_eff; `ConfigurationError` without reported steps."""
        n = len(updates.clients)
        if len(updates.steps) != n or min(updates.steps) < 1:
            raise ConfigurationError(
                f"FedNova divides by the steps of each client: expected {n} positive numbers in Updates.steps; "
                f"got {updates.steps}"
            )
        steps = torch.tensor(updates.steps, dtype=torch.float64)
        effective = updates.weights @ steps
        step = combined(updates.delta, effective * updates.weights / steps, specs)
        return added(params, step, specs), state, {"effective_steps": float(effective)}
