"""`qml.device("qfedfm.statevector", wires=n)`: PennyLane's QNodes on the exact batched simulator.

A tape is lowered once per structure (`tape`) and then run by `simulate`, if all it measures are expectation values of
Pauli words and their sums, or else by `states`, from which PennyLane's own functions read what is measured, exactly or
in shots. All rows of a broadcast tape run at once. torch differentiates through the simulator; other interfaces get
vector-Jacobian products from it. What the device cannot run it refuses with the operator and the reason; with
`fallback=True` default.qubit takes such a tape instead.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pennylane as qml
import torch
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.devices.preprocess import validate_device_wires
from pennylane.devices.qubit.measure import measure
from pennylane.devices.qubit.sampling import measure_with_samples
from pennylane.math import Interface
from pennylane.measurements import ClassicalShadowMP, ExpectationMP, SampleMeasurement, ShadowExpvalMP, StateMeasurement
from pennylane.operation import StatePrepBase
from torch import Tensor

from ..errors import CircuitError
from .angles import evaluate
from .pennylane import attempt
from .statevector import simulate, states
from .tape import Arguments, Lowered, Lowering, UnsupportedError, arguments

_EXACT = ("best", "backprop", "device", "adjoint")
_FROM_SHOTS = (SampleMeasurement, ClassicalShadowMP, ShadowExpvalMP)


@simulator_tracking
@single_tape_support
class StateVector(Device):  # type: ignore[misc]  # PennyLane has no types
    """The exact simulator of qfedfm as a PennyLane device.

    wires: their number or labels; None takes those of each tape. seed: of everything that is sampled; None draws one
    from the operating system. fallback: whether default.qubit runs what this device refuses (counted by `qml.Tracker`
    as "handed_over"). Results are float64, or float32 where all torch parameters are (without any, all NumPy ones).
    """

    def __init__(self, wires: Any = None, shots: Any = None, seed: int | None = None, fallback: bool = False) -> None:
        super().__init__(wires=wires, shots=shots)
        self._lowering = Lowering(self.wires)
        self._random = np.random.default_rng(seed)
        self._fallback = qml.device("default.qubit", wires=wires, seed=self._random.spawn(1)[0]) if fallback else None

    @property
    def name(self) -> str:
        """The name under which `qml.device` knows this device."""
        return "qfedfm.statevector"

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: Any = None) -> bool:
        """Say whether there are exact derivatives: without shots; for torch of any order, for others of the first."""
        if execution_config is None:
            return True
        return (
            execution_config.gradient_method in _EXACT
            and (circuit is None or not circuit.shots)
            and (execution_config.interface == Interface.TORCH or execution_config.derivative_order == 1)
        )

    def supports_vjp(self, execution_config: ExecutionConfig | None = None, circuit: Any = None) -> bool:
        """Say the same as `supports_derivatives`."""
        return self.supports_derivatives(execution_config, circuit)

    def setup_execution_config(
        self,
        config: ExecutionConfig | None = None,
        circuit: Any = None,  # noqa: ARG002  (PennyLane's signature)
    ) -> ExecutionConfig:
        """Return `config` with every exact method as what is done: "backprop" for torch, "device" for the others."""
        config = config or ExecutionConfig()
        method = config.mcm_config.mcm_method
        if method not in (None, "deferred"):
            raise UnsupportedError(f"mcm_method '{method}' is not supported: qfedfm.statevector defers measurements")
        changes: dict[str, Any] = {}
        if method is None:
            changes["mcm_config"] = replace(config.mcm_config, mcm_method="deferred")
        if config.gradient_method in _EXACT:
            changes["gradient_method"] = "backprop" if config.interface == Interface.TORCH else "device"
            changes["use_device_gradient"] = True
            changes["use_device_jacobian_product"] = config.interface == Interface.AUTOGRAD
            changes["grad_on_execution"] = False
        settled = all(getattr(config, name) == value for name, value in changes.items())
        return config if settled else replace(config, **changes)

    def execute(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Return the results of the tapes `circuits`: torch tensors where parameters are, NumPy arrays elsewhere."""
        through = execution_config is not None and execution_config.gradient_method == "backprop"
        return tuple(self._run(circuit, through) for circuit in circuits)

    def compute_vjp(
        self,
        circuits: Any,
        cotangents: Sequence[Any],
        execution_config: ExecutionConfig | None = None,  # noqa: ARG002  (PennyLane's signature)
    ) -> tuple[Any, ...]:
        """Return for each tape, and each of its trainable parameters, the sum of cotangents times derivatives."""
        return tuple(self._pull(*pair) for pair in zip(circuits, cotangents, strict=True))

    def compute_derivatives(
        self,
        circuits: Any,
        execution_config: ExecutionConfig | None = None,  # noqa: ARG002  (PennyLane's signature)
    ) -> tuple[Any, ...]:
        """Return for each tape and result the derivatives by each trainable parameter, result axes first."""
        return tuple(self._jacobian(circuit) for circuit in circuits)

    def _run(self, circuit: Any, through: bool) -> Any:
        """Return the result of one tape; through: whether as torch tensors whatever the parameters are."""
        try:
            return self._simulated(circuit, through)
        except CircuitError:
            if self._fallback is None:
                raise
        if self.tracker.active:
            self.tracker.update(handed_over=1)
        asked = {"gradient_method": "backprop", "interface": "torch"} if through else {"interface": "numpy"}
        program, config = self._fallback.preprocess(ExecutionConfig(**asked))
        tapes, assemble = program((circuit,))
        return assemble(self._fallback.execute(tapes, config))[0]

    def _simulated(self, circuit: Any, through: bool) -> Any:
        if any(isinstance(operator, qml.ops.MidMeasure) for operator in circuit.operations):
            circuit = _deferred(circuit)
        start = circuit.operations[0] if circuit.operations else None
        if not isinstance(start, StatePrepBase) or isinstance(start, qml.BasisState):
            start = None
        sentences = None if circuit.shots or start else _sentences(circuit.measurements)
        if sentences is not None:
            return self._expectations(circuit, sentences, through)
        (circuit,), _ = validate_device_wires(circuit, wires=self.wires, name=self.name)
        return self._measured(circuit, start, through)

    def _expectations(self, circuit: Any, sentences: Sequence[Any], through: bool) -> Any:
        """Return the expectation values of sums of Pauli words, each a mapping from word to coefficient."""
        measured = [wire for measurement in circuit.measurements for wire in measurement.wires]
        lowered, parameters = self._lowering(circuit.operations, measured, ())
        given = arguments(parameters)
        words = [tuple((lowered.numbers[w], axis) for w, axis in word.items()) for each in sentences for word in each]
        found = simulate(lowered.program, given.inputs, given.weights, tuple(((1.0, word),) for word in words))[0]
        values = found.T if given.batched else found[0]
        coefficients = [list(each.values()) for each in sentences]
        through = through or given.torch or any(isinstance(c, Tensor) for each in coefficients for c in each)
        parts = torch.split(values, [len(each) for each in coefficients])
        sums = [_weighted(*pair) for pair in zip(coefficients, parts, strict=True)]
        return _packed([total if through else total.numpy()[()] for total in sums])

    def _measured(self, circuit: Any, start: Any, through: bool) -> Any:
        """Return what PennyLane's own functions read from the state; start: what prepares it, or None."""
        accepted, how = (_FROM_SHOTS, "with finite shots") if circuit.shots else (StateMeasurement, "without shots")
        for measurement in circuit.measurements:
            if not isinstance(measurement, accepted):
                raise UnsupportedError(f"{measurement} is not accepted {how} on qfedfm.statevector")
        operators, prepared = (circuit.operations[1:], start.wires) if start else (circuit.operations, ())
        measured = [wire for measurement in circuit.measurements for wire in measurement.wires]
        lowered, parameters = self._lowering(operators, measured, prepared)
        given = arguments(parameters, start.parameters if start else ())
        state, batched = _state(lowered, given, start)
        amplitudes = state.numpy(force=True) if circuit.shots or not (through or given.torch) else state
        readouts = [measurement.map_wires(lowered.numbers) for measurement in circuit.measurements]
        if not circuit.shots:
            return _packed([_read(readout, amplitudes, batched) for readout in readouts])
        results = measure_with_samples(readouts, amplitudes, circuit.shots, batched, self._random)
        return tuple(map(_packed, results)) if circuit.shots.has_partitioned_shots else _packed(results)

    def _pull(self, circuit: Any, cotangents: Any) -> tuple[Any, ...]:
        leaves = _leaves(circuit)
        with torch.enable_grad():
            results = self._run(circuit.bind_new_parameters(leaves, circuit.trainable_params), True)
        pairs = zip(results, cotangents, strict=True) if isinstance(results, tuple) else [(results, cotangents)]
        # torch conjugates complex cotangents where autograd does not
        live = [
            (result, torch.from_numpy(np.asarray(given)).to(result).conj())
            for result, given in pairs
            if result.requires_grad
        ]
        if not live:
            return tuple(np.zeros(leaf.shape) for leaf in leaves)
        outputs, along = zip(*live, strict=True)
        found = torch.autograd.grad(outputs, leaves, along, materialize_grads=True)
        return tuple(gradient.numpy() for gradient in found)

    def _jacobian(self, circuit: Any) -> Any:
        def results(*leaves: Tensor) -> Any:
            return self._run(circuit.bind_new_parameters(leaves, circuit.trainable_params), True)

        found = torch.autograd.functional.jacobian(results, _leaves(circuit))  # type: ignore[no-untyped-call]
        by_result = found if len(circuit.measurements) > 1 else (found,)
        return _packed([_packed([each.numpy() for each in derivatives]) for derivatives in by_result])


