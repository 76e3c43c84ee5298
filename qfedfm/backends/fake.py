"""Fake devices: snapshots of IBM's machines, their couplings, gates, errors and times, simulated here.

What runs is what the device would run: the circuit is transpiled for it once, noise follows each of its gates, and
readout is wrong as often as its calibration says. Only the rest of the machine is left out: the circuit is cut down to
the qubits that it uses, Aer's density matrix gives the exact probabilities of all rows and settings in one job,
readout errors are applied to them, and outcomes are drawn from the session's random stream. Noise between gates, drift
and crosstalk are not in the snapshots.

The snapshots belong to qiskit-ibm-runtime; this is the only place where its fake provider is imported.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..declaration import declared
from ..errors import BackendError, ConfigurationError, MissingExtraError, nearest
from ..quantum.program import Observable, Program
from .aer import probabilities
from .contract import Array, Cost, Machine, Session, ShotCounts, shot_counts
from .measurement import draw, estimates, readings
from .mitigation import MitigatedMachine, ReadoutInversion
from .qiskit_noise import device_misread, device_noise, misread
from .qpu_time import rep_delay_seconds, usage_seconds
from .simulated import Compiled, LocalMachine, ShotNumber
from .transpile import Transpiled, calibration_time, compile_for, usable

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

MAX_QUBITS = 12
"""Used qubits of a fake device: a density matrix of 12 takes 256 MiB."""
MOST_COMPILED = 256


@declared
class Fake:
    """A snapshot of one of IBM's machines, such as "manila", "torino" or "FakeManilaV2", simulated with its noise.

    shots: in each measurement setting of a row, None for the noisy values without statistical error. noise: False
    leaves transpilation, layout and costs and takes the errors away. transpilations: how many to choose the best from.
    mitigated: readout errors are inverted, as `ReadoutInversion()` does; False gives the device as it is. Inside
    `Mitigated` the methods named there take the place of this one.
    """

    device: str
    shots: ShotNumber | None = 1024
    noise: bool = True
    transpilations: Annotated[int, Field(ge=1)] = 20
    mitigated: bool = True

    @property
    def raw(self) -> "Fake":
        """The same device without mitigation."""
        return replace(self, mitigated=False)

    def check(self) -> None:
        """Raise `ConfigurationError` for an unknown device, `MissingExtraError` without qiskit-ibm-runtime."""
        snapshot_of(self.device)

    def connect(self, session: Session) -> Machine:
        """Return the simulated device; raises as `check`."""
        machine = FakeMachine(session, self)
        return MitigatedMachine(machine, (ReadoutInversion(),)) if self.mitigated and self.noise else machine


def devices() -> tuple[str, ...]:
    """Return the names of all snapshots, such as "manila"; raise `MissingExtraError` without qiskit-ibm-runtime."""
    return tuple(sorted(_snapshots()))


class FakeCompiled(Compiled):
    """A transpiled program and the circuits of its settings on the used qubits alone."""

    transpiled: Transpiled
    scale: float
    circuits: tuple["QuantumCircuit", ...]
    qubits: tuple[int, ...]
    readout: tuple[list[Array], ...]


class FakeMachine(LocalMachine):
    """See `Fake`. It rewrites programs, so that it is `mitigation.Transpiling`."""

    def __init__(self, session: Session, declaration: Fake) -> None:
        super().__init__(session)
        self.declaration = declaration
        self.backend = snapshot_of(declaration.device)()
        self.name = str(self.backend.name)
        self._compiled: dict[tuple[object, ...], FakeCompiled] = {}
        self._simulators: dict[tuple[int, ...], Any] = {}

    @property
    def calibrated(self) -> str | None:
        """Return the time of the snapshot."""
        return calibration_time(self.backend)

    def compile(self, program: Program, observables: Sequence[Observable]) -> FakeCompiled:
        """Return a flat program on the device's best qubits."""
        return self._compile(program, observables, None, 1.0)

    def compile_at(self, program: Program, observables: Sequence[Observable], qubits: Sequence[int]) -> FakeCompiled:
        """Return a program of one-qubit gates with each wire on the qubit that is named for it."""
        return self._compile(program, observables, tuple(qubits), 1.0)

    def fold(self, compiled: FakeCompiled, scale: float) -> FakeCompiled:
        """Return a compiled program with its gates folded so that their noise grows by `scale`."""
        return self._compile(compiled.program, compiled.observables, None, scale)

    def layout(self, compiled: FakeCompiled) -> tuple[int, ...]:
        """Return the qubit on which each wire is read."""
        return compiled.transpiled.layout

    def estimate(self, compiled: Compiled, rows: int, shots: ShotCounts) -> Cost:
        """Return what a submission would take on the device that this one stands for."""
        assert isinstance(compiled, FakeCompiled)
        settings, found = len(compiled.readings.settings), compiled.transpiled
        executions = int(shot_counts(shots, rows).sum()) * settings
        seconds = usage_seconds(executions, found.duration_s, rep_delay_seconds(self.backend)) if executions else 0.0
        return Cost(rows * settings, executions, 1, seconds, found.depth, found.two_qubit_gates, found.fidelity)

    def measure(
        self, compiled: Compiled, angles: Array, shots: NDArray[np.int64] | None, key: str
    ) -> tuple[Array, Array, dict[str, object]]:
        """Return values of the noisy state, read with the device's errors."""
        assert isinstance(compiled, FakeCompiled)
        found = probabilities(self._simulator(compiled.qubits), compiled.circuits, angles)
        if self.declaration.noise:
            found = [misread(one, matrices) for one, matrices in zip(found, compiled.readout, strict=True)]
        if shots is not None:
            generator = self.generator(key)
            found = [draw(one, shots, generator) for one in found]
        transpiled = compiled.transpiled
        about: dict[str, object] = {
            "calibrated": transpiled.calibrated,
            "layout": list(transpiled.layout),
            "seed": transpiled.seed,
        }
        return *estimates(compiled.readings, found, shots), about

    def _compile(
        self, program: Program, observables: Sequence[Observable], qubits: tuple[int, ...] | None, scale: float
    ) -> FakeCompiled:
        name = (program, tuple(observables), qubits, scale)
        if name in self._compiled:
            return self._compiled[name]
        compiled = FakeCompiled(program, tuple(observables), readings(observables))
        settings = compiled.readings.settings
        compiled.scale, compiled.transpiled = (
            scale,
            compile_for(self.backend, program, settings, self.declaration.transpilations, qubits=qubits, scale=scale),
        )
        circuits, layout = compiled.transpiled.circuits, compiled.transpiled.layout
        used = {circuit.find_bit(bit).index for circuit in circuits for item in circuit.data for bit in item.qubits}
        compiled.qubits = tuple(sorted(used))
        if len(used) > MAX_QUBITS:
            raise BackendError(
                f"the circuit uses {len(used)} qubits of {self.name}; fake devices simulate up to {MAX_QUBITS}: "
                "use a smaller circuit, or Aer(...)"
            )
        compiled.circuits = tuple(compact(circuit, compiled.qubits) for circuit in circuits)
        compiled.readout = tuple(
            device_misread(self.backend, [layout[wire] for wire in setting.wires]) for setting in settings
        )
        if len(self._compiled) >= MOST_COMPILED:
            self._compiled.clear()
        self._compiled[name] = compiled
        return compiled

    def _simulator(self, qubits: tuple[int, ...]) -> Any:
        """Return the simulator of some of the device's qubits, made once."""
        from qiskit_aer import AerSimulator

        if qubits not in self._simulators:
            noise = device_noise(usable(self.backend.target), qubits) if self.declaration.noise else None
            self._simulators[qubits] = AerSimulator(method="density_matrix", noise_model=noise)
        return self._simulators[qubits]


