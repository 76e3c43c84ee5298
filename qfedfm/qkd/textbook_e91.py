"""Entangled pairs as the textbooks draw them: E91 and BBM92 as real circuits on PennyLane or Qiskit Aer. For teaching.

A source prepares (|00> + |11>) / sqrt 2 and depolarises it to a Werner state of visibility V; Alice and Bob turn their
qubits by the angle of a direction each chooses at random, and measure. Directions lie in the plane of X and Z, as
angles on the Bloch sphere, so results at a and b agree with probability (1 + V cos(a - b)) / 2. Equal directions make
key with QBER (1 - V) / 2; Ekert's other directions give S = 2 sqrt 2 V (Ekert 1991, doi:10.1103/PhysRevLett.67.661,
whose singlet has the opposite sign; BBM92: Bennett, Brassard and Mermin 1992, doi:10.1103/PhysRevLett.68.557).

Every pair is detected, so this is no model of a link: see `entangled` for key rates over one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .entangled import Chsh, chsh_of_counts
from .estimation import ErrorRate
from .outcomes import Bytes


@dataclass(frozen=True)
class Directions:
    """The directions that each party chooses from, evenly, in radians on the Bloch sphere."""

    alice: tuple[float, ...]
    bob: tuple[float, ...]


EKERT = Directions(alice=(0.0, pi / 4, pi / 2), bob=(pi / 4, pi / 2, 3 * pi / 4))
"""Of E91: two of nine choices are equal and make key, four make CHSH."""
BENNETT_BRASSARD_MERMIN = Directions(alice=(0.0, pi / 2), bob=(0.0, pi / 2))
"""Of BBM92, which are BB84's: half of all choices are equal, and none is left for CHSH."""

CHSH_CHOICES = (0, 0), (0, 2), (2, 0), (2, 2)
"""Ekert's directions of Alice and Bob in the order of `chsh_of_counts`."""

Circuit = Callable[[float, float, float, int, int], tuple[Bytes, Bytes]]
"""(direction of Alice, of Bob, visibility, pairs, seed) -> the bits of both."""


@dataclass(frozen=True, eq=False)
class MeasuredPairs:
    """What became of entangled pairs; arrays (pairs,).

    alice_direction, bob_direction: index into `directions`. alice_bit, bob_bit: 0 or 1.
    """

    directions: Directions
    alice_direction: Bytes
    bob_direction: Bytes
    alice_bit: Bytes
    bob_bit: Bytes

    def sifted(self) -> tuple[Bytes, Bytes]:
        """Return Alice's and Bob's bits where their directions were equal."""
        alice = np.asarray(self.directions.alice)[self.alice_direction]
        same = np.isclose(alice, np.asarray(self.directions.bob)[self.bob_direction])
        return self.alice_bit[same], self.bob_bit[same]

    def qber(self) -> ErrorRate:
        """Return the share of sifted bits that differ, all of them compared, with its interval."""
        alice, bob = self.sifted()
        return ErrorRate(int(np.count_nonzero(alice != bob)), len(alice))

    def chsh(self, confidence: float = 0.95) -> Chsh:
        """Return the CHSH value with its interval; other directions than Ekert's raise `ConfigurationError`."""
        if self.directions != EKERT:
            raise ConfigurationError(
                f"CHSH needs the directions of E91, EKERT; these pairs were measured in {self.directions}"
            )
        alike = self.alice_bit == self.bob_bit
        chosen = [(self.alice_direction == a) & (self.bob_direction == b) for a, b in CHSH_CHOICES]
        same = [np.count_nonzero(alike & choice) for choice in chosen]
        return chsh_of_counts(same, [np.count_nonzero(~alike & choice) for choice in chosen], confidence)


def measure_with_pennylane(
    directions: Directions, pairs: int, visibility: float, generator: np.random.Generator
) -> MeasuredPairs:
    """Measure `pairs` entangled pairs in PennyLane's density matrix; visibility: of the Werner state, 0 to 1."""
    return _measure(_pennylane, directions, pairs, visibility, generator)


def measure_with_aer(
    directions: Directions, pairs: int, visibility: float, generator: np.random.Generator
) -> MeasuredPairs:
    """Measure `pairs` entangled pairs in Qiskit Aer with a noise model; visibility: of the Werner state, 0 to 1."""
    return _measure(_aer, directions, pairs, visibility, generator)


def _measure(
    circuit: Circuit, directions: Directions, pairs: int, visibility: float, generator: np.random.Generator
) -> MeasuredPairs:
    """Draw the directions and run `circuit` once for each two of them, one shot a pair."""
    if pairs < 1 or not 0 <= visibility <= 1:
        raise ConfigurationError(f"expected at least one pair and a visibility of 0 to 1; got {pairs} and {visibility}")
    alice = generator.integers(0, len(directions.alice), pairs, dtype=np.uint8)
    bob = generator.integers(0, len(directions.bob), pairs, dtype=np.uint8)
    bits = np.zeros((2, pairs), np.uint8)
    for a, b in np.ndindex(len(directions.alice), len(directions.bob)):
        chosen = np.flatnonzero((alice == a) & (bob == b))
        if len(chosen):
            seed = int(generator.integers(0, 1 << 31))
            bits[:, chosen] = circuit(directions.alice[a], directions.bob[b], visibility, len(chosen), seed)
    return MeasuredPairs(directions, alice, bob, bits[0], bits[1])


def _pennylane(a: float, b: float, visibility: float, pairs: int, seed: int) -> tuple[Bytes, Bytes]:
    """Depolarising one qubit with X, Y or Z, each with probability (1 - V) / 4, makes the Werner state."""
    import pennylane as qml

    def pair() -> Any:
        qml.Hadamard(wires=0)
        qml.CNOT(wires=[0, 1])
        qml.DepolarizingChannel(0.75 * (1 - visibility), wires=1)
        qml.RY(-a, wires=0)
        qml.RY(-b, wires=1)
        return qml.sample(wires=[0, 1])

    circuit = qml.set_shots(qml.QNode(pair, qml.device("default.mixed", wires=2, seed=seed)), shots=pairs)
    sample: NDArray[np.uint8] = np.asarray(circuit()).reshape(pairs, 2).astype(np.uint8)
    return sample[:, 0], sample[:, 1]


def _aer(a: float, b: float, visibility: float, pairs: int, seed: int) -> tuple[Bytes, Bytes]:
    """Run the same with the noise on an identity gate, which stands for the way to Bob."""
    from qiskit import QuantumCircuit
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(1 - visibility, 1), ["id"])
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.id(1)
    circuit.ry(-a, 0)
    circuit.ry(-b, 1)
    circuit.measure([0, 1], [0, 1])
    simulator = AerSimulator(method="density_matrix", noise_model=noise, seed_simulator=seed)
    memory = simulator.run(circuit, shots=pairs, memory=True).result().get_memory(0)  # Bob's digit first
    bits = np.array([[int(digit) for digit in shot] for shot in memory], dtype=np.uint8)
    return bits[:, 1], bits[:, 0]