def _read(readout: Any, state: Any, batched: bool) -> Any:
    """Return the exact result of one measurement of a state, in the precision of the state."""
    result = attempt(partial(measure, readout, state, batched), f"measuring {readout}")
    single = "complex64" in str(state.dtype)
    return qml.math.cast(result, "complex64" if "complex" in str(result.dtype) else "float32") if single else result


def _packed(results: Sequence[Any]) -> Any:
    """Return a tuple, or its only entry: PennyLane's form of results."""
    return results[0] if len(results) == 1 else tuple(results)


def _leaves(circuit: Any) -> tuple[Tensor, ...]:
    """Return the trainable parameters of a tape as fresh torch leaves."""
    values = [np.asarray(value) for value in circuit.get_parameters()]
    if any(np.iscomplexobj(value) for value in values):
        raise UnsupportedError("derivatives by complex parameters are supported for torch only: pass torch tensors")
    dtypes = [value.dtype if value.dtype == np.float32 else np.float64 for value in values]
    return tuple(torch.tensor(v.astype(dtype), requires_grad=True) for v, dtype in zip(values, dtypes, strict=True))


def _sentences(measurements: Sequence[Any]) -> list[Any] | None:
    """Return each measured observable as Pauli words with real coefficients, or None if one is something else."""
    found = []
    for measurement in measurements:
        sentence = None
        if type(measurement) is ExpectationMP and measurement.obs is not None:
            sentence = measurement.obs.pauli_rep
        if not sentence or any(qml.math.imag(c) != 0 for c in sentence.values() if not isinstance(c, float)):
            return None
        found.append(sentence)
    return found


