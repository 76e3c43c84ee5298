"""Noise models of Qiskit: in files, of a device's qubits, and what they misread.

A file holds the JSON of `NoiseModel.to_dict(serializable=True)`, which names gates, qubits and channels and no code.
Relaxation during delays is not in it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError
from .contract import Array

if TYPE_CHECKING:
    from qiskit.circuit import Instruction
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel


def read_noise(path: Path) -> "NoiseModel":
    """Return the noise model in a file; raise `BackendError` for a file that is missing or holds something else."""
    from qiskit.exceptions import QiskitError
    from qiskit_aer.noise import NoiseModel, QuantumError, ReadoutError

    noise = NoiseModel()
    try:
        for error in json.loads(Path(path).read_text(encoding="utf-8"))["errors"]:
            made: Any
            if error["type"] == "roerror":
                made, add = ReadoutError(error["probabilities"]), _add_readout
            else:
                terms = zip(error["instructions"], error["probabilities"], strict=True)
                made = QuantumError([([(_instruction(one), one["qubits"]) for one in term], p) for term, p in terms])
                add = _add_gate
            for qubits in error.get("gate_qubits", [None]):
                add(noise, made, error["operations"], qubits)
    except (OSError, KeyError, TypeError, ValueError, QiskitError) as error:
        raise BackendError(
            f"{path} cannot be read as a noise model: {error}; write one with qfedfm.backends.save_noise(model, path)"
        ) from error
    return noise


def device_noise(target: "Target", qubits: Sequence[int]) -> "NoiseModel":
    """Return the gate noise of some of a device's qubits, which are numbered 0, 1, ... in it; no readout error.

    As `NoiseModel.from_backend`: after each gate depolarising and thermal relaxation over its duration, together as
    large as its reported error. Made for the used qubits only, since that of a whole device takes seconds.
    """
    from qiskit.transpiler import QubitProperties, Target
    from qiskit_aer.noise import NoiseModel
    from qiskit_aer.noise.device import basic_device_gate_errors

    place = {qubit: i for i, qubit in enumerate(qubits)}
    known = target.qubit_properties or [QubitProperties()] * target.num_qubits
    part = Target(num_qubits=len(qubits), dt=target.dt, qubit_properties=[known[qubit] for qubit in qubits])
    for name in target.operation_names:
        operation = target.operation_from_name(name)
        if isinstance(operation, type) or name in ("measure", "delay"):
            continue
        inside = {
            tuple(place[qubit] for qubit in where): told
            for where, told in target[name].items()
            if where is not None and set(where) <= place.keys()
        }
        if inside:
            part.add_instruction(operation, inside, name=name)
    noise = NoiseModel(basis_gates=list(part.operation_names))
    for name, where, error in basic_device_gate_errors(target=part):
        noise.add_quantum_error(error, name, where)
    return noise


def device_misread(backend: Any, qubits: Sequence[int]) -> list[Array]:
    """Return P(read | true), (2, 2) with a row for each true value, for each of `qubits`.

    From the calibration where it tells both errors apart, else from the single readout error of the target.
    """
    properties = backend.properties() if callable(getattr(backend, "properties", None)) else None
    matrices = []
    for qubit in qubits:
        told = properties.qubit_property(qubit) if properties is not None else {}
        if "prob_meas1_prep0" in told and "prob_meas0_prep1" in told:
            false_one, false_zero = told["prob_meas1_prep0"][0], told["prob_meas0_prep1"][0]
        else:
            false_one = false_zero = getattr(backend.target["measure"].get((qubit,)), "error", None) or 0.0
        matrices.append(np.array([[1 - false_one, false_one], [false_zero, 1 - false_zero]]))
    return matrices


def model_misread(noise: "NoiseModel", qubits: Sequence[int]) -> list[Array]:
    """Return P(read | true) of a noise model for each of `qubits`; raise `BackendError` for correlated readout."""
    default, local = np.eye(2), dict[int, Array]()
    for error in noise.to_dict()["errors"]:
        if error["type"] != "roerror":
            continue
        matrix = np.asarray(error["probabilities"], dtype=float)
        if matrix.shape != (2, 2):
            raise BackendError(
                "the noise model misreads several qubits together: exact values need errors of single qubits; use shots"
            )
        if "gate_qubits" not in error:
            default = matrix
        for where in error.get("gate_qubits", []):
            local[int(where[0])] = matrix
    return [local.get(qubit, default) for qubit in qubits]


def misread(probabilities: Array, matrices: Sequence[Array]) -> Array:
    """Return probabilities (N, 2^k) as they are read: wire i through matrices[i] (2, 2), the first the leading bit."""
    rows, shape = len(probabilities), probabilities.shape
    for matrix in matrices:  # each turn takes the first wire and puts it last
        split = probabilities.reshape(rows, 2, -1)
        probabilities = np.einsum("nab,ac->nbc", split, matrix).reshape(rows, -1)
    return probabilities.reshape(shape)


def _add_gate(noise: "NoiseModel", made: Any, operations: list[str], qubits: list[int] | None) -> None:
    if qubits is None:
        noise.add_all_qubit_quantum_error(made, operations)
    else:
        noise.add_quantum_error(made, operations, qubits, warnings=False)


def _add_readout(noise: "NoiseModel", made: Any, operations: list[str], qubits: list[int] | None) -> None:  # noqa: ARG001
    if qubits is None:
        noise.add_all_qubit_readout_error(made)
    else:
        noise.add_readout_error(made, qubits, warnings=False)


def _instruction(one: Mapping[str, Any]) -> "Instruction":
    from qiskit.circuit.library import PauliGate, UnitaryGate, get_standard_gate_name_mapping
    from qiskit.quantum_info import Kraus

    name, params = one["name"], one.get("params", [])
    if name == "pauli":
        return PauliGate(params[0])
    if name == "unitary":
        return UnitaryGate(_complex(params[0]))
    if name == "kraus":
        return Kraus([_complex(matrix) for matrix in params]).to_instruction()
    return get_standard_gate_name_mapping()[name].base_class(*params)


def _complex(pairs: Any) -> np.ndarray[Any, np.dtype[np.complex128]]:
    parts = np.asarray(pairs, dtype=float)
    return parts[..., 0] + 1j * parts[..., 1]
