"""The mean weighted by fidelity: clients whose circuits prepare other states than the rest count less.

The states of all client circuits are computed on one random probe set, F_ij = mean over inputs of
|<psi(x, w_i)|psi(x, w_j)>|^2 and f_i = median over j of F_ij. Fidelity falls with the number P of angles however honest
everyone is: with independent errors of standard deviation sigma an angle, about exp(-sigma^2 P / 4) between a client
and the truth and exp(-sigma^2 P / 2) between two clients (each angle turns a state by a generator of variance 1/4 at
most: Stokes et al. 2020, doi:10.22331/q-2020-05-25-269), down to the 2^-n of unrelated states. A threshold on f_i would
therefore empty deep circuits. What is compared is the exponent, which grows with P for everybody alike:

    a_i = -ln((f_i - 2^-n) / (1 - 2^-n)),   w_i proportional to rows_i min(1, a* / a_i)^sharpness,
    a* = max(median_i a_i, spread^2 P / 2).

As a_i grows with a client's variance, sharpness 1 is inverse-variance weighting, and a client of twice the others'
spread keeps .4 to .9 of their weight whether it has 24 angles or 192. Where states of honest clients are as
unrelated as random ones (sigma^2 P >> 1) all exponents are equal and the rule becomes the mean: fidelity has no more to
say. Fidelity weighting of quantum clients is found in the literature in several forms; this calibration is ours.

Cost: n rows 2^n_qubits amplitudes and n^2 rows 2^n_qubits multiplications, O(n d) for the mean. It resists fewer than
half of hostile clients in the circuit's weights, and none in all other parameters. It beats the mean where a few
circuits are wrong (drifted, untrained, random); it does not where only the classical layers are attacked, which it
never looks at, and for clients that are alike it is the mean.
"""

import math

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from ..quantum.overlaps import client_fidelities
from .client_circuits import client_weights, probe_inputs, trained_circuit
from .geometry import added, combined
from .updates import Context, Info, Updates

LEAST = 1e-3
"""The smallest excess over the fidelity of unrelated states that a probe set of some ten rows can tell from none."""


@declared
class FidelityWeighted:
    """Angular mean of all parameters, weighted by rows and by how near a client's states are to the others'.

    rows: size of the probe set. spread: radians an angle by which honest clients may always differ at full weight.
    sharpness: how fast weight falls beyond; 1 weighs by the inverse of a client's variance, 2 is harder on attackers.
    """

    rows: int = 16
    spread: float = 0.1
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        wrong = [] if self.rows > 0 else [f"FidelityWeighted.rows: expected one or more; got {self.rows}"]
        for name, value in (("spread", self.spread), ("sharpness", self.sharpness)):
            if not 0 < value < math.inf:
                wrong.append(f"FidelityWeighted.{name}: expected a positive number; got {value}")
        if wrong:
            raise ConfigurationError(wrong)

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state."""
        return {}

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the mean; info: `fidelities` f_i and `weights` w_i, in the order of clients, and `reference` exp(-a*).

        Raises `ConfigurationError` for a head without a trained circuit, `CircuitError` where the states do not fit.
        """
        circuit = trained_circuit("FidelityWeighted", context)
        weights = client_weights(circuit, params, updates)
        probe = probe_inputs(circuit, self.rows, context.generator)
        agreement = _median_of_others(client_fidelities(circuit.program, probe, weights))
        floor = 2.0**-circuit.program.n_wires
        exponent = -torch.log(((agreement - floor) / (1 - floor)).clamp(LEAST, 1))
        allowed = max(float(exponent.quantile(0.5)), self.spread**2 * circuit.program.n_parameters / 2)
        kept = (allowed / exponent.clamp(min=allowed)) ** self.sharpness
        shares = updates.weights * kept
        shares = shares / shares.sum()
        info = {
            "fidelities": agreement.tolist(),
            "weights": shares.tolist(),
            "reference": floor + (1 - floor) * math.exp(-allowed),
        }
        return added(params, combined(updates.delta, shares, specs), specs), state, info


def expected_fidelity(sigma: float, n_parameters: int, n_qubits: int) -> float:
    """Return 2^-n + (1 - 2^-n) exp(-sigma^2 P / 4), for an honest client with errors of `sigma` radians in P angles.

    Between two such clients, take sqrt(2) sigma. An estimate: angles whose generators have less variance cost less.
    """
    floor = 2.0**-n_qubits
    return floor + (1 - floor) * math.exp(-(sigma**2) * n_parameters / 4)


def _median_of_others(fidelities: Tensor) -> Tensor:
    """Return the median of each row of (n, n) without its diagonal, (n,); one client agrees with itself."""
    n = len(fidelities)
    if n == 1:
        return fidelities[0]
    others = ~torch.eye(n, dtype=torch.bool)
    return fidelities[others].view(n, n - 1).quantile(0.5, dim=1)
