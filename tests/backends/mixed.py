"""A second route to what a noisy machine reads: PennyLane's default.mixed, one Pauli word at a time.

Channels are PennyLane's own where it has them; depolarising of several wires, and misreading, are Kraus operators
written out here. Nothing of the simulator is used.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane import numpy as pnp
from reference import OPERATIONS

from qfedfm.backends import NoiseModel
from qfedfm.quantum.program import Observable, PauliWord, Program

PAULIS = [np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])]
TURNS = {"X": [qml.H], "Y": [lambda wire: qml.adjoint(qml.S(wire)), qml.H], "Z": []}


def mixed_expectations(program: Program, noise: NoiseModel, angles: Any, measured: Sequence[Observable]) -> Any:
    """Return (rows, observables) for the angles of each slot, (rows, slots): NumPy's, or autograd's for gradients."""
    if len(angles) == 1:  # default.mixed takes a batch of one for no batch
        return mixed_expectations(program, noise, pnp.concatenate([angles, angles]), measured)[:1]
    device = qml.device("default.mixed", wires=program.n_wires)
    node = qml.QNode(_circuit, device, interface="autograd", diff_method="backprop")
    words = {word for terms in measured for _, word in terms if word}
    ones = np.ones(len(angles))
    values = {(): ones} | {word: ones * node(program, noise, pnp.transpose(angles), word) for word in words}
    return pnp.stack([sum(factor * values[word] for factor, word in terms) for terms in measured], axis=1)


def mixed_gradient(program: Program, noise: NoiseModel, angles: Any, measured: Sequence[Observable], mix: Any) -> Any:
    """Return the gradient of sum(mix * values) in the angles, (rows, slots)."""

    def total(given: Any) -> Any:
        return pnp.sum(mix * mixed_expectations(program, noise, given, measured))

    with warnings.catch_warnings():  # autograd drops the imaginary zeros of real derivatives, and says so
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        return qml.grad(total)(pnp.array(angles, requires_grad=True))


def channels(program: Program, noise: NoiseModel, angles: Any) -> None:
    """Queue the gates of a program, each followed by its channels; angles: (slots, rows)."""
    for wire in range(program.n_wires):
        qml.Identity(wire)
    for name, wires, slots in program.gates:
        OPERATIONS[name](*(angles[slot] if isinstance(slot, int) else slot for slot in slots), wires=list(wires))
        after = noise.after(name)
        if len(wires) == 1:
            qml.DepolarizingChannel(after.depolarising, wires=wires[0])
        else:
            qml.QubitChannel(depolarising(after.depolarising, len(wires)), wires=list(wires))
        for wire in wires:
            qml.AmplitudeDamping(after.amplitude_damping, wires=wire)
            qml.PhaseDamping(after.phase_damping, wires=wire)
            qml.BitFlip(after.bit_flip, wires=wire)


def _circuit(program: Program, noise: NoiseModel, angles: Any, word: PauliWord) -> Any:
    channels(program, noise, angles)
    for wire, letter in word:
        for turn in TURNS[letter]:
            turn(wire)
        p01, p10 = (p[wire] if isinstance(p, tuple) else p for p in (noise.p01, noise.p10))
        chances = {(0, 0): 1 - p10, (1, 0): p10, (0, 1): p01, (1, 1): 1 - p01}
        qml.QubitChannel([math.sqrt(p) * np.outer(np.eye(2)[a], np.eye(2)[b]) for (a, b), p in chances.items()], wire)
    return qml.expval(qml.prod(*(qml.Z(wire) for wire, _ in word)))


def depolarising(p: float, wires: int) -> list[Any]:
    """Return Kraus operators: each Pauli word but the identity with probability p / (4^wires - 1)."""
    words = [np.eye(1)]
    for _ in range(wires):
        words = [np.kron(word, pauli) for word in words for pauli in PAULIS]
    chances = [1 - p] + [p / (4**wires - 1)] * (4**wires - 1)
    return [math.sqrt(chance) * word for chance, word in zip(chances, words, strict=True)]
