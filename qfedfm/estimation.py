"""What a run would take on a quantum processor, before anything is sent.

The run is rehearsed on a machine that only counts: the same federation with the same clients, minibatches and
evaluations submits the same rows, for each way to find gradients, and the device's own estimate of each submission is
added up. Values come from a random generator and features are left out, for neither changes what is submitted. So what
is counted here is what the budget of a run would be charged, except where a rule or an optimiser decides by what it
measures how often it goes on.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .assembly import Prepared, bind, federate, with_poisoned
from .backends import (
    IBM,
    Backend,
    Cost,
    Fake,
    FakeRuntime,
    Gradient,
    Handle,
    Machine,
    Measured,
    ParameterShift,
    RuntimeMitigation,
    Session,
    Spsa,
)
from .backends.contract import Array, ShotCounts
from .backends.qpu_time import quick_seconds, usage_seconds
from .errors import ConfigurationError
from .experiment import Experiment
from .federation.rehearsal import rehearse
from .measuring import measure
from .quantum.program import Observable, Program
from .seeds import stream

if TYPE_CHECKING:
    import pandas as pd

    from .backends.ibm_machine import RuntimeMachine
    from .backends.ibm_program import Asked

ANY_WIDTH = 384  # of features of texts: the layer before a circuit changes nothing of what the circuit is asked


@dataclass(frozen=True)
class Spending:
    """What some submissions take together.

    submissions: gradients or evaluations. jobs: into which limits divide them. circuits: rows with the points of their
    gradients, times measurement settings. executions: shots of all of them, those of readout calibrations included.
    qpu_seconds: from the length of the circuit; quick_seconds: from the number of executions alone; charged: the larger
    of both for each job, which is what a budget counts.
    """

    submissions: int = 0
    jobs: int = 0
    circuits: int = 0
    executions: int = 0
    qpu_seconds: float = 0.0
    quick_seconds: float = 0.0
    charged: float = 0.0

    def __add__(self, other: "Spending") -> "Spending":
        return Spending(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Method:
    """One way to find gradients: what training and evaluation would take over the whole run, and in how many steps."""

    gradient: Gradient
    training: Spending
    evaluation: Spending

    @property
    def charged(self) -> float:
        """Seconds of the whole run."""
        return self.training.charged + self.evaluation.charged


@dataclass(frozen=True)
class Estimate:
    """What a run would take on one device, for each way to find gradients.

    circuit: depth, two-qubit gates and estimated fidelity of the circuit on the device; of the deepest if there are
    several. price: of a second, in whatever currency; max_qpu_seconds: a budget; None if it was not stated.
    readout_corrected: whether readout errors are, which takes a calibration in each job. plateau: a warning that shots
    would hide the gradients with which training begins.
    """

    experiment: str
    device: str
    circuit: Cost
    rounds: int
    methods: tuple[Method, ...]
    price: float | None = None
    max_qpu_seconds: float | None = None
    readout_corrected: bool = False
    plateau: str | None = None

    def rounds_within(self, method: Method, seconds: float) -> int:
        """Return how many rounds so many seconds pay for, by the mean round, after evaluating the untrained model."""
        first = method.evaluation.charged / (self.rounds + 1)
        return max(0, int((seconds - first) // ((method.charged - first) / self.rounds)))

    def to_frame(self) -> "pd.DataFrame":
        """Return one row for each method, part ("training", "evaluation") and span ("step", "round", "run").

        Steps and rounds are means over the run; a step of evaluation is one evaluation.
        """
        import pandas as pd

        rows = []
        for method in self.methods:
            for part in ("training", "evaluation"):
                whole: Spending = getattr(method, part)
                if not whole.submissions:
                    continue
                times = self.rounds + (part == "evaluation")  # the untrained model is evaluated too
                for span, count in (("step", whole.submissions), ("round", times), ("run", 1)):
                    told = {name: value / max(count, 1) for name, value in asdict(whole).items()}
                    money = {} if self.price is None else {"money": told["charged"] * self.price}
                    rows.append({"gradient": repr(method.gradient), "part": part, "span": span} | told | money)
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        fidelity = f"{self.circuit.fidelity:.3f}" if self.circuit.fidelity is not None else "unknown"
        lines = [
            f"{self.experiment} on {self.device}: {self.rounds} rounds; nothing was sent",
            f"circuit: depth {self.circuit.depth}, {self.circuit.two_qubit_gates} two-qubit gates, estimated fidelity "
            + fidelity,
            "readout errors are corrected, with a calibration in each job"
            if self.readout_corrected
            else "readout errors are not corrected",
            *([self.plateau] if self.plateau else []),
        ]
        heads = ("", "jobs", "circuits", "executions", "QPU s", "quick s") + (("money",) if self.price else ())
        frame = self.to_frame()
        for method in self.methods:
            lines += ["", repr(method.gradient), "".join(f"{head:>{20 if not head else 14}}" for head in heads)]
            for row in frame[frame.gradient == repr(method.gradient)].to_dict("records"):
                numbers = [row[name] for name in ("jobs", "circuits", "executions", "qpu_seconds", "quick_seconds")]
                numbers += [row["money"]] if self.price else []
                lines.append(
                    f"{row['part']:>12} {row['span']:>7}" + "".join(f"{_short(number):>14}" for number in numbers)
                )
            line = f"a budget is charged {method.charged:,.0f} s for the run"
            if self.max_qpu_seconds is not None:
                within = min(self.rounds, self.rounds_within(method, self.max_qpu_seconds))
                line += f"; {self.max_qpu_seconds:g} s pay for {within} of {self.rounds} rounds"
            lines.append(line)
        return "\n".join(lines)


def estimate(
    experiment: Experiment | str | Path,
    backend: Backend | None = None,
    *,
    gradients: Sequence[Gradient] | None = None,
    price: float | None = None,
    max_qpu_seconds: float | None = None,
) -> Estimate:
    """Return what a run of an experiment would take on a device, without sending anything to it.

    backend: `IBM(...)`, which is asked for its calibration, `FakeRuntime(...)` or `Fake(...)`, which is counted as the
    former; None takes the experiment's.
    gradients: ways to find gradients; None takes the experiment's own, parameter shifts and SPSA. price: of a second.
    max_qpu_seconds: a budget, of which the result says how many rounds it pays for.
    Raises `ConfigurationError` for another backend, or a head without a circuit.
    """
    experiment = Experiment.of(experiment)
    device = backend or experiment.backend
    if isinstance(device, Fake) and device.shots:
        asked = RuntimeMitigation(readout=device.mitigated and device.noise)
        device = FakeRuntime(device.device, device.shots, asked, transpilations=device.transpilations)
    if not isinstance(device, IBM | FakeRuntime):
        raise ConfigurationError(
            f'estimate: {device!r} is no device that bills its time; name one, IBM("ibm_torino") or '
            'FakeRuntime("torino"), on the command line --backend ibm:ibm_torino or fake:torino'
        )
    for name, given in (("price", price), ("max_qpu_seconds", max_qpu_seconds)):
        if given is not None and not 0 <= given < math.inf:
            raise ConfigurationError(f"estimate: {name}: expected a number, 0 or more; got {given}")
    if gradients is not None and not gradients:
        raise ConfigurationError("estimate: gradients: expected one way to find gradients or more; got none")
    if gradients is None:
        own = [experiment.training.gradient] if experiment.training.gradient else []
        gradients = [*own, *(rule for rule in (ParameterShift(), Spsa()) if rule not in own)]
    prepared = _without_features(experiment)
    model = bind(experiment, prepared)
    if model.circuit is None:
        raise ConfigurationError(f"estimate: {experiment.head!r:.100} has no circuit to run on a machine")
    with tempfile.TemporaryDirectory() as folder:  # a journal that stays empty, and no second to spend
        machine: Any = device.connect(Session(experiment.seed, Path(folder) / "jobs.jsonl", 0.0))
        methods, circuits = [], list[Cost]()
        for gradient in gradients:
            counting = Counting(machine, device.shots, experiment.seed)
            _rehearse(experiment, prepared, counting, gradient)
            methods.append(Method(gradient, counting.total(evaluation=False), counting.total(evaluation=True)))
            circuits += counting.compiled
    deepest = max(circuits, key=lambda cost: (cost.two_qubit_gates or 0, cost.depth or 0))
    return Estimate(
        experiment.name,
        machine.name,
        deepest,
        experiment.rounds,
        tuple(methods),
        price,
        max_qpu_seconds,
        device.mitigation.readout,
        replace(experiment, backend=device).plateau(),
    )


class Counting:
    """A backend and machine that asks another one for estimates and answers with random values; see `Machine`."""

    def __init__(self, machine: "RuntimeMachine", shots: int, seed: int) -> None:
        self.machine, self.shots, self.seed, self.name = machine, shots, seed, machine.name
        self.compiled: list[Cost] = []
        self._spent: list[tuple[str, Spending]] = []
        self._waiting: dict[str, Measured] = {}

    def connect(self, session: Session) -> Machine:  # noqa: ARG002
        """Return itself."""
        return self

    def total(self, *, evaluation: bool) -> Spending:
        """Return what the submissions of evaluations took, or all others: training, and what clients or the server
        look at before and after it.
        """
        return sum((spending for key, spending in self._spent if ("/evaluation/" in key) == evaluation), Spending())

    def compile(self, program: Program, observables: Sequence[Observable]) -> "Asked":
        """Compile for the device."""
        compiled = self.machine.compile(program, observables)
        self.compiled.append(self.machine.estimate(compiled, 1, 1))
        return compiled

    def estimate(self, compiled: "Asked", rows: int, shots: ShotCounts) -> Cost:
        """Ask the device."""
        return self.machine.estimate(compiled, rows, shots)

    def submit(self, compiled: "Asked", angles: Array, shots: ShotCounts, key: str) -> Handle:
        """Count a submission."""
        rows = len(angles)
        cost = self.estimate(compiled, rows, shots)
        by_circuit = usage_seconds(cost.shots, *self.machine.timing(compiled), cost.jobs)
        quick = quick_seconds(cost.shots, cost.jobs)
        spending = Spending(1, cost.jobs, cost.circuits, cost.shots, by_circuit, quick, cost.qpu_seconds)
        self._spent.append((key, spending))
        values = stream(self.seed, "estimate", key).uniform(-1, 1, (rows, len(compiled.observables)))
        counted = np.full(rows, compiled.settings * self.shots)
        self._waiting[key] = Measured(values, np.full_like(values, 1 / self.shots), counted, cost)
        return Handle(self.name, key, (), rows)

    def collect(self, handle: Handle) -> Measured:
        """Return random values."""
        return self._waiting.pop(handle.key)


def _without_features(experiment: Experiment) -> Prepared:
    """Return the data with a table of zeros in place of features."""
    dataset = experiment.data.load()
    width = ANY_WIDTH if isinstance(dataset.items, tuple) else dataset.items.shape[1]
    dtype = torch.float64 if experiment.precision == "float64" else torch.float32
    prepared = Prepared(dataset, torch.zeros(len(dataset), width, dtype=dtype), torch.as_tensor(dataset.labels))
    return with_poisoned(prepared, [experiment.adversary.attack] if experiment.adversary else [])


def _rehearse(experiment: Experiment, prepared: Prepared, counting: Counting, gradient: Gradient) -> None:
    """Run all rounds on a machine that counts."""
    training = replace(experiment.training, gradient=gradient)
    asked = replace(experiment, backend=counting, training=training, device="cpu")
    federation = federate(asked, prepared, bind(asked, prepared), run_id="estimate")
    measure([federation])
    for _ in range(experiment.rounds):
        (outcome,) = rehearse([(federation.server, federation.engine.cohort)])
        if isinstance(outcome, Exception):
            raise outcome
        measure([federation])


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:,.1f}"
