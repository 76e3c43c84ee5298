"""The machine behind `IBM` and `FakeRuntime`: one circuit, one job, one bill.

A submission is one transpiled circuit and one job, or several where a job would have more executions than IBM takes
or where rows have different numbers of shots, which a job cannot have. Nothing is sent that is not written down before
(`journal`), that the budget does not cover, or that the service already has: a job's tag is looked up before each
attempt, so that a lost reply, a crash or a second start of the program does not pay twice.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BudgetExceeded
from ..quantum.program import Observable, Program
from ..seeds import stream
from .contract import Array, Cost, Handle, Measured, Session, ShotCounts, shot_counts
from .ibm import RuntimeMitigation
from .ibm_program import Asked, count_settings, on_device, with_a_slot
from .ibm_requests import RefusedError, ask
from .ibm_service import ENDED, Found, Service, Work, snapshot
from .journal import Job, Journal
from .measurement import readings
from .qpu_time import quick_seconds, rep_delay_seconds, usage_seconds
from .transpile import Transpiled, compile_for

T = TypeVar("T")
MAX_EXECUTIONS = 10_000_000
"""Executions that IBM takes in one job (quantum.cloud.ibm.com/docs/guides/job-limits); backends' own fields
max_experiments and max_shots are no longer enforced, as the same page says."""
LONGEST_SECONDS = 10_800
"""The longest time that a job may be given."""
PACKAGES = ("qiskit", "qiskit-aer", "qiskit-ibm-runtime")


class RuntimeMachine:
    """See `IBM`; `sleep` waits between requests, `attempts` says how often each is made before giving up."""

    def __init__(
        self,
        name: str,
        service: Service,
        session: Session,
        mitigation: RuntimeMitigation,
        transpilations: int,
        max_wait: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
        attempts: int = 6,
    ) -> None:
        self.name, self.service, self.session, self.mitigation = name, service, session, mitigation
        self.transpilations, self.max_wait, self.sleep, self.attempts = transpilations, max_wait, sleep, attempts
        self.journal = Journal(session.journal if service.bills else None)
        self.rep_delay = rep_delay_seconds(service.device)
        self._made: dict[tuple[Program, tuple[Observable, ...]], tuple[str | None, Transpiled, dict[str, Any]]] = {}

    def spent(self) -> float:
        """Return the seconds that all jobs of this run have taken: as billed, or as estimated until that is known."""
        return self.journal.spent()

    def remaining(self) -> float:
        """Return the seconds that are left of the budget; infinite without one."""
        limit = self.session.max_qpu_seconds
        return math.inf if limit is None else max(0.0, limit - self.spent())

    def pending(self) -> list[Handle]:
        """Return the submissions of the journal that were sent and not yet collected."""
        keys = dict.fromkeys(job.key for job in self.journal.jobs() if job.state == "sent")
        return [self._handle(key) for key in keys]

    def compile(self, program: Program, observables: Sequence[Observable]) -> Asked:
        """Transpile a flat program, unless that was done since the device's last calibration."""
        asked = Asked(with_a_slot(program), tuple(observables), count_settings(observables))
        if not asked.settings:
            raise BackendError(f"{self.name}: the observables are constants, there is nothing to measure")
        self._transpiled(asked)
        return asked

    def estimate(self, compiled: Asked, rows: int, shots: ShotCounts) -> Cost:
        """Return what a submission would take; of the two formulas for seconds (`qpu_time`) the larger."""
        jobs = self._jobs(compiled, shot_counts(shots, rows), "", "")
        made = self._transpiled(compiled)
        return Cost(
            circuits=rows * compiled.settings,
            shots=sum(self._executions(compiled, len(job.rows), job.shots) for job in jobs),
            jobs=len(jobs),
            qpu_seconds=sum(job.estimate for job in jobs),
            depth=made.depth,
            two_qubit_gates=made.two_qubit_gates,
            fidelity=made.fidelity,
        )

    def timing(self, compiled: Asked) -> tuple[float, float]:
        """Return the length of the circuit, measurement included, and the pause between executions, in seconds."""
        return self._transpiled(compiled).duration_s, self.rep_delay

    def submit(self, compiled: Asked, angles: Array, shots: ShotCounts, key: str) -> Handle:
        """Send rows of angles (N, slots), or find that they were sent before, by whatever process.

        Raises `BudgetExceeded`, before anything is sent, if what was spent and what this is estimated to take together
        pass the budget; `BackendError` if the service cannot be reached or refuses.
        """
        if shots is None:
            raise BackendError(f"{self.name} needs a number of shots; use Exact() for exact values")
        if not len(angles):
            raise BackendError(f"{self.name}: there are no rows to run")
        slots = len(compiled.program.slots)
        if angles.shape[1:] == (0,):
            angles = np.zeros((len(angles), slots))
        if angles.ndim != 2 or angles.shape[1] != slots:
            raise BackendError(f"{self.name}: expected angles (rows, {slots}); got {angles.shape}")
        counts = shot_counts(shots, len(angles))
        digest = self._digest(compiled, angles, counts)
        with self.journal.locked():
            self._settle()
            known = self.journal.jobs(key)
            if any(job.digest != digest for job in known):
                raise BackendError(
                    f"a submission named '{key}' was sent with other angles, shots or options; a name stands for one "
                    "piece of work: start a new run in a new directory"
                )
            self._ask("ask for the calibration", self.service.refresh)
            again = [self._again(job) for job in known if not self._sent(job)]
            self._send(compiled, angles, again if known else self._jobs(compiled, counts, key, digest))
            return self._handle(key)

    def collect(self, handle: Handle) -> Measured:
        """Wait for the jobs of a submission and return what they measured.

        Raises `BackendError` if one was cancelled, failed, or is waited for longer than `max_wait`.
        """
        jobs = self.journal.jobs(handle.key)
        if not jobs or any(job.id is None for job in jobs):
            raise BackendError(f"{self.name}: the journal {self.journal.path} has no submission '{handle.key}'")
        found = [self._finish(job) for job in jobs]
        jobs = self.journal.jobs(handle.key)  # with their bills
        record = jobs[0].record
        values = np.zeros((handle.rows, found[0].values.shape[1]))
        variances, shots = np.zeros_like(values), np.zeros(handle.rows, dtype=np.int64)
        for job, part in zip(jobs, found, strict=True):
            rows = list(job.rows)
            values[rows], variances[rows], shots[rows] = part.values, part.variances, job.record["shots_of_row"]
        cost = Cost(
            circuits=handle.rows * record["settings"],
            shots=sum(job.record["executions"] for job in jobs),
            jobs=len(jobs),
            qpu_seconds=sum(job.seconds for job in jobs),
            **{name: record[name] for name in ("depth", "two_qubit_gates", "fidelity")},
        )
        then = [(part.calibrated, job.record["calibration"]["time"]) for part, job in zip(found, jobs, strict=True)]
        about = {name: record[name] for name in ("device", "layout", "seed", "calibration", "mitigation", "versions")}
        about |= {
            "jobs": [job.id for job in jobs],
            "billed": all(job.billed is not None for job in jobs),
            "calibration_changed": any(at_run not in (None, at_compile) for at_run, at_compile in then),
        }
        return Measured(values, variances, shots, cost, about)

    # a submission's jobs

    def _jobs(self, compiled: Asked, counts: NDArray[np.int64], key: str, digest: str) -> list[Job]:
        """Return the jobs of a new submission: rows of equal shots together, as many as a job may hold."""
        jobs: list[Job] = []
        for shots in np.unique(counts).tolist():
            rows = np.flatnonzero(counts == shots).tolist()
            of_none = self._executions(compiled, 0, shots)
            room = (MAX_EXECUTIONS - of_none) // (self._executions(compiled, 1, shots) - of_none)
            if room < 1:
                raise BackendError(
                    f"{self.name}: {shots} shots of one row are more than the {MAX_EXECUTIONS:,} executions of a job"
                )
            for start in range(0, len(rows), room):
                part = tuple(rows[start : start + room])
                executions = self._executions(compiled, len(part), shots)
                estimate = max(usage_seconds(executions, *self.timing(compiled)), quick_seconds(executions))
                number = len(jobs)
                tag = self.journal.tag(key, number, 1) if key else ""
                jobs.append(Job(tag, key, number, 1, digest, part, shots, estimate))
        return jobs

    def _executions(self, compiled: Asked, rows: int, shots: int) -> int:
        """Return the executions of a job: of its rows, at every noise factor, and of the calibration of readout."""
        circuits, each = self.mitigation.randomizations(shots)
        factors = self.mitigation.factors
        return circuits * each * (rows * compiled.settings * factors + (1 if self.mitigation.readout else 0))

    def _again(self, job: Job) -> Job:
        """Return the job that stands for one in the journal: itself, or a new one where that failed."""
        if job.state != "failed":
            return job
        tag = self.journal.tag(job.key, job.part, job.attempt + 1)
        return replace(job, tag=tag, attempt=job.attempt + 1, state="asked", id=None, billed=None)

    def _sent(self, job: Job) -> bool:
        """Whether a job of the journal was sent and may be collected, perhaps by a process that never heard of it."""
        if job.state == "failed":
            return False
        if job.id is not None:
            return self.service.holds(job.id)
        found = self._ask("look for a job", lambda: self.service.find(job.tag))
        if found is not None:
            self.journal.sent(job, found)
        return found is not None

    def _send(self, compiled: Asked, angles: Array, jobs: Sequence[Job]) -> None:
        counted, limit = {job.tag for job in self.journal.jobs()}, self.session.max_qpu_seconds
        took = sum(job.seconds for job in self.journal.jobs() if job.tag not in {job.tag for job in jobs})
        new = sum(job.estimate for job in jobs)
        if jobs and limit is not None and took + new > limit:
            raise BudgetExceeded(
                f"{self.name}: '{jobs[0].key}' would take about {new:.1f} s on the quantum processor; of {limit:g} s "
                f"{took:.1f} s are spent and {max(0.0, limit - took):.1f} s left. "
                "Nothing was sent: allow more with --max-qpu-seconds and resume, or start a new run with fewer shots, "
                "smaller batches or Spsa() gradients"
            )
        made = self._transpiled(compiled)
        observables = [on_device(one, made) for one in compiled.observables]
        columns = [parameter.index for parameter in made.circuit.parameters]
        jobs = [replace(job, record=self._record(compiled, made, job)) for job in jobs]
        for job in jobs:  # all parts count before the first is sent
            self.journal.asked(job)
        for job in jobs:
            seed = int(stream(self.session.seed, "runtime", self.name, job.key, job.part).integers(2**31))
            part = angles[np.ix_(job.rows, columns)]
            work = Work(made.circuit, observables, part, job.shots, self.mitigation.options, seed)
            left = min(self.remaining() + job.estimate, LONGEST_SECONDS)
            id = self._submit(job, work, max(math.ceil(job.estimate), math.floor(left)), job.tag not in counted)
            self.journal.sent(job, id)

    def _submit(self, job: Job, work: Work, cap: int, new: bool) -> str:
        """Send one job, unless it is found before a further attempt; new: no earlier process can have sent it."""
        tried: list[str] = []

        def attempt() -> str:
            tried.append("find")
            found = self.service.find(job.tag)
            if found is not None:
                return found
            tried.append("send")
            return self.service.send(work, job.tag, cap)

        try:
            return self._ask("submit a job", attempt)
        except RefusedError as error:
            if new and tried == ["find", "send"]:  # else it may be there all the same, and stays in the budget
                self.journal.failed(job, 0.0, str(error))
            raise

    def _handle(self, key: str) -> Handle:
        jobs = self.journal.jobs(key)
        ids = tuple(job.id for job in jobs if job.id is not None)
        return Handle(self.name, key, ids, sum(len(job.rows) for job in jobs))

    # waiting and billing

    def _finish(self, job: Job) -> Found:
        """Wait for a job, write down how it ended, and return its result."""
        id = str(job.id)
        if not self.service.holds(id):
            raise BackendError(
                f"{self.name} holds no submission '{job.key}': it lives in the process that began it, and is collected "
                "once; submit it again"
            )
        state, reason = ("DONE", "") if job.state == "done" else self._wait(job)
        if state != "DONE":
            raise self._lost(job, state, reason)
        found = self._ask(f"fetch the result of job {id}", lambda: self.service.result(id))
        if job.state != "done":
            billed = self._bill(id)
            with self.journal.locked():
                self.journal.done(job, billed)
        return found

    def _wait(self, job: Job) -> tuple[str, str]:
        """Ask for a job's state until it has ended, every second at first, every half minute at last."""
        id, waited, pause = str(job.id), 0.0, 1.0
        while True:
            state, reason = self._ask(f"ask for the state of job {id}", lambda: self.service.state(id))
            if state in ENDED:
                return state, reason
            if self.max_wait is not None and waited >= self.max_wait:
                raise BackendError(
                    f"{self.name}: job {id} is {state.lower()} after {waited:.0f} s, longer than max_wait; it is in "
                    "the journal and goes on: resume later, it will not be sent or billed again"
                )
            self.sleep(pause)
            waited, pause = waited + pause, min(1.5 * pause, 30.0)

    def _lost(self, job: Job, state: str, reason: str) -> BackendError:
        """Write down that a job has no result, and return the error that says so."""
        billed = self._bill(str(job.id)) if job.state != "failed" else job.billed
        if job.state != "failed":
            with self.journal.locked():
                self.journal.failed(job, billed, reason or state.lower())
        told = "an unknown time" if billed is None else f"{billed:g} s"
        words = " ".join(reason.split()).rstrip(".:")
        how = "was cancelled" if state == "CANCELLED" else f"failed ({words:.400})"
        more = " with a larger --max-qpu-seconds" if "maximum execution time" in words else ""
        return BackendError(
            f"{self.name}: job {job.id} {how}; {told} were billed. What came before is kept: resume{more}, and the "
            "work is sent again as a new job, with a bill of its own"
        )

    def _bill(self, id: str) -> float | None:
        """Return the seconds billed for a job that has ended; None if the service does not settle it at once."""
        for attempt in range(5 if self.service.bills else 0):
            if attempt:
                self.sleep(2.0)
            billed = self._ask_bill(id)
            if billed is not None:
                return billed
        return None

    def _ask_bill(self, id: str) -> float | None:
        return self._ask(f"ask for the bill of job {id}", lambda: self.service.billed(id))

    def _settle(self) -> None:
        """Ask again for bills that were not known."""
        for job in self.journal.jobs() if self.service.bills else []:
            if job.state in ("done", "failed") and job.billed is None and job.id is not None:
                billed = self._ask_bill(job.id)
                if billed is not None and job.state == "done":
                    self.journal.done(job, billed)
                elif billed is not None:
                    self.journal.failed(job, billed, job.reason)

    def _ask(self, what: str, question: Callable[[], T]) -> T:
        return ask(self.service, self.name, what, question, self.sleep, self.attempts)

    # what is compiled and recorded

    def _transpiled(self, compiled: Asked) -> Transpiled:
        """Return the circuit for the device as it is calibrated now; layouts are looked up by `transpile`."""
        name = compiled.program, compiled.observables
        when = self._ask("ask for the calibration", self.service.calibrated)
        if name not in self._made or self._made[name][0] != when:
            settings = readings(compiled.observables).settings
            made = compile_for(self.service.device, compiled.program, settings, self.transpilations)
            self._made[name] = when, made, snapshot(self.service.device, made.circuit)
        return self._made[name][1]

    def _digest(self, compiled: Asked, angles: Array, counts: NDArray[np.int64]) -> str:
        parts = [self.name, compiled.program.hash, repr(compiled.observables), json.dumps(asdict(self.mitigation))]
        content = "\n".join(parts).encode() + angles.astype("<f8").tobytes() + counts.astype("<i8").tobytes()
        return hashlib.sha256(content).hexdigest()

    def _record(self, compiled: Asked, made: Transpiled, job: Job) -> dict[str, Any]:
        """Return what belongs to a job's result, for whoever collects it."""
        circuits, each = self.mitigation.randomizations(job.shots)
        return {
            "device": self.service.device.name,
            "settings": compiled.settings,
            "executions": self._executions(compiled, len(job.rows), job.shots),
            "shots_of_row": compiled.settings * circuits * each * self.mitigation.factors,
            "depth": made.depth,
            "two_qubit_gates": made.two_qubit_gates,
            "fidelity": made.fidelity,
            "layout": list(made.layout),
            "seed": made.seed,
            "mitigation": asdict(self.mitigation),
            "versions": {package: version(package) for package in PACKAGES},
            "calibration": self._made[compiled.program, compiled.observables][2],
        }
