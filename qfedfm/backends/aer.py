"""Qiskit's Aer as a machine: its simulation methods, and any noise model that Qiskit can write down.

All rows and measurement settings are one job, circuits being bound by Aer itself. With shots Aer chooses its method
and samples; without, probabilities are read from its state vector, or from its density matrix where there is noise,
and readout errors are applied to them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..cache import write_atomically
from ..declaration import declared
from ..errors import BackendError, ConfigurationError
from ..quantum.program import Observable, Program
from ..quantum.qiskit import to_qiskit
from .contract import Array, Cost, Machine, Session, ShotCounts, shot_counts
from .measurement import estimates, readings
from .qiskit_noise import misread, model_misread, read_noise
from .simulated import Compiled, LocalMachine, ShotNumber

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel


UNBOUND = frozenset({"cp", "crx", "cry", "crz", "cu", "cu1", "cu3", "mcp", "mcrx", "mcry", "mcrz"})
"""Gates whose angles Aer does not bind: with several rows it silently runs one (qiskit-aer 0.17)."""


@declared
class Aer:
    """Qiskit's simulator, with so many shots in each measurement setting of a row, or exact with None.

    noise: a file with a noise model of Qiskit, see `save_noise`; its qubit w is wire w, and circuits are rewritten in
    the gates that it knows. None is a perfect machine.
    """

    shots: ShotNumber | None = 1024
    noise: Path | None = None

    def check(self) -> None:
        """Raise `ConfigurationError` where the noise model's file is missing."""
        if self.noise is not None and not self.noise.is_file():
            raise ConfigurationError(f"Aer.noise: there is no file {self.noise}")

    def connect(self, session: Session) -> Machine:
        """Return the simulator; raise `BackendError` for a noise model that cannot be read."""
        return AerMachine(session, self)


def save_noise(noise: "NoiseModel", path: Path) -> None:
    """Write a noise model of Qiskit as the file that `Aer(noise=path)` reads."""
    write_atomically(Path(path), json.dumps(noise.to_dict(serializable=True)).encode())


class AerCompiled(Compiled):
    """A flat program with a circuit for each setting: `sampled` end in measurements, `exact` save probabilities.

    The bit string of an outcome, and the index of a probability, is the setting's outcome.
    """

    sampled: tuple["QuantumCircuit", ...]
    exact: tuple["QuantumCircuit", ...]


class AerMachine(LocalMachine):
    """See `Aer`."""

    name = "aer"

    def __init__(self, session: Session, declaration: Aer) -> None:
        from qiskit_aer import AerSimulator

        super().__init__(session)
        self.noise = None if declaration.noise is None else read_noise(declaration.noise)
        self.sampler = AerSimulator(noise_model=self.noise)
        self.exact = AerSimulator(
            method="statevector" if self.noise is None else "density_matrix", noise_model=self.noise
        )

    def compile(self, program: Program, observables: Sequence[Observable]) -> AerCompiled:
        """Return a flat program with the circuits of its settings in gates that Aer and the noise model know."""
        from qiskit import ClassicalRegister, transpile

        compiled = AerCompiled(program, tuple(observables), readings(observables))
        sampled, exact = [], []
        for setting, turned in zip(compiled.readings.settings, compiled.turned, strict=True):
            wires = list(reversed(setting.wires))  # Qiskit writes bit 0 rightmost
            circuit = transpile(to_qiskit(turned), basis_gates=bound_gates(self.sampler), optimization_level=0)
            circuit.add_register(ClassicalRegister(len(wires)))
            circuit.measure(wires, range(len(wires)))
            sampled.append(circuit)
            circuit = transpile(to_qiskit(turned), basis_gates=bound_gates(self.exact), optimization_level=0)
            circuit.save_probabilities(wires)
            exact.append(circuit)
        compiled.sampled, compiled.exact = tuple(sampled), tuple(exact)
        return compiled

    def estimate(self, compiled: Compiled, rows: int, shots: ShotCounts) -> Cost:
        """Return what a submission would take: rows with different numbers of shots are different jobs."""
        settings, counts = len(compiled.readings.settings), shot_counts(shots, rows)
        return Cost(rows * settings, int(counts.sum()) * settings, jobs=len(np.unique(counts)))

    def measure(
        self, compiled: Compiled, angles: Array, shots: NDArray[np.int64] | None, key: str
    ) -> tuple[Array, Array, dict[str, object]]:
        """Run all rows and settings."""
        assert isinstance(compiled, AerCompiled)
        if shots is not None:
            found = self._sampled(compiled.sampled, angles, shots, self.generator(key))
        else:
            found = probabilities(self.exact, compiled.exact, angles)
            if self.noise is not None:
                wires = [setting.wires for setting in compiled.readings.settings]
                found = [misread(one, model_misread(self.noise, some)) for one, some in zip(found, wires, strict=True)]
        return *estimates(compiled.readings, found, shots), {}

    def _sampled(
        self,
        circuits: Sequence["QuantumCircuit"],
        angles: Array,
        shots: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> list[Array]:
        """Return frequencies (N, outcomes) for each circuit."""
        found = [np.zeros((len(angles), 2**circuit.num_clbits)) for circuit in circuits]
        for count in np.unique(shots):
            rows = np.flatnonzero(shots == count)
            seed = int(generator.integers(2**31))
            for frequencies, data in zip(
                found, run(self.sampler, circuits, angles[rows], int(count), seed), strict=True
            ):
                for row, one in zip(rows, data, strict=True):
                    for outcome, times in one["counts"].items():
                        frequencies[row, int(outcome, 16)] = times / count
        return found


def bound_gates(simulator: "AerSimulator") -> list[str]:
    """Return the standard gates of a simulator whose angles it binds."""
    from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping

    return sorted(set(simulator.configuration().basis_gates) & set(get_standard_gate_name_mapping()) - UNBOUND)


def probabilities(simulator: "AerSimulator", circuits: Sequence["QuantumCircuit"], angles: Array) -> list[Array]:
    """Return for circuits that save probabilities those of all rows, (N, outcomes) for each."""
    rows = len(angles) if circuits and circuits[0].parameters else 1
    found = run(simulator, circuits, angles[:rows], 1, 0)
    stacked = [np.stack([one["probabilities"] for one in data]) for data in found]
    return [np.broadcast_to(some, (len(angles), some.shape[1])) for some in stacked]


def run(
    simulator: "AerSimulator", circuits: Sequence["QuantumCircuit"], angles: Array, shots: int, seed: int
) -> list[list[dict[str, Any]]]:
    """Run circuits with rows of angles (N, slots), in one job; return Aer's data for each circuit and row.

    Circuits without parameters are run once for each row too. Raises `BackendError` with Aer's own words.
    """
    if not circuits:
        return []
    rows = len(angles)
    if circuits[0].parameters:
        binds = [{p: angles[:, p.index] for p in circuit.parameters} for circuit in circuits]
        job = simulator.run(list(circuits), parameter_binds=binds, shots=shots, seed_simulator=seed)
    else:
        job = simulator.run([circuit for circuit in circuits for _ in range(rows)], shots=shots, seed_simulator=seed)
    result = job.result()
    if not result.success:
        raise BackendError(f"Aer could not run the circuits: {result.status}")
    if len(result.results) != len(circuits) * rows:
        raise BackendError(
            f"Aer ran {len(result.results)} circuits where {len(circuits) * rows} were asked for: it did not bind the "
            "angles of some gate"
        )
    return [[result.data(number * rows + row) for row in range(rows)] for number in range(len(circuits))]
