"""One contract, many machines: angles in, expectation values out.

A `Backend` is a declaration, such as `Shots(1024)` or `Fake("manila")`; `connect` opens it and returns a `Machine`. A
machine compiles a flat program once (`flat`: every angle slot belongs to one gate) and then takes rows of angles, of
whatever clients, steps and shifts they come from, as few jobs as its limits allow. Shift rules, SPSA and the batching
over clients sit above this line (`executor`) and know nothing of machines.

`submit` and `collect` are two calls because the second may come hours later, or after a crash: a `Handle` is plain
JSON. A submission has a `key`, a name that is the same whenever the same work is asked for again; simulated machines
draw their randomness from it, remote ones look it up before they send anything.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BackendError
from ..quantum.program import Observable, Program

Array = NDArray[np.float64]
ShotCounts = int | NDArray[np.int64] | None
"""Shots of each row in each of its measurement settings: one number, or one for each row (N,); None is exact."""


@dataclass(frozen=True)
class Cost:
    """What a submission takes, or took.

    circuits: rows times measurement settings, for each noise scale; those of a readout calibration are not among them,
    but in all other numbers. shots: over all circuits, 0 if exact. jobs: submissions to the machine.
    qpu_seconds: time on a quantum processor: what is billed, on a fake device what would be, 0 on other simulators.
    depth, two_qubit_gates, fidelity: of one compiled circuit, the last a product of gate and readout fidelities; None
    where nothing is compiled for hardware.
    """

    circuits: int
    shots: int
    jobs: int = 1
    qpu_seconds: float = 0.0
    depth: int | None = None
    two_qubit_gates: int | None = None
    fidelity: float | None = None


@dataclass(frozen=True)
class Handle:
    """A submission that can be collected later, by this process or by another one.

    backend: the machine's name. key: the submission's. jobs: ids on the machine, none where nothing is remote. rows:
    how many rows of angles it holds.
    """

    backend: str
    key: str
    jobs: tuple[str, ...]
    rows: int

    def to_json(self) -> str:
        """Return the handle as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Handle":
        """Return the handle that `to_json` wrote; raise `BackendError` for anything else."""
        try:
            data = json.loads(text)
            return cls(str(data["backend"]), str(data["key"]), tuple(map(str, data["jobs"])), int(data["rows"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"not a saved handle: {error}") from error


@dataclass(frozen=True)
class Measured:
    """What came back for N rows and K observables.

    values: (N, K) estimated expectation values. variances: (N, K) of those estimates, 0 where they are exact. shots:
    (N,) shots behind each row, over all its measurement settings. cost: what it took. metadata: whatever else belongs
    into the record: job ids, calibration time, mitigation.
    """

    values: Array
    variances: Array
    shots: NDArray[np.int64]
    cost: Cost
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Session:
    """What a machine is told when it is opened.

    seed: root of the random streams of a simulated machine. journal: file in which a remote machine writes down what
    it submits before it waits; None keeps no journal, which remote machines may refuse. max_qpu_seconds: billed time
    that must not be exceeded, over all attempts at the same run; None sets no limit, which IBM's machines refuse.
    """

    seed: int = 0
    journal: Path | None = None
    max_qpu_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_qpu_seconds is not None and not self.max_qpu_seconds >= 0:  # nor "not a number"
            raise BackendError(f"max_qpu_seconds: expected 0 or more seconds; got {self.max_qpu_seconds}")


class Machine(Protocol):
    """An opened backend."""

    @property
    def name(self) -> str:
        """What it is, in a few words, for records: "exact", "shots", "fake_manila" ..."""
        ...

    def compile(self, program: Program, observables: Sequence[Observable]) -> Any:
        """Return what `estimate` and `submit` need of a flat program; done once, the result is kept."""
        ...

    def estimate(self, compiled: Any, rows: int, shots: ShotCounts) -> Cost:
        """Return what a submission of so many rows would take; nothing is sent."""
        ...

    def submit(self, compiled: Any, angles: Array, shots: ShotCounts, key: str) -> Handle:
        """Send rows of angles (N, slots), radians; raise `BackendError` before anything is sent that cannot be paid."""
        ...

    def collect(self, handle: Handle) -> Measured:
        """Wait for a submission and return what it measured; raise `BackendError` if it failed."""
        ...


@runtime_checkable
class Differentiable(Protocol):
    """A machine whose expectation values torch can differentiate, where it is exact."""

    def execute(
        self, program: Program, inputs: dict[str, Tensor], weights: dict[str, Tensor], observables: Sequence[Observable]
    ) -> Tensor:
        """Return expectation values (C, R, K) as `quantum.simulate` does, of the whole program, not a flat one."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A declared machine."""

    @property
    def shots(self) -> int | None:
        """Shots of a row in each measurement setting; None for exact values."""
        ...

    def connect(self, session: Session) -> Machine:
        """Open it; raise `BackendError` if it cannot be reached, `MissingExtraError` for a package that is missing."""
        ...


def shot_counts(shots: ShotCounts, rows: int) -> NDArray[np.int64]:
    """Return the shots of each row as an array (N,); raise `BackendError` for none or for another number of rows."""
    if shots is None:
        return np.zeros(rows, dtype=np.int64)
    counts = np.asarray(shots, dtype=np.int64)
    if counts.shape not in ((), (rows,)):
        raise BackendError(f"expected one number of shots, or one for each of {rows} rows; got shape {counts.shape}")
    counts = np.broadcast_to(counts, (rows,))
    if (counts < 1).any():
        raise BackendError(f"every row needs at least one shot; got {int(counts.min())}")
    return counts
