"""Noisy machines, simulated exactly: every gate is followed by the channels of a `NoiseModel`.

Without shots values have no statistical error and torch differentiates them; with shots as many outcomes are drawn as a
machine would give. What runs is what a machine would be sent: gates that cannot change an observable are left out, as
`flatten` does, so they add no noise either.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..declaration import declared
from ..errors import BackendError
from ..quantum.lightcone import reachable
from ..quantum.program import Observable, Program
from ..quantum.readout import readings
from ..quantum.statevector import check_arguments
from .contract import Array, Machine, Session
from .flat import ANGLES
from .measurement import draw, estimates
from .noise import NoiseModel, as_read, outcomes
from .pauli_evolution import MEMORY_BUDGET, Evolution
from .pauli_stages import plan
from .simulated import Compiled, LocalMachine, ShotNumber, without_error

MAX_WIRES = 8


@declared
class Noisy:
    """A noisy machine of up to 8 qubits, simulated; shots: of a row in each measurement setting, None for none."""

    noise: NoiseModel = NoiseModel()
    shots: ShotNumber | None = None

    def connect(self, session: Session) -> Machine:
        """Return the simulator."""
        return NoisyMachine(self.noise, session) if self.shots is None else NoisyShotsMachine(self.noise, session)


def simulate_noisy(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    observables: Sequence[Observable],
    noise: NoiseModel,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return the expectation values that a noisy machine reads on average, (clients, rows, len(observables)).

    Differentiable through inputs and weights, which are those of `quantum.simulate`. Every gate of `program` runs.
    budget: bytes to hold in states at once; chunks keep to it. Raises `CircuitError` for wrong arguments, and
    `BackendError` beyond 8 qubits, over budget, and for misreading probabilities of another number of wires.
    """
    clients, rows, real, device = check_arguments(program, inputs, weights)
    evolution = _observed(program, tuple(observables), noise, real, device)
    return evolution(inputs, weights, clients, rows, budget)


class DensityMatrices(LocalMachine):
    """What both machines share: the noise, and what it fits."""

    def __init__(self, noise: NoiseModel, session: Session) -> None:
        super().__init__(session)
        self.noise = noise

    def compile(self, program: Program, observables: Sequence[Observable]) -> Compiled:
        """Return a flat program with its measurement settings; raise `BackendError` beyond 8 qubits."""
        check_wires(program, self.noise)
        return super().compile(program, observables)


class NoisyMachine(DensityMatrices):
    """See `Noisy`; without shots."""

    name = "noisy"

    def execute(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        observables: Sequence[Observable],
    ) -> Tensor:
        """Return `simulate_noisy` of the gates that reach `observables`."""
        return simulate_noisy(reachable(program, tuple(observables)), inputs, weights, observables, self.noise)

    def measure(
        self,
        compiled: Compiled,
        angles: Array,
        shots: NDArray[np.int64] | None,
        key: str,  # noqa: ARG002
    ) -> tuple[Array, Array, dict[str, object]]:
        """Return exact values; variances are 0."""
        if shots is not None:
            given = int(shots.max())
            raise BackendError(f"Noisy(...) without shots takes none; got {given}: use Noisy(..., shots={given})")
        inputs = {ANGLES: torch.from_numpy(angles)[None]}
        with torch.no_grad():
            values = simulate_noisy(compiled.program, inputs, {}, compiled.observables, self.noise)[0]
        return without_error(values, len(angles))


class NoisyShotsMachine(DensityMatrices):
    """See `Noisy`; with shots."""

    name = "noisy_shots"

    def measure(
        self, compiled: Compiled, angles: Array, shots: NDArray[np.int64] | None, key: str
    ) -> tuple[Array, Array, dict[str, object]]:
        """Draw the outcomes of each setting, misread ones included, from their exact probabilities."""
        if shots is None:
            raise BackendError("Noisy(..., shots=...) needs a number of shots; use Noisy(...) without for exact values")
        generator = self.generator(key)
        exact = outcome_probabilities(compiled, angles, self.noise)
        found = [draw(probabilities, shots, generator) for probabilities in exact]
        values, variances = estimates(compiled.readings, found, shots)
        return values, variances, {}


def outcome_probabilities(compiled: Compiled, angles: Array, noise: NoiseModel) -> list[Array]:
    """Return for each measurement setting the probabilities of its outcomes as read, (rows, 2^k)."""
    program = compiled.program
    found = [outcomes(noise, program.n_wires, setting) for setting in compiled.readings.settings]
    words = sorted({word for some, _ in found for word in some})
    places = {word: place for place, word in enumerate(words)}
    inputs = {ANGLES: torch.from_numpy(angles)[None]}
    _, rows, real, device = check_arguments(program, inputs, {})
    evolution = _evolution(program, tuple(words), noise, real, device)
    with torch.no_grad():
        read = evolution(inputs, {}, 1, rows, MEMORY_BUDGET)[0]
    values = read.double().expand(len(angles), -1).numpy()
    return [values[:, [places[word] for word in some]] @ matrix.T for some, matrix in found]


def check_wires(program: Program, noise: NoiseModel) -> None:
    """Raise `BackendError` for more than 8 qubits, or for misreading probabilities of another number of wires."""
    if program.n_wires > MAX_WIRES:
        raise BackendError(
            f"Noisy takes at most {MAX_WIRES} qubits, whose states have 4^{MAX_WIRES} numbers; "
            f"this circuit has {program.n_wires}"
        )
    noise.misread(program.n_wires)


@lru_cache(maxsize=64)
def _observed(
    program: Program, observables: tuple[Observable, ...], noise: NoiseModel, real: torch.dtype, device: torch.device
) -> Evolution:
    check_wires(program, noise)
    readings(program.n_wires, observables)  # refuses words that have no meaning
    words, factors = as_read(noise, program.n_wires, observables)
    return Evolution(program, plan(program, noise), words, factors, real, device)


@lru_cache(maxsize=64)
def _evolution(
    program: Program, words: tuple[int, ...], noise: NoiseModel, real: torch.dtype, device: torch.device
) -> Evolution:
    return Evolution(program, plan(program, noise), words, None, real, device)
