"""The gates a program may hold, each as a spectrum in a frame.

Names are those of OpenQASM 3's `stdgates.inc`, with `rxx`, `ryy` and `rzz` beside them. Every gate but the swaps is
diagonal once each of its wires is turned to one axis:

    U(angle) = V exp(i angle diag(h)) V^dagger,    V = V_axis0 (x) V_axis1 (x) ...,

so a letter for each wire (X, Y or Z; H for the axis of the Hadamard gate) and the real vector h say all there is to
know: the matrix for a whole batch of angles at once, the period, and what the gate commutes with. Gates that are not
here are decomposed when a circuit is lowered.
"""

import cmath
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CircuitError

Complex = NDArray[np.complex128]

_S = math.sqrt(0.5)
_COS, _SIN = math.cos(math.pi / 8), math.sin(math.pi / 8)
FRAMES: dict[str, Complex] = {
    "X": np.array([[_S, _S], [_S, -_S]], dtype=complex),
    "Y": np.array([[_S, _S], [1j * _S, -1j * _S]]),
    "Z": np.eye(2, dtype=complex),
    "H": np.array([[_COS, -_SIN], [_SIN, _COS]], dtype=complex),
}
"""For each axis the matrix whose columns are its +1 and -1 eigenvectors."""


@dataclass(frozen=True)
class GateKind:
    """What is known about one gate.

    axes: a letter of `FRAMES` for each wire, "" for a gate that is only a permutation. spectrum: the vector h above
    over the basis states of the gate's wires, the first being the most significant. angles: 0 (the gate is U(1)) or 1.
    permutation: basis state j goes to permutation[j]; empty unless the gate does nothing else.
    """

    wires: int
    axes: str = ""
    spectrum: tuple[float, ...] = ()
    angles: int = 0
    permutation: tuple[int, ...] = ()

    @property
    def gaps(self) -> tuple[float, ...]:
        """For each angle the smallest non-zero gap between eigenvalues of its generator; its period is 2 pi over it."""
        levels = sorted(set(self.spectrum))
        return (min(b - a for a, b in pairwise(levels)),) if self.angles else ()

    @property
    def diagonal(self) -> bool:
        """Whether the gate is diagonal in the computational basis."""
        return bool(self.axes) and set(self.axes) == {"Z"}

    @cached_property
    def frame(self) -> Complex:
        """The matrix V, (2^wires, 2^wires)."""
        frame: NDArray[Any] = np.eye(1, dtype=complex)
        for axis in self.axes:
            frame = np.kron(frame, FRAMES[axis])
        return frame

    def unitary(self, angle: float = 1.0) -> Complex:
        """Return the matrix at a constant angle in radians (1 for a gate without an angle), (2^wires, 2^wires)."""
        if self.permutation:
            return np.eye(2**self.wires, dtype=complex)[:, list(self.permutation)]
        phases = np.array([_phase(angle * h) for h in self.spectrum])
        return np.asarray((self.frame * phases) @ self.frame.conj().T)

    def matrix(self, *angles: Tensor) -> Tensor:
        """Return the matrix: angles of shape (...) in radians to (..., 2^wires, 2^wires), complex.

        Without angles it is complex128 of shape (2^wires, 2^wires).
        """
        if len(angles) != self.angles:
            raise CircuitError(f"this gate takes {self.angles} angles; got {len(angles)}")
        if not angles:
            return torch.from_numpy(self.unitary())
        turned = angles[0].unsqueeze(-1) * torch.tensor(self.spectrum).to(angles[0])
        phases = torch.complex(turned.cos(), turned.sin())
        frame = torch.from_numpy(self.frame).to(phases)
        return (frame * phases.unsqueeze(-2)) @ frame.mH


def _phase(angle: float) -> complex:
    """Return exp(i angle), exact for multiples of a quarter turn."""
    quarters = angle / (math.pi / 2)
    return (1, 1j, -1, -1j)[int(quarters) % 4] if quarters.is_integer() else cmath.exp(1j * angle)


def _controlled(controls: int, *values: float) -> tuple[float, ...]:
    """Return the spectrum of a gate with that many controls: `values` where all are 1, nothing elsewhere."""
    return tuple([0.0] * ((2**controls - 1) * len(values))) + values


_HALF = (-0.5, 0.5)
_PI = math.pi
GATES: dict[str, GateKind] = {
    "id": GateKind(1, "Z", (0.0, 0.0)),
    "x": GateKind(1, "X", (0.0, _PI), permutation=(1, 0)),
    "y": GateKind(1, "Y", (0.0, _PI)),
    "z": GateKind(1, "Z", (0.0, _PI)),
    "h": GateKind(1, "H", (0.0, _PI)),
    "s": GateKind(1, "Z", (0.0, _PI / 2)),
    "sdg": GateKind(1, "Z", (0.0, -_PI / 2)),
    "t": GateKind(1, "Z", (0.0, _PI / 4)),
    "tdg": GateKind(1, "Z", (0.0, -_PI / 4)),
    "sx": GateKind(1, "X", (0.0, _PI / 2)),
    "sxdg": GateKind(1, "X", (0.0, -_PI / 2)),
    "rx": GateKind(1, "X", _HALF, angles=1),
    "ry": GateKind(1, "Y", _HALF, angles=1),
    "rz": GateKind(1, "Z", _HALF, angles=1),
    "p": GateKind(1, "Z", (0.0, 1.0), angles=1),
    "cx": GateKind(2, "ZX", _controlled(1, 0.0, _PI), permutation=(0, 1, 3, 2)),
    "cy": GateKind(2, "ZY", _controlled(1, 0.0, _PI)),
    "cz": GateKind(2, "ZZ", _controlled(1, 0.0, _PI)),
    "ch": GateKind(2, "ZH", _controlled(1, 0.0, _PI)),
    "swap": GateKind(2, permutation=(0, 2, 1, 3)),
    "crx": GateKind(2, "ZX", _controlled(1, *_HALF), angles=1),
    "cry": GateKind(2, "ZY", _controlled(1, *_HALF), angles=1),
    "crz": GateKind(2, "ZZ", _controlled(1, *_HALF), angles=1),
    "cp": GateKind(2, "ZZ", _controlled(1, 0.0, 1.0), angles=1),
    "rxx": GateKind(2, "XX", (-0.5, 0.5, 0.5, -0.5), angles=1),
    "ryy": GateKind(2, "YY", (-0.5, 0.5, 0.5, -0.5), angles=1),
    "rzz": GateKind(2, "ZZ", (-0.5, 0.5, 0.5, -0.5), angles=1),
    "ccx": GateKind(3, "ZZX", _controlled(2, 0.0, _PI), permutation=(0, 1, 2, 3, 4, 5, 7, 6)),
    "cswap": GateKind(3, permutation=(0, 1, 2, 3, 4, 6, 5, 7)),
}
"""Every gate by name."""