def compact(circuit: "QuantumCircuit", qubits: Sequence[int]) -> "QuantumCircuit":
    """Return a transpiled, measured circuit on `qubits` alone, saving the probabilities of what it measured.

    Probabilities are numbered as the measured bit string, read as a binary number.
    """
    from qiskit import QuantumCircuit

    place = {qubit: i for i, qubit in enumerate(qubits)}
    small = QuantumCircuit(len(qubits))
    measured: dict[int, int] = {}
    for item in circuit.data:
        where = [place[circuit.find_bit(bit).index] for bit in item.qubits]
        if item.operation.name == "measure":
            measured[circuit.find_bit(item.clbits[0]).index] = where[0]
        elif item.operation.name != "barrier":
            small.append(item.operation, where)
    small.save_probabilities([measured[bit] for bit in range(len(measured))])
    return small


@lru_cache(maxsize=1)
def _snapshots() -> dict[str, type]:
    try:
        from qiskit_ibm_runtime import fake_provider
    except ImportError:
        raise MissingExtraError("qiskit-ibm-runtime", "ibm", "a fake device") from None
    return {_short(name): found for name, found in vars(fake_provider).items() if _is_snapshot(name)}


def _is_snapshot(name: str) -> bool:
    return name.startswith("Fake") and "Provider" not in name


def _short(name: str) -> str:
    """Return "manila" for FakeManilaV2, fake_manila and manila."""
    return name.lower().removeprefix("fake").removeprefix("_").removesuffix("v2").removesuffix("backend")


def snapshot_of(device: str) -> Any:
    """Return the class of a fake device by any of its names."""
    known = _snapshots()
    short = _short(device)
    if short not in known:
        raise ConfigurationError(
            f"there is no fake device '{device}'{nearest(short, known)}; there are {', '.join(sorted(known))}"
        )
    return known[short]