def _weighted(coefficients: Sequence[Any], values: Tensor) -> Tensor:
    """Return the sum of the values (words, [rows]) of Pauli words, each times its coefficient."""
    if len(coefficients) == 1 and coefficients[0] == 1 and not isinstance(coefficients[0], Tensor):
        return values[0]
    reals = [qml.math.real(coefficient) for coefficient in coefficients]
    if any(isinstance(real, Tensor) for real in reals):
        factors = torch.stack([torch.as_tensor(real, dtype=values.dtype, device=values.device) for real in reals])
    else:
        factors = values.new_tensor([float(real) for real in reals])
    return factors @ values


def _deferred(circuit: Any) -> Any:
    """Return `circuit` with its mid-circuit measurements at the end, on wires of their own."""
    if any(getattr(operator, "postselect", None) is not None for operator in circuit.operations):
        raise UnsupportedError(
            "postselection is not supported on qfedfm.statevector; with fallback=True default.qubit does it"
        )
    return qml.defer_measurements(circuit)[0][0]


def _state(lowered: Lowered, given: Arguments, start: Any) -> tuple[Tensor, bool]:
    """Return the state, ([rows,] 2, ..., 2), and whether it has rows."""
    batched = given.batched or (start is not None and start.batch_size is not None)
    if start is None:
        state = states(lowered.program, given.inputs, given.weights)[0].T
    else:
        state = _evolved(lowered, given, start)
    if lowered.phase or lowered.phases:
        angle = torch.full_like(given.weights["w"][:, :1], lowered.phase)
        if lowered.phases:
            angle = angle + evaluate(lowered.phases, given.inputs, given.weights)[0].sum(0).unsqueeze(-1)
        state = state * torch.complex(angle.cos(), angle.sin())
    leading = (len(state),) if batched else ()
    return state.reshape(*leading, *(2,) * lowered.program.n_wires), batched


def _evolved(lowered: Lowered, given: Arguments, start: Any) -> Tensor:
    """Return the states (rows, 2^n) that follow a prepared one.

    It enters by linearity: the gates run once from each basis state of the prepared wires, which rx(pi) = -i x makes.
    """
    amplitudes = torch.as_tensor(start.state_vector(wire_order=start.wires)).reshape(-1, 2 ** len(start.wires))
    (prepared, size), rows = amplitudes.shape, given.inputs["x"].shape[1] if given.batched else 1
    if rows > 1 and prepared not in (1, rows):
        raise UnsupportedError(f"broadcast parameters need equally many rows; got {prepared} states and {rows} rows")
    places = torch.arange(size)[:, None] >> torch.arange(len(start.wires) - 1, -1, -1)
    ones = (places & 1).to(given.weights["w"])
    inputs = {name: x.repeat_interleave(size, dim=1) for name, x in given.inputs.items()}
    inputs["basis"] = math.pi * ones.repeat(rows, 1).unsqueeze(0)
    columns = states(lowered.program, inputs, given.weights)[0].reshape(-1, rows, size)
    return torch.einsum("orj,rj->ro", columns, amplitudes.to(columns) * 1j ** ones.sum(1))
