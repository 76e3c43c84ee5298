"""Any PennyLane device as a machine: PennyLane's own simulators, its plug-ins, and what they connect to.

A submission is one call of `qml.execute`: one tape for each measurement setting, all rows broadcast along it; rows with
other numbers of shots have tapes of their own, since a tape has one. A device that cannot broadcast takes its rows
apart itself. Sampled results are seeded where the device has a `seed` among its arguments, as default.qubit,
default.mixed and lightning.qubit do; elsewhere they are new each time, and the metadata say "seeded": false.
"""

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import BackendError, ConfigurationError
from ..quantum.pennylane import to_pennylane
from ..quantum.program import Program
from .contract import Array, Machine, Session
from .measurement import estimates
from .simulated import Compiled, LocalMachine, ShotNumber

OURS = ("seed", "shots", "wires")


@declared
class PennyLane:
    """A PennyLane device; shots: of a row in each measurement setting, None for exact probabilities.

    options: further arguments of `qml.device`, such as {"batch_obs": True} for lightning.qubit.
    """

    device: str = "default.qubit"
    shots: ShotNumber | None = None
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if taken := [name for name in OURS if name in (self.options or {})]:
            raise ConfigurationError(
                f"PennyLane.options holds {', '.join(taken)}: wires and seed come from the circuit and the run, and "
                "shots is a field of its own"
            )

    def check(self) -> None:
        """Raise `BackendError` if PennyLane cannot make the device."""
        self.connect(Session())

    def connect(self, session: Session) -> Machine:
        """Return the machine; raise `BackendError` if PennyLane cannot make the device."""
        return PennyLaneMachine(self, session)


class PennyLaneMachine(LocalMachine):
    """See `PennyLane`."""

    def __init__(self, declared: PennyLane, session: Session) -> None:
        super().__init__(session)
        self.declared = declared
        self.name = f"pennylane:{declared.device}"
        made = self._device(1)
        self._seeded = "seed" in inspect.signature(type(made).__init__).parameters

    def measure(
        self, compiled: Compiled, angles: Array, shots: NDArray[np.int64] | None, key: str
    ) -> tuple[Array, Array, dict[str, object]]:
        """Run all settings of all rows in one call."""
        import pennylane as qml

        if (shots is None) != (self.declared.shots is None):
            given, wanted = ("no shots", "a number") if shots is None else (f"{int(shots.max())} shots", "none")
            raise BackendError(
                f"{self.name} is declared with shots={self.declared.shots} and takes {wanted}; got {given}"
            )
        groups = _groups(shots, len(angles), bool(compiled.program.slots))
        tapes = [
            _tape(program, angles[rows], setting.wires, count)
            for setting, program in zip(compiled.readings.settings, compiled.turned, strict=True)
            for rows, count in groups
        ]
        seed = {"seed": int(self.generator(key).integers(2**32))} if self._seeded and shots is not None else {}
        device = self._device(compiled.program.n_wires, **seed)
        try:
            results = qml.execute(tapes, device, diff_method=None, cache=False) if tapes else []
        except Exception as error:  # a device may raise anything
            raise BackendError(f"{self.name} failed: {error}") from error
        found, left = [], iter(results)
        for setting in compiled.readings.settings:
            frequencies = np.empty((len(angles), 2 ** len(setting.wires)))
            for rows, _ in groups:
                frequencies[rows] = next(left)
            found.append(frequencies)
        values, variances = estimates(compiled.readings, found, shots)
        return values, variances, {"seeded": bool(seed)} if shots is not None else {}

    def _device(self, n_wires: int, **seed: int) -> Any:
        import pennylane as qml

        try:
            return qml.device(self.declared.device, wires=n_wires, **(self.declared.options or {}), **seed)
        except Exception as error:  # plug-ins raise what they like
            raise BackendError(f"PennyLane cannot make the device '{self.declared.device}': {error}") from error


def _groups(shots: NDArray[np.int64] | None, rows: int, broadcast: bool) -> list[tuple[NDArray[np.int64], int | None]]:
    """Return rows that fit into one tape, with their shots; without angles there is nothing to broadcast along."""
    everyone = np.arange(rows)
    if shots is None:
        return [(everyone, None)]
    if not broadcast:
        return [(everyone[row : row + 1], int(shots[row])) for row in everyone]
    return [(everyone[shots == count], int(count)) for count in np.unique(shots)]


def _tape(program: Program, angles: Array, wires: tuple[int, ...], shots: int | None) -> Any:
    import pennylane as qml

    with qml.queuing.AnnotatedQueue() as queue:
        to_pennylane(program)(angles)
        qml.probs(wires=wires)
    return qml.tape.QuantumScript.from_queue(queue, shots=shots)
