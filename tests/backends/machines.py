"""The machines that the contract is tested on; one line adds another.

Each case has a reference: what the machine reads with infinitely many shots, computed another way. It takes a flat
program, observables and angles (rows, slots), and returns (rows, observables).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mixed import mixed_expectations
from reference import expectations

from qfedfm.backends import (
    Aer,
    Backend,
    Exact,
    Fake,
    FakeRuntime,
    GateNoise,
    NoiseModel,
    Noisy,
    PennyLane,
    RuntimeMitigation,
    Session,
    Shots,
)
from qfedfm.backends.flat import ANGLES
from qfedfm.quantum.program import Observable, Program

Reference = Callable[[Program, Sequence[Observable], np.ndarray], np.ndarray]
NOISE = NoiseModel(
    one_qubit=GateNoise(depolarising=0.004, amplitude_damping=0.003, phase_damping=0.002, bit_flip=0.001),
    two_qubit=GateNoise(depolarising=0.02, amplitude_damping=0.01, phase_damping=0.005, bit_flip=0.004),
    p01=(0.06, 0.01, 0.03),
    p10=(0.02, 0.04, 0.01),
)


@dataclass(frozen=True)
class Case:
    """One machine.

    cosine: least cosine between a parameter-shift gradient on it and the exact, noiseless one. misreads: whether some
    outcomes are read wrongly even where no gate acts. needs: a package of an optional extra. either: whether the
    machine measures with and without shots, whatever its declaration says.
    """

    name: str
    backend: Backend
    reference: Reference
    cosine: float
    misreads: bool = False
    needs: str = ""
    either: bool = False


def ideal(program: Program, observables: Sequence[Observable], angles: np.ndarray) -> Any:
    """What default.qubit reads."""
    return expectations(program, {ANGLES: torch.from_numpy(angles)[None]}, {}, observables)[0].numpy()


def under(noise: NoiseModel) -> Reference:
    """What default.mixed reads with these channels after each gate."""
    return lambda program, observables, angles: np.asarray(mixed_expectations(program, noise, angles, observables))


def unlimited(backend: Backend) -> Reference:
    """What the same machine reads with infinitely many shots; its noise is tested on its own."""

    def reference(program: Program, observables: Sequence[Observable], angles: np.ndarray) -> np.ndarray:
        machine = backend.connect(Session())
        compiled = machine.compile(program, observables)
        return machine.collect(machine.submit(compiled, angles, None, "reference")).values

    return reference


FAKE = Fake("manila", 2000, mitigated=False)
MACHINES = [
    Case("exact", Exact(), ideal, 1 - 1e-12),
    Case("shots", Shots(2000), ideal, 0.98),
    Case("noisy", Noisy(NOISE), under(NOISE), 0.99, misreads=True),
    Case("noisy_shots", Noisy(NOISE, 2000), under(NOISE), 0.97, misreads=True),
    Case("default.qubit", PennyLane(), ideal, 1 - 1e-12),
    Case("default.qubit_shots", PennyLane(shots=2000), ideal, 0.98),
    Case("lightning.qubit", PennyLane("lightning.qubit", shots=2000, options={"batch_obs": True}), ideal, 0.98),
    Case("default.mixed", PennyLane("default.mixed"), ideal, 1 - 1e-12),
    Case("aer", Aer(shots=None), ideal, 1 - 1e-12, either=True),
    Case("aer_shots", Aer(shots=2000), ideal, 0.98, either=True),
    Case("fake_ideal", Fake("manila", None, noise=False), ideal, 1 - 1e-12, needs="qiskit_ibm_runtime", either=True),
    Case("fake", FAKE, unlimited(FAKE), 0.9, True, "qiskit_ibm_runtime", either=True),
]


def on_nairobi(program: Program, observables: Sequence[Observable], angles: np.ndarray) -> Any:
    """What Aer's density matrix gives under Qiskit's own noise model of the whole device, readout included."""
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel as QiskitNoise
    from qiskit_ibm_runtime.fake_provider import FakeNairobiV2

    from qfedfm.backends.ibm_program import with_a_slot
    from qfedfm.backends.measurement import estimates, readings
    from qfedfm.backends.qiskit_noise import misread, model_misread
    from qfedfm.backends.transpile import compile_for

    device, made, found = FakeNairobiV2(), readings(observables), []
    noise = QiskitNoise.from_backend(device)
    program = with_a_slot(program)
    angles = angles if angles.shape[1] else np.zeros((len(angles), 1))
    transpiled = compile_for(device, program, made.settings, seeds=1)
    for setting, circuit in zip(made.settings, transpiled.circuits, strict=True):
        wires = [transpiled.layout[wire] for wire in setting.wires]
        bare = circuit.remove_final_measurements(inplace=False)
        bare.save_probabilities(list(reversed(wires)))
        bound = [bare.assign_parameters({p: row[p.index] for p in bare.parameters}) for row in angles]
        result = AerSimulator(method="density_matrix", noise_model=noise).run(bound).result()
        exact = np.stack([result.data(row)["probabilities"] for row in range(len(angles))])
        found.append(misread(exact, model_misread(noise, wires)))
    return estimates(made, found, None)[0]


MACHINES.append(
    Case(
        "fake_runtime",
        FakeRuntime("nairobi", 2000, RuntimeMitigation(readout=False), transpilations=1),
        on_nairobi,
        0.95,
        misreads=True,
        needs="qiskit_ibm_runtime",
    )
)
