"""The classical twin of a variational head: same projection and read-out, dense tanh layers in the circuit's place.

A quantum result means nothing until it stands beside a classical model that differs in the circuit and nowhere else
(Bowles, Ahmed and Schuld 2024, arXiv:2403.07059).
"""

from ..errors import ConfigurationError
from ..quantum.lightcone import dead_weights
from .mlp import Mlp
from .model import Head
from .variational import Variational

WIDEST = 256


def matched_classical(head: Head) -> Mlp:
    """Return the `Mlp` with the head's projection, scale and read-out and the dense core nearest in parameter count.

    The core maps the circuit's n inputs to its k observables through tanh, like expectation values in [-1, 1]: either
    one layer (n k + k parameters) or one hidden layer of h units (n h + h + h k + k), whichever is nearest to the
    number of angles that can change an observable. Equal distances go to the smaller core. Projection and read-out
    begin at the same values as the head's under the same seed. Raises `ConfigurationError` for any other head.
    """
    if not isinstance(head, Variational):
        raise ConfigurationError(f"matched_classical replaces the circuit of a Variational head; got {head!r:.100}")
    circuit = head.resolve()
    n, k = circuit.program.n_inputs, len(circuit.observables)
    dead = sum(int(mask.sum()) for mask in dead_weights(circuit.program, circuit.observables).values())
    angles = circuit.program.n_parameters - dead
    cores = {(): n * k + k} | {(h,): n * h + h + h * k + k for h in range(1, WIDEST)}
    nearest = min(cores, key=lambda widths: (abs(cores[widths] - angles), cores[widths]))
    scale = circuit.input_scale if head.input_scale is None else head.input_scale
    return Mlp(hidden=(n, *nearest, k), squash=scale)
