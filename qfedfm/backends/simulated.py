"""Exact expectation values, and the same with a finite number of shots, on the batched state vector.

`Exact` is what every federation runs on unless told otherwise. `Shots` prepares the same exact states and draws as many
outcomes as a perfect machine would give, so that its only error is statistical.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..errors import BackendError
from ..quantum.measure import probabilities
from ..quantum.program import Gate, Observable, Program
from ..quantum.statevector import simulate
from ..seeds import stream
from .contract import Array, Cost, Handle, Machine, Measured, Session, ShotCounts, shot_counts
from .flat import ANGLES
from .measurement import Reading, Readings, draw, estimates, readings

ShotNumber = Annotated[int, Field(ge=1)]
TURNS = {"X": ("h",), "Y": ("sdg", "h"), "Z": ()}
"""Gates that turn the axis of a letter to Z before a wire is read."""


@declared
class Exact:
    """Expectation values without statistical error, differentiated by torch."""

    @property
    def shots(self) -> None:
        """No shots."""
        return

    def connect(self, session: Session) -> Machine:
        """Return the simulator."""
        return ExactMachine(session)


@declared
class Shots:
    """A perfect machine with so many shots in each measurement setting of a row, simulated."""

    shots: ShotNumber = 1024

    def connect(self, session: Session) -> Machine:
        """Return the simulator."""
        return ShotsMachine(session)


class LocalMachine(ABC):
    """A simulator in this process: a submission is carried out at once and kept until it is collected.

    A subclass says how rows of angles become values; handles of a process that has ended cannot be collected.
    """

    name: str

    def __init__(self, session: Session) -> None:
        self.session = session
        self._waiting: dict[str, Measured] = {}

    def submit(self, compiled: "Compiled", angles: Array, shots: ShotCounts, key: str) -> Handle:
        """Carry out a submission."""
        expected = len(compiled.program.slots)
        if angles.ndim != 2 or angles.shape[1] != expected:
            raise BackendError(f"{self.name}: expected angles (rows, {expected}); got {angles.shape}")
        counts = shot_counts(shots, len(angles))
        values, variances, metadata = self.measure(compiled, angles, None if shots is None else counts, key)
        cost = self.estimate(compiled, len(angles), shots)
        self._waiting[key] = Measured(values, variances, counts * len(compiled.readings.settings), cost, metadata)
        return Handle(self.name, key, (), len(angles))

    def collect(self, handle: Handle) -> Measured:
        """Return what was measured; once."""
        try:
            return self._waiting.pop(handle.key)
        except KeyError:
            raise BackendError(
                f"{self.name} holds no submission '{handle.key}': a simulation lives in the process that began it, "
                "and is collected once; submit it again"
            ) from None

    def compile(self, program: Program, observables: Sequence[Observable]) -> "Compiled":
        """Return a flat program with its measurement settings."""
        return Compiled(program, tuple(observables), readings(observables))

    def estimate(self, compiled: "Compiled", rows: int, shots: ShotCounts) -> Cost:
        """Return what a submission would take."""
        settings = len(compiled.readings.settings)
        return Cost(rows * settings, int(shot_counts(shots, rows).sum()) * settings)

    @abstractmethod
    def measure(
        self, compiled: "Compiled", angles: Array, shots: NDArray[np.int64] | None, key: str
    ) -> tuple[Array, Array, dict[str, object]]:
        """Return values and variances (N, K), and metadata."""

    def generator(self, key: str) -> np.random.Generator:
        """Return the random stream of a submission."""
        return stream(self.session.seed, "shots", self.name, key)


class Compiled:
    """A flat program with what is measured; `turned` are the programs of its settings, each ending in the Z basis."""

    def __init__(self, program: Program, observables: tuple[Observable, ...], made: Readings) -> None:
        self.program, self.observables, self.readings = program, observables, made
        self.turned = tuple(turned(program, setting) for setting in made.settings)


def without_error(values: Tensor, rows: int) -> tuple[Array, Array, dict[str, object]]:
    """Return exact values (N or 1, K) as `LocalMachine.measure` does for so many rows; variances are 0."""
    array = values.double().expand(rows, -1).numpy()
    return array, np.zeros_like(array), {}


def turned(program: Program, setting: Reading) -> Program:
    """Return `program` followed by the gates that turn each measured wire's letter to Z."""
    extra = [
        Gate(name, (wire,))
        for wire, letter in zip(setting.wires, setting.letters, strict=True)
        for name in TURNS[letter]
    ]
    return replace(program, gates=(*program.gates, *extra))


class ExactMachine(LocalMachine):
    """See `Exact`."""

    name = "exact"

    def execute(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        observables: Sequence[Observable],
    ) -> Tensor:
        """Return `simulate` of the same arguments."""
        return simulate(program, inputs, weights, observables)

    def measure(
        self,
        compiled: Compiled,
        angles: Array,
        shots: NDArray[np.int64] | None,
        key: str,  # noqa: ARG002
    ) -> tuple[Array, Array, dict[str, object]]:
        """Return exact values; variances are 0."""
        if shots is not None:
            raise BackendError(f"Exact() has no shots; got {int(shots.max())}: use Shots({int(shots.max())})")
        inputs = {ANGLES: torch.from_numpy(angles)[None]}
        return without_error(simulate(compiled.program, inputs, {}, compiled.observables)[0], len(angles))


class ShotsMachine(LocalMachine):
    """See `Shots`."""

    name = "shots"

    def measure(
        self, compiled: Compiled, angles: Array, shots: NDArray[np.int64] | None, key: str
    ) -> tuple[Array, Array, dict[str, object]]:
        """Draw the outcomes of each setting from its exact probabilities."""
        if shots is None:
            raise BackendError("Shots(...) needs a number of shots; use Exact() for exact values")
        generator, found = self.generator(key), []
        inputs = {ANGLES: torch.from_numpy(angles)[None]}
        for setting, program in zip(compiled.readings.settings, compiled.turned, strict=True):
            exact = probabilities(program, inputs, {}, setting.wires)[0].double().expand(len(angles), -1)
            found.append(draw(exact.numpy(), shots, generator))
        values, variances = estimates(compiled.readings, found, shots)
        return values, variances, {}
