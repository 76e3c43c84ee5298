"""Flat programs rewritten for a device: its gates, its couplings, its best qubits.

The router is randomised, so a program is transpiled with several seeds at the highest level and the result kept that
has the largest

    fidelity = prod_gates (1 - error) prod_wires (1 - readout error).

That takes about a second, so the result is kept on disk, under the hash of the program, the device and the time of its
calibration. Which qubits are taken depends on nothing else, in particular not on what is measured: each measurement
setting is appended to the same circuit, and calibrations can be made for the qubits that later programs will use.

Fractional gates (rx and rzz of any angle) stay off: a device takes rzz from 0 to pi/2 only, which no parameter
promises, and the runtime cannot twirl them. Couplings that are reported broken are not used.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import cache_directory, write_atomically
from ..errors import BackendError
from ..quantum.program import Program
from ..quantum.qiskit import to_qiskit
from .folding import fold_circuit
from .measurement import Reading
from .simulated import TURNS

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

FORMAT = 1
FRACTIONAL = {"rx", "rzz"}


@dataclass(frozen=True, eq=False)
class Transpiled:
    """A flat program on a device.

    circuit: on all of the device's qubits, without measurements. circuits: one for each setting, turned and measured;
    the bit string of an outcome, read as a binary number, is the setting's outcome (its first wire is the leftmost
    bit). Parameters have the index of their slot. layout: the qubit on which each wire ends. depth, two_qubit_gates,
    fidelity (readout included), duration_s (in seconds, measurement included): of the worst setting. calibrated: time
    of the device's calibration in ISO format, None where it tells none. seed: the one that won.
    """

    circuit: "QuantumCircuit"
    circuits: tuple["QuantumCircuit", ...]
    layout: tuple[int, ...]
    depth: int
    two_qubit_gates: int
    fidelity: float
    duration_s: float
    calibrated: str | None
    seed: int


def compile_for(
    backend: Any,
    program: Program,
    settings: Sequence[Reading],
    seeds: int = 20,
    cache: bool = True,
    qubits: Sequence[int] | None = None,
    scale: float = 1.0,
) -> Transpiled:
    """Return `program` for a Qiskit backend with a target.

    settings: what is measured. seeds: transpilations to choose from. cache: whether the choice is looked up and kept on
    disk. qubits: where each wire has to be, for programs of one-qubit gates; None leaves it open. scale: gates are
    folded after transpilation, see `folding`, so that the noise grows by this factor.

    Raises `BackendError` where the program does not fit.
    """
    from qiskit import __version__ as qiskit_version

    if seeds < 1:
        raise BackendError(f"expected one transpilation or more; got {seeds}")
    if program.n_wires > backend.num_qubits:
        raise BackendError(
            f"{backend.name} has {backend.num_qubits} qubits; the circuit needs {program.n_wires}: use a larger device"
        )
    target, calibrated = usable(backend.target), calibration_time(backend)
    identity = [FORMAT, qiskit_version, program.hash, backend.name, calibrated, seeds, qubits and list(qubits)]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    file = cache_directory() / "transpiled" / f"{name}.qpy" if cache and calibrated else None
    found = _load(file) if file else None
    if found is None:
        found = _best(target, program, seeds, qubits)
        if file:
            _save(file, *found)
    circuit, layout, seed = found
    circuits = [_measured(_turned(circuit, target, layout, setting), layout, setting, scale) for setting in settings]
    folded = fold_circuit(circuit, scale)
    shown = circuits or [folded]
    return Transpiled(
        circuit=folded,
        circuits=tuple(circuits),
        layout=layout,
        depth=max(made.depth() for made in shown),
        two_qubit_gates=max(made.num_nonlocal_gates() for made in shown),
        fidelity=min(fidelity(made, target) for made in shown),
        duration_s=max(duration_seconds(made, target) for made in shown),
        calibrated=calibrated,
        seed=seed,
    )


def calibration_time(backend: Any) -> str | None:
    """Return when a Qiskit backend was last calibrated, in ISO format; None if it does not tell."""
    properties = getattr(backend, "properties", None)
    told = getattr(properties() if callable(properties) else None, "last_update_date", None)
    return None if told is None else told.isoformat()


def usable(target: "Target") -> "Target":
    """Return `target` without fractional gates and broken couplings, whose reported error is 1; itself if it has none.

    Fractional gates stay where nothing else would turn a qubit.
    """
    from qiskit.transpiler import Target

    names = set(target.operation_names)
    dropped = names & FRACTIONAL if names >= {"rz", "sx"} and names & {"cx", "cz", "ecr"} else set()
    kept = Target(num_qubits=target.num_qubits, dt=target.dt, qubit_properties=target.qubit_properties)
    changed = bool(dropped)
    for name in names - dropped:
        operation = target.operation_from_name(name)
        if isinstance(operation, type):
            kept.add_instruction(operation, name=name)
            continue
        sound = {where: told for where, told in target[name].items() if not _broken(where, told)}
        changed |= len(sound) < len(target[name])
        kept.add_instruction(operation, sound, name=name)
    return kept if changed else target


def _broken(where: tuple[int, ...] | None, told: Any) -> bool:
    return where is not None and len(where) > 1 and (getattr(told, "error", None) or 0.0) >= 1


def fidelity(circuit: "QuantumCircuit", target: "Target") -> float:
    """Return the product of 1 - error over all gates and measurements of a transpiled circuit."""
    product = 1.0
    for item in circuit.data:
        known = target[item.operation.name] if item.operation.name in target.operation_names else {}
        told = known.get(tuple(circuit.find_bit(qubit).index for qubit in item.qubits))
        product *= 1 - min(getattr(told, "error", None) or 0.0, 1.0)
    return product


def duration_seconds(circuit: "QuantumCircuit", target: "Target") -> float:
    """Return the length of a transpiled circuit, measurements included; 0 for what the target has no duration of."""
    end = [0.0] * circuit.num_qubits
    for item in circuit.data:
        wires = [circuit.find_bit(qubit).index for qubit in item.qubits]
        known = target[item.operation.name] if item.operation.name in target.operation_names else {}
        told = getattr(known.get(tuple(wires)), "duration", None) or 0.0
        finished = max(end[wire] for wire in wires) + told
        for wire in wires:
            end[wire] = finished
    return max(end)


def _best(
    target: "Target", program: Program, seeds: int, qubits: Sequence[int] | None
) -> tuple["QuantumCircuit", tuple[int, ...], int]:
    """Return the best transpiled circuit, where its wires end, and its seed."""
    from qiskit import ClassicalRegister
    from qiskit.exceptions import QiskitError
    from qiskit.transpiler import generate_preset_pass_manager

    circuit = to_qiskit(program)
    circuit.add_register(ClassicalRegister(program.n_wires))
    circuit.barrier()  # keeps gates that only a measurement of Z would not see
    circuit.measure(range(program.n_wires), range(program.n_wires))
    used = {wire for gate in program.gates for wire in gate.wires}
    best: tuple[float, QuantumCircuit, tuple[int, ...], int] | None = None
    for seed in range(seeds if qubits is None else 1):
        level, start = (3, None) if qubits is None else (1, list(qubits))
        passes = generate_preset_pass_manager(level, target=target, initial_layout=start, seed_transpiler=seed)
        try:
            made = passes.run(circuit)
        except QiskitError as error:
            raise BackendError(
                f"the circuit cannot be transpiled: {error} (couplings that are reported broken are not used): "
                "use another device"
            ) from error
        ends = {
            made.find_bit(item.clbits[0]).index: made.find_bit(item.qubits[0]).index
            for item in made.data
            if item.operation.name == "measure"
        }
        layout = tuple(ends[wire] for wire in range(program.n_wires))
        if qubits is not None and layout != tuple(qubits):
            raise BackendError(f"expected the wires to end on qubits {tuple(qubits)}; they end on {layout}")
        bare = made.remove_final_measurements(inplace=False)
        readout = [getattr(target["measure"].get((layout[wire],)), "error", None) or 0.0 for wire in used]
        score = fidelity(bare, target)
        for error_rate in readout:
            score *= 1 - error_rate
        if best is None or score > best[0]:
            best = score, bare, layout, seed
    assert best is not None
    return best[1:]


def _turned(circuit: "QuantumCircuit", target: "Target", layout: Sequence[int], setting: Reading) -> "QuantumCircuit":
    """Return `circuit` with the measured wires turned to Z, in the device's gates."""
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.passes import Optimize1qGatesDecomposition

    if not set(setting.letters) & {"X", "Y"}:
        return circuit.copy()
    turned = circuit.copy()
    for wire, letter in zip(setting.wires, setting.letters, strict=True):
        for name in TURNS[letter]:
            getattr(turned, name)(layout[wire])
    return PassManager([Optimize1qGatesDecomposition(target=target)]).run(turned)


