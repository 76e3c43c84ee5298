"""BB84 as the textbooks draw it: real circuits, one qubit a pulse, on PennyLane or on Qiskit Aer. For teaching.

Alice flips her qubit for a 1 and turns it by the angle of her basis (0 or pi/2 about Y, the latter in the place of the
usual Hadamard); the channel depolarises it; Bob turns it back by the angle of his own basis and measures. Eve, if she
is there, turns it by hers, measures, and turns it back. Nothing is lost. It is slow, some thousand pulses a second, and
agrees statistically with `transmit` on the same link. A depolarising channel with error e in every basis leaves the
qubit alone with probability 1 - 3 e / 2 and else applies X, Y or Z.
"""

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .eavesdroppers import ANGLES, InterceptResend
from .link import Link, Real, SinglePhotons
from .outcomes import Bytes
from .pulses import AliceRecord, BobRecord, Transmission, Truth

QUBITS = 200
"""Qubits in one Aer circuit; they never meet, so its matrix product states cost as much as so many single qubits."""

Circuit = Callable[[Bytes, Real, Real, Real, NDArray[np.bool_], float, int], tuple[Bytes, Bytes]]


def transmit_with_pennylane(
    link: Link, pulses: int, generator: np.random.Generator, eve: InterceptResend | None = None
) -> Transmission:
    """Send `pulses` qubits through PennyLane's density matrix, all in one call; see `textbook` for the link."""
    return _transmit(_pennylane, link, pulses, generator, eve)


def transmit_with_aer(
    link: Link, pulses: int, generator: np.random.Generator, eve: InterceptResend | None = None
) -> Transmission:
    """Send `pulses` qubits through Qiskit Aer with a noise model, 200 to a circuit; see `textbook` for the link."""
    return _transmit(_aer, link, pulses, generator, eve)


def _transmit(
    circuit: Circuit, link: Link, pulses: int, generator: np.random.Generator, eve: InterceptResend | None
) -> Transmission:
    """Draw what the parties choose, let `circuit` measure, and return their records.

    A link with another source, with loss, darkness, after-pulses or dead time raises `ConfigurationError`.
    """
    d = link.detectors
    if (
        not isinstance(link.source, SinglePhotons)
        or link.transmittance() < 1
        or d.dark_count
        or d.after_pulsing
        or link.dead_gates
    ):
        raise ConfigurationError(
            "a textbook circuit has one qubit for each pulse and a click for each qubit: expected single photons, no "
            "loss and detectors with misalignment at most, as in textbook(); for any other link call transmit"
        )
    if pulses < 1:
        raise ConfigurationError(f"a transmission has at least one pulse, got {pulses}")
    alice_basis, bob_basis = (generator.random((2, pulses)) >= link.basis_probability).astype(np.uint8)
    bit = generator.integers(0, 2, pulses, dtype=np.uint8)
    angles = np.asarray(ANGLES)
    present = generator.random(pulses) < (0.0 if eve is None else eve.fraction)
    eve_angle = np.full(pulses, pi / 4)
    if eve is not None and eve.basis == "random":
        eve_angle = angles[generator.integers(0, 2, pulses)]
    seed = int(generator.integers(0, 1 << 31))
    guess, seen = circuit(bit, angles[alice_basis], eve_angle, angles[bob_basis], present, d.misalignment, seed)

    sent = np.bincount(alice_basis, minlength=2)[:, None]
    zeros, pulse = np.zeros(pulses, np.uint8), np.arange(pulses)
    right = np.where(present, (1 + np.cos(eve_angle - angles[alice_basis])) / 2, 0.5)
    return Transmission(
        pulses,
        AliceRecord(pulse, alice_basis, bit, zeros, sent),
        BobRecord(pulse, bob_basis, seen),
        Truth(zeros + np.uint8(1), guess, right.astype(np.float32), zeros > 0, after_pulses=0, blind=0),
    )


def _pennylane(
    bit: Bytes, alice: Real, eve: Real, bob: Real, present: NDArray[np.bool_], error: float, seed: int
) -> tuple[Bytes, Bytes]:
    """Return Eve's and Bob's bits. Wire 0 is the photon; Eve notes on wire 1, by a NOT that it controls."""
    import pennylane as qml

    def pulse() -> Any:
        qml.RX(pi * bit, wires=0)
        qml.RY(alice, wires=0)
        qml.RY(-eve, wires=0)
        qml.CRX(pi * present, wires=[0, 1])
        qml.RY(eve, wires=0)
        qml.DepolarizingChannel(1.5 * error, wires=0)
        qml.RY(-bob, wires=0)
        return qml.sample(wires=[0, 1])

    circuit = qml.set_shots(qml.QNode(pulse, qml.device("default.mixed", wires=2, seed=seed)), shots=1)
    sample = np.asarray(circuit()).reshape(bit.size, 2).astype(np.uint8)
    return sample[:, 1], sample[:, 0]


def _aer(
    bit: Bytes, alice: Real, eve: Real, bob: Real, present: NDArray[np.bool_], error: float, seed: int
) -> tuple[Bytes, Bytes]:
    """Return Eve's and Bob's bits. The noise sits on the identity gate, which stands for the channel."""
    from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(2 * error, 1), ["id"])
    circuits = []
    for first in range(0, bit.size, QUBITS):
        size = min(QUBITS, bit.size - first)
        photons = QuantumRegister(size, "photon")
        hers, his = ClassicalRegister(size, "eve"), ClassicalRegister(size, "bob")
        circuit = QuantumCircuit(photons, hers, his)
        for qubit, pulse in enumerate(range(first, first + size)):
            if bit[pulse]:
                circuit.x(qubit)
            circuit.ry(alice[pulse], qubit)
            if present[pulse]:
                circuit.ry(-eve[pulse], qubit)
                circuit.measure(photons[qubit], hers[qubit])
                circuit.ry(eve[pulse], qubit)
            circuit.id(qubit)
            circuit.ry(-bob[pulse], qubit)
            circuit.measure(photons[qubit], his[qubit])
        circuits.append(circuit)
    simulator = AerSimulator(method="matrix_product_state", noise_model=noise, seed_simulator=seed)
    result = simulator.run(circuits, shots=1, memory=True).result()
    memories = [result.get_memory(index)[0].split() for index in range(len(circuits))]  # "bob eve", last qubit first
    seen, guess = (
        np.array([int(digit) for memory in memories for digit in reversed(memory[register])], dtype=np.uint8)
        for register in (0, 1)
    )
    return guess, seen
