"""The classical twin of a variational head: same projection and read-out, dense tanh layers in the circuits' place.

A quantum result means nothing until it stands beside a classical model that differs in the circuit and nowhere else
(Bowles, Ahmed and Schuld 2024, arXiv:2403.07059).
"""

from dataclasses import replace
from typing import overload

from ..errors import ConfigurationError
from ..quantum.lightcone import dead_weights
from ..quantum.program import Circuit
from .mlp import Mlp
from .model import Head
from .personalised import Personalised
from .variational import Parallel, Variational

WIDEST = 256


@overload
def matched_classical(head: Personalised) -> Personalised: ...
@overload
def matched_classical(head: Variational | Parallel) -> Mlp: ...
@overload
def matched_classical(head: Head) -> Mlp | Personalised: ...
def matched_classical(head: Head) -> Mlp | Personalised:
    """Return the `Mlp` with the head's projection, scale and read-out and the dense core nearest in parameter count.

    The core maps the circuits' n inputs to their k observables through tanh, like expectation values in [-1, 1]: either
    one layer (n k + k parameters) or one hidden layer of h units (n h + h + h k + k), whichever is nearest to the
    number of angles that can change an observable. Equal distances go to the smaller core. Projection and read-out,
    linear layers or modules, begin at the same values as the head's under the same seed. Several circuits side by side
    have one core. The twin of a personalised head is personalised in the same parts. Raises `ConfigurationError` for
    circuits side by side with different scales, and for any other head.
    """
    if isinstance(head, Personalised):
        return replace(head, head=matched_classical(head.head))
    if not isinstance(head, Variational | Parallel):
        raise ConfigurationError(
            f"matched_classical replaces the circuit of a Variational or Parallel head; got {head!r:.100}"
        )
    heads = head.circuits if isinstance(head, Parallel) else (head,)
    circuits = [each.resolve() for each in heads]
    scales = {each.scale(circuit) for each, circuit in zip(heads, circuits, strict=True)}
    if len(scales) > 1:
        raise ConfigurationError(
            f"matched_classical: the circuits of this head take angles up to {sorted(scales)} radians, and a classical "
            "core has one scale: give every circuit the same input_scale, or compare with arms of your own"
        )
    n, k = sum(c.program.n_inputs for c in circuits), sum(len(c.observables) for c in circuits)
    angles = sum(map(_live_angles, circuits))
    cores = {(): n * k + k} | {(h,): n * h + h + h * k + k for h in range(1, WIDEST)}
    nearest = min(cores, key=lambda widths: (abs(cores[widths] - angles), cores[widths]))
    return Mlp(hidden=(n, *nearest, k), squash=scales.pop(), before=head.before, after=head.after)


def _live_angles(circuit: Circuit) -> int:
    dead = dead_weights(circuit.program, circuit.observables)
    return circuit.program.n_parameters - sum(int(mask.sum()) for mask in dead.values())