def _measured(circuit: "QuantumCircuit", layout: Sequence[int], setting: Reading, scale: float) -> "QuantumCircuit":
    from qiskit import ClassicalRegister

    measured = fold_circuit(circuit, scale)
    outcome = ClassicalRegister(len(setting.wires), "outcome")
    measured.add_register(outcome)
    for place, wire in enumerate(reversed(setting.wires)):  # Qiskit writes bit 0 rightmost
        measured.measure(layout[wire], outcome[place])
    return measured


def _save(file: Path, circuit: "QuantumCircuit", layout: Sequence[int], seed: int) -> None:
    from qiskit import qpy

    body = io.BytesIO()
    qpy.dump(circuit, body)
    content = body.getvalue()
    head = {"sha256": hashlib.sha256(content).hexdigest(), "layout": list(layout), "seed": seed}
    write_atomically(file, json.dumps(head).encode() + b"\n" + content)


def _load(file: Path) -> tuple["QuantumCircuit", tuple[int, ...], int] | None:
    """Return what `_save` wrote; None if there is nothing, or if it is damaged: then it is made again."""
    from qiskit import qpy
    from qiskit.exceptions import QiskitError

    if not file.exists():
        return None
    first, _, content = file.read_bytes().partition(b"\n")
    try:
        head = json.loads(first)
        if hashlib.sha256(content).hexdigest() != head["sha256"]:
            return None
        (circuit,) = qpy.load(io.BytesIO(content))
        return circuit, tuple(map(int, head["layout"])), int(head["seed"])
    except (KeyError, TypeError, ValueError, QiskitError):
        return None
