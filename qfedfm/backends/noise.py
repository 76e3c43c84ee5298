"""Noise models: which channels follow a gate, and what is misread.

After a gate on k wires come, in this order,

    depolarising       with probability p one of the 4^k - 1 Pauli words other than the identity, all equally likely
    amplitude damping  on each wire: |1> decays to |0> with probability gamma
    phase damping      on each wire: K0 = diag(1, sqrt(1 - gamma)), K1 = diag(0, sqrt(gamma))
    bit flip           on each wire: X with probability p

(Nielsen and Chuang 2010, section 8.3). The last three, and depolarising after gates on one wire, are PennyLane's
AmplitudeDamping, PhaseDamping, BitFlip and DepolarizingChannel with the same parameters. Qiskit's amplitude and phase
damping have the same parameters too; its `depolarizing_error(x, k)`, which mixes in the fully mixed state, is ours at

    p = x (1 - 4^-k),    so x = 4/3 p after gates on one wire and x = 16/15 p after gates on two.

Outcomes are misread independently on each wire: 1 as 0 with probability p01, 0 as 1 with probability p10 (the first
digit is what is read). Turning a wire to the axis that is measured belongs to the reading and adds no other noise.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import BackendError, ConfigurationError, nearest
from ..quantum.gates import GATES
from ..quantum.program import Observable
from ..quantum.stages import Real
from .measurement import Reading
from .pauli_transfer import number

Probability = Annotated[float, Field(ge=0, le=1)]


@declared
class GateNoise:
    """Strengths of what follows a gate, each from 0 (nothing) to 1; definitions above."""

    depolarising: Probability = 0.0
    amplitude_damping: Probability = 0.0
    phase_damping: Probability = 0.0
    bit_flip: Probability = 0.0

    def depolarise(self, wires: int) -> Real:
        """Return the diagonal of depolarising on that many wires, (4^wires,)."""
        shrink = np.full(4**wires, 1 - self.depolarising * 4**wires / (4**wires - 1))
        shrink[0] = 1
        return shrink

    def on_each_wire(self) -> Real:
        """Return the matrix of amplitude damping, phase damping and bit flip on one wire, (4, 4)."""
        gamma, coherence = self.amplitude_damping, np.sqrt(1 - self.phase_damping)
        damped = np.diag([1, np.sqrt(1 - gamma), np.sqrt(1 - gamma), 1 - gamma])
        damped[3, 0] = gamma
        flipped = 1 - 2 * self.bit_flip
        return np.asarray(np.diag([1, 1, flipped, flipped]) @ np.diag([1, coherence, coherence, 1]) @ damped)


@declared
class NoiseModel:
    """Noise of all gates and of the reading.

    one_qubit, two_qubit: after gates on one wire, and after those on two or three. p01, p10: probability of reading 1
    as 0 and 0 as 1, one for all wires or one for each. ideal: names of gates without noise, such as ("rz", "p") where a
    machine only shifts the phase of its pulses.
    """

    one_qubit: GateNoise = GateNoise()
    two_qubit: GateNoise = GateNoise()
    p01: Probability | tuple[Probability, ...] = 0.0
    p10: Probability | tuple[Probability, ...] = 0.0
    ideal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [
            f"NoiseModel.ideal: no gate is called '{n}'{nearest(n, GATES)}" for n in self.ideal if n not in GATES
        ]
        if unknown:
            raise ConfigurationError(unknown)

    def after(self, gate: str) -> GateNoise:
        """Return what follows a gate of that name."""
        if gate in self.ideal:
            return GateNoise()
        return self.one_qubit if GATES[gate].wires == 1 else self.two_qubit

    def misread(self, n_wires: int) -> Real:
        """Return P(read | true) for each wire, (n_wires, 2, 2); raise `BackendError` for another number of wires."""
        chances = []
        for name, given in (("p01", self.p01), ("p10", self.p10)):
            if isinstance(given, tuple) and len(given) != n_wires:
                raise BackendError(f"NoiseModel.{name} has {len(given)} wires and the circuit {n_wires}: give one each")
            chances.append(np.broadcast_to(given, n_wires))
        p01, p10 = chances
        return np.array([[1 - p10, p01], [p10, 1 - p01]]).transpose(2, 0, 1)


def as_read(noise: NoiseModel, n_wires: int, observables: Sequence[Observable]) -> tuple[list[int], Real]:
    """Return Pauli words and (K, words): <O_k> as read is their sum with these factors.

    A misread letter s becomes p01 - p10 + (1 - p01 - p10) s on average, and a word the product of that over its wires.
    """
    misread = noise.misread(n_wires)
    offset, slope = misread[:, 0, 1] - misread[:, 1, 0], 1 - misread[:, 0, 1] - misread[:, 1, 0]
    found: dict[int, Real] = {}
    for k, observable in enumerate(observables):
        for factor, word in observable:
            for kept in itertools.product((False, True), repeat=len(word)):
                pairs = list(zip(word, kept, strict=True))
                part = factor * np.prod([slope[wire] if keep else offset[wire] for (wire, _), keep in pairs])
                if part or all(kept):
                    place = number(n_wires, tuple(one for one, keep in pairs if keep))
                    found.setdefault(place, np.zeros(len(observables)))[k] += part
    return list(found), np.stack(list(found.values()), axis=1)


def outcomes(noise: NoiseModel, n_wires: int, setting: Reading) -> tuple[list[int], Real]:
    """Return Pauli words and (2^k, 2^k): the probability of each outcome of a setting is their sum with these factors.

    With no error P(b) = 2^-k sum_S (-1)^(b.S) <word on the wires S>; reading is one more 2 x 2 matrix a wire.
    """
    words, matrix, misread = [0], np.eye(1), noise.misread(n_wires)
    for wire, letter in zip(setting.wires, setting.letters, strict=True):
        words = [word + number(n_wires, part) for word in words for part in ((), ((wire, letter),))]
        matrix = np.kron(matrix, misread[wire] @ np.array([[0.5, 0.5], [0.5, -0.5]]))
    return words, matrix
