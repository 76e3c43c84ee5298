"""Error mitigation around any machine: `Mitigated(Aer(noise=file), (ReadoutInversion(),))`.

Readout inversion measures what reading does to each wire and measures observables that make up for it (`readout`). It
costs two circuits now and then and hardly any variance, belongs into training, and is what `Fake` does unless told
otherwise; the methods named in `Mitigated` take the place of that. Zero-noise extrapolation
(`zero_noise`) runs everything several times with more noise and pays for evaluation with thousands of shots.

The wrapped machine does all the work and keeps its name for what it runs; only expectation values are combined. What a
machine has to tell beyond its contract if it rewrites circuits is `Transpiling`: calibrations must be made on the
qubits that are used, and gates folded after rewriting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..declaration import Checkable, declared
from ..errors import BackendError, ConfigurationError
from ..quantum.program import Observable, Program
from .contract import Array, Backend, Cost, Handle, Machine, Measured, Session, ShotCounts
from .folding import fold
from .readout import Calibration, calibration_program, checked, inverted, sensitivities
from .simulated import ShotNumber
from .zero_noise import ZeroNoise


@declared
class ReadoutInversion:
    """Inversion of readout errors, wire by wire.

    shots: of each of the two calibration circuits. max_age: submissions until it is calibrated anew; None calibrates
    anew only where the machine reports a new calibration of its own or other qubits are used. The calibration of a
    resumed run is then the same as before; with an age it is another one.
    """

    shots: ShotNumber = 8192
    max_age: Annotated[int, Field(ge=1)] | None = None


@declared
class Mitigated:
    """A machine with error mitigation: readout inversion, zero-noise extrapolation, or both."""

    backend: Backend
    methods: tuple[ReadoutInversion | ZeroNoise, ...] = (ReadoutInversion(),)

    def __post_init__(self) -> None:
        kinds = [type(method) for method in self.methods]
        if not kinds or len(set(kinds)) < len(kinds):
            raise ConfigurationError("Mitigated.methods: expected one method or more, each of them once")
        if isinstance(self.backend, Mitigated):
            raise ConfigurationError("Mitigated.backend: is mitigated itself; put all methods into one Mitigated(...)")

    @property
    def shots(self) -> int | None:
        """Shots of the machine inside."""
        return self.backend.shots

    def check(self) -> None:
        """Ask the machine inside what would stop it."""
        if isinstance(self.backend, Checkable):
            self.backend.check()

    def connect(self, session: Session) -> Machine:
        """Open the machine inside; raises what that raises."""
        backend = self.backend.raw if isinstance(self.backend, MitigatesItself) else self.backend
        return MitigatedMachine(backend.connect(session), self.methods)


@runtime_checkable
class MitigatesItself(Protocol):
    """A backend that mitigates unless told otherwise."""

    @property
    def raw(self) -> Backend:
        """The same without mitigation."""
        ...


@runtime_checkable
class Transpiling(Protocol):
    """A machine that rewrites programs for its qubits."""

    @property
    def calibrated(self) -> str | None:
        """When the machine was calibrated last."""
        ...

    def layout(self, compiled: Any) -> tuple[int, ...]:
        """Return the qubit on which each wire is read."""
        ...

    def compile_at(self, program: Program, observables: Sequence[Observable], qubits: Sequence[int]) -> Any:
        """Return a program of one-qubit gates with each wire on the qubit that is named for it."""
        ...

    def fold(self, compiled: Any, scale: float) -> Any:
        """Return a compiled program with its gates folded so that their noise grows by `scale`."""
        ...


Scaled = tuple[Any, NDArray[np.int64], Array]
"""A program as the machine inside compiled it, and the angles that it takes: angles[:, source] * signs."""


@dataclass(frozen=True, eq=False)
class Plain:
    """What was asked for, and how the machine inside compiled it, for each noise scale so far."""

    program: Program
    observables: tuple[Observable, ...]
    scaled: dict[float, Scaled]

    @property
    def inside(self) -> Any:
        """Without more noise."""
        return self.scaled[1.0][0]


@dataclass(eq=False)
class Remembered:
    """A calibration, the machine's own at that time, its age in submissions, and what was compiled for it."""

    calibration: Calibration
    calibrated: str | None
    age: int = 0
    compiled: dict[tuple[Program, tuple[Observable, ...]], Plain] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pending:
    """A submission in parts: one handle for each noise scale, and what combines them."""

    handles: tuple[Handle, ...]
    observables: tuple[Observable, ...]
    calibration: Calibration | None
    spent: Cost | None
    about: dict[str, Any]


class MitigatedMachine:
    """See `Mitigated`. A handle can be collected by the process that submitted it; elsewhere, submit again: what the
    machine inside knows by its key is not run twice.
    """

    def __init__(self, machine: Machine, methods: Sequence[ReadoutInversion | ZeroNoise]) -> None:
        self.machine = machine
        self.inversion = next((method for method in methods if isinstance(method, ReadoutInversion)), None)
        self.extrapolation = next((method for method in methods if isinstance(method, ZeroNoise)), None)
        self.name = f"{machine.name}, mitigated"
        self.scales = self.extrapolation.scales if self.extrapolation else (1.0,)
        self._memory: dict[tuple[object, ...], Remembered] = {}
        self._waiting: dict[str, Pending] = {}

    def compile(self, program: Program, observables: Sequence[Observable]) -> Plain:
        """Return a flat program as the machine inside compiles it."""
        inside, slots = self.machine.compile(program, observables), len(program.slots)
        return Plain(program, tuple(observables), {1.0: (inside, np.arange(slots), np.ones(slots))})

    def estimate(self, compiled: Plain, rows: int, shots: ShotCounts) -> Cost:
        """Return what a submission would take: every noise scale, and a calibration if one is due."""
        parts = [self.machine.estimate(self._scaled(compiled, scale)[0], rows, shots) for scale in self.scales]
        if self.inversion is not None and self._known(compiled, shots) is None:
            inside, _ = self._calibrator(compiled)
            cost = self.machine.estimate(inside, 2, None if shots is None else self.inversion.shots)
            parts.append(replace(cost, circuits=0))  # as its circuits are no rows
        return _together(parts)

    def submit(self, compiled: Plain, angles: Array, shots: ShotCounts, key: str) -> Handle:
        """Send rows once for each noise scale; a calibration that is due is made first, and waited for."""
        about: dict[str, Any] = {}
        known, spent, wanted = None, None, compiled
        if self.inversion is not None:
            known, spent = self._calibrated(compiled, shots, key)
            about["readout"] = {"age": known.age, "slope": known.calibration.slope.tolist()}
            known.age += 1
            wanted = self._inverted(compiled, known)
        if self.extrapolation is not None:
            about["scales"] = list(self.scales)
        handles = []
        for scale in self.scales:
            inside, source, signs = self._scaled(wanted, scale)
            part = key if scale == 1 else f"{key}/noise {scale:g}"
            handles.append(self.machine.submit(inside, angles[:, source] * signs, shots, part))
        calibration = known.calibration if known else None
        self._waiting[key] = Pending(tuple(handles), compiled.observables, calibration, spent, about)
        return Handle(self.name, key, tuple(job for handle in handles for job in handle.jobs), len(angles))

    def collect(self, handle: Handle) -> Measured:
        """Wait for all parts and combine them; once."""
        try:
            pending = self._waiting.pop(handle.key)
        except KeyError:
            raise BackendError(
                f"{self.name} holds no submission '{handle.key}': it is collected once, by the process that sent it; "
                "submit it again"
            ) from None
        parts = [self.machine.collect(part) for part in pending.handles]
        values, variances = self._combined(pending, parts)
        cost = _together([part.cost for part in parts] + ([pending.spent] if pending.spent else []))
        shots = np.sum([part.shots for part in parts], axis=0)
        if pending.spent:  # every row rests on the calibration: what it took is shared out, so that sums are right
            each, left = divmod(pending.spent.shots, len(shots))
            shots = shots + each + (np.arange(len(shots)) < left)
        return Measured(values, variances, shots, cost, parts[0].metadata | {"mitigation": pending.about})

    def _combined(self, pending: Pending, parts: Sequence[Measured]) -> tuple[Array, Array]:
        """Return values and variances (N, K) from those of all scales, which end with sensitivities to the readout."""
        own = len(pending.observables)
        found = np.stack([part.values for part in parts])
        spread = np.stack([part.variances for part in parts])[:, :, :own]
        weights = np.ones_like(spread)
        values = found[0, :, :own]
        if self.extrapolation is not None:
            mixed = np.array([sum(factor for factor, word in one if not word) for one in pending.observables])
            scales = np.array(self.scales)
            values, weights = self.extrapolation.fit.extrapolate(scales, found[:, :, :own], spread, mixed)
        variances = (weights**2 * spread).sum(axis=0)
        if pending.calibration is not None:
            column = own
            for k, observable in enumerate(pending.observables):
                for state, wire, _ in sensitivities(observable, pending.calibration):
                    slope = (weights[:, :, k] * found[:, :, column]).sum(axis=0)
                    variances[:, k] += slope**2 * pending.calibration.variances[state, wire]
                    column += 1
        return values, variances

    def _scaled(self, compiled: Plain, scale: float) -> Scaled:
        """Return a compiled program with `scale` times the noise."""
        if scale not in compiled.scaled:
            inside, source, signs = compiled.scaled[1.0]
            if isinstance(self.machine, Transpiling):
                inside = self.machine.fold(inside, scale)
            else:
                program, source, signs = fold(compiled.program, scale)
                inside = self.machine.compile(program, compiled.observables)
            compiled.scaled[scale] = inside, source, signs
        return compiled.scaled[scale]

    def _inverted(self, compiled: Plain, known: Remembered) -> Plain:
        """Return what is run instead of `compiled`: inverted observables, then their sensitivities."""
        name = (compiled.program, compiled.observables)
        if name not in known.compiled:
            calibration = known.calibration
            observables = tuple(inverted(one, calibration) for one in compiled.observables)
            extra = tuple(item[2] for one in compiled.observables for item in sensitivities(one, calibration))
            known.compiled[name] = self.compile(compiled.program, observables + extra)
        return known.compiled[name]

    def _place(self, compiled: Plain, shots: ShotCounts) -> tuple[object, ...]:
        """Return what a calibration holds for: the qubits, and whether it has statistical errors."""
        at = self.machine.layout(compiled.inside) if isinstance(self.machine, Transpiling) else compiled.program.n_wires
        return at, shots is None

    def _known(self, compiled: Plain, shots: ShotCounts) -> Remembered | None:
        """Return the calibration that is remembered, unless it is too old or the machine has changed since."""
        assert self.inversion is not None
        known = self._memory.get(self._place(compiled, shots))
        if known is None or known.calibrated != self._state():
            return None
        return known if self.inversion.max_age is None or known.age < self.inversion.max_age else None

    def _state(self) -> str | None:
        return self.machine.calibrated if isinstance(self.machine, Transpiling) else None

    def _calibrator(self, compiled: Plain) -> tuple[Any, Array]:
        """Return the calibration on the qubits of `compiled`, compiled, and its angles."""
        program, observables, angles = calibration_program(compiled.program.n_wires)
        if isinstance(self.machine, Transpiling):
            at = self.machine.layout(compiled.inside)
            return self.machine.compile_at(program, observables, at), angles
        return self.machine.compile(program, observables), angles

    def _calibrated(self, compiled: Plain, shots: ShotCounts, key: str) -> tuple[Remembered, Cost | None]:
        """Return the calibration to use, made now if none is known, and what making it took."""
        assert self.inversion is not None
        known = self._known(compiled, shots)
        if known is not None:
            return known, None
        inside, angles = self._calibrator(compiled)
        state, number = self._state(), None if shots is None else self.inversion.shots
        at, _ = self._place(compiled, shots)
        name = f"readout of {at}, {state}" if self.inversion.max_age is None else f"{key}/readout"
        measured = self.machine.collect(self.machine.submit(inside, angles, number, name))
        known = Remembered(checked(Calibration(measured.values, measured.variances)), state)
        self._memory[self._place(compiled, shots)] = known
        return known, replace(measured.cost, circuits=0)


def _together(parts: Sequence[Cost]) -> Cost:
    """Return the cost of several submissions, the first being what the compiled circuit is described by."""
    return replace(
        parts[0],
        circuits=sum(part.circuits for part in parts),
        shots=sum(part.shots for part in parts),
        jobs=sum(part.jobs for part in parts),
        qpu_seconds=sum(part.qpu_seconds for part in parts),
    )
