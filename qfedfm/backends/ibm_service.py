"""qiskit-ibm-runtime, imported here alone: IBM's service, and the same client without one.

A `Service` carries jobs and knows nothing of budgets, journals or retries. Every job is one call of the runtime's
client-side estimator (`executor_estimator.Estimator`): one circuit, all its rows and observables. It calibrates and
corrects readout, twirls and extrapolates by itself, in local mode too, and a job's result can be had from its id alone.
The estimator and sampler that ran on IBM's side are deprecated since 0.50.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Protocol

import numpy as np

from ..errors import BackendError, MissingExtraError, nearest
from .contract import Array
from .fake import snapshot_of
from .part import moved, moved_observable, part, used_qubits

ENDED = {"DONE", "CANCELLED", "ERROR"}
UNREACHABLE, BUSY, DENIED, REFUSED = "unreachable", "busy", "denied", "refused"


@dataclass(frozen=True, eq=False)
class Work:
    """One job: a transpiled circuit, its observables on the device's qubits, angles (n, slots), shots and options.

    options: of the estimator. seed: of a simulated job.
    """

    circuit: Any
    observables: Sequence[Any]
    angles: Array
    shots: int
    options: dict[str, Any]
    seed: int


@dataclass(frozen=True, eq=False)
class Found:
    """A job's result: values and variances (n, K), and the calibration it ran under, in UTC, where that is known."""

    values: Array
    variances: Array
    calibrated: str | None


class Service(Protocol):
    """What carries jobs to one device; any method may raise what `trouble` reads.

    device: a Qiskit backend. bills: whether its jobs cost anything, and outlive the process.
    """

    device: Any
    bills: bool

    def refresh(self) -> None:
        """Fetch the device's newest calibration."""
        ...

    def calibrated(self) -> str | None:
        """Return the time, in UTC, of the calibration that was fetched last."""
        ...

    def find(self, tag: str) -> str | None:
        """Return the id of the job with this tag, if there is one."""
        ...

    def send(self, work: Work, tag: str, cap: int) -> str:
        """Send a job that may take `cap` seconds; return its id."""
        ...

    def holds(self, id: str) -> bool:
        """Whether a job that was sent can be asked for; jobs of a local service end with its process."""
        ...

    def state(self, id: str) -> tuple[str, str]:
        """Return a job's state (QUEUED, RUNNING, DONE, CANCELLED or ERROR) and the reason for it, if any."""
        ...

    def billed(self, id: str) -> float | None:
        """Return the seconds billed for a job; None while that is not settled."""
        ...

    def result(self, id: str) -> Found:
        """Return the result of a job that is done."""
        ...

    def renew(self) -> None:
        """Get a new access token; raise if the account gives none."""
        ...


class IbmService:
    """A device of IBM's, through the account of the environment or the saved one.

    instance, account: names of a service instance and of a saved account; None takes the default.
    """

    bills = True

    def __init__(self, name: str, instance: str | None, account: str | None) -> None:
        runtime = client()
        try:
            self._service = runtime.QiskitRuntimeService(name=account, instance=instance)
            self._service.usage()  # says that a token is refused, which looking for devices does not
            self.device = self._device(name)
        except BackendError:
            raise
        except Exception as error:
            raise cannot_connect(error) from error
        self._jobs: dict[str, Any] = {}

    def _device(self, name: str) -> Any:
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        try:
            device = self._service.backend(name)
        except QiskitBackendNotFoundError:
            known = [found.name for found in self._service.backends()]
            raise BackendError(
                f"this account has no device '{name}'{nearest(name, known)}; it has {', '.join(known) or 'none'}"
            ) from None
        if device.configuration().simulator:
            raise BackendError(
                f"'{name}' is a simulator; IBM(...) runs on quantum processors only: use Aer(...) or Fake(...)"
            )
        return device

    def refresh(self) -> None:
        """Fetch the calibration, and what the transpiler knows of the device if that is new."""
        before = calibrated(self.device.properties())
        if calibrated(self.device.properties(refresh=True)) != before:
            self.device.refresh()

    def calibrated(self) -> str | None:
        """Return the time of the calibration in hand; the client asks for it once."""
        return calibrated(self.device.properties())

    def find(self, tag: str) -> str | None:
        """Look a tag up on the service."""
        found = self._service.jobs(job_tags=[tag], limit=1)
        return str(found[0].job_id()) if found else None

    def send(self, work: Work, tag: str, cap: int) -> str:
        """Submit a job."""
        options = work.options | {"environment": {"job_tags": [tag]}, "max_execution_time": cap}
        job = _estimate(self.device, work, options)
        self._jobs[job.job_id()] = job
        return str(job.job_id())

    def holds(self, id: str) -> bool:  # noqa: ARG002
        """The service keeps its jobs."""
        return True

    def state(self, id: str) -> tuple[str, str]:
        """Ask for a job's state."""
        job = self._job(id)
        state = job.status()
        return state, (job.error_message() or "") if state == "ERROR" else ""

    def billed(self, id: str) -> float | None:
        """Ask for a job's bill."""
        usage = self._job(id).metrics().get("usage", {})
        return None if usage.get("status", "pending") == "pending" else float(usage["qpu_charge_time_seconds"])

    def result(self, id: str) -> Found:
        """Fetch and post-process a result, and look up the calibration of the time when it ran."""
        job = self._job(id)
        return _found(job.result()[0], calibrated(job.properties()))

    def renew(self) -> None:
        """Get a new access token with the account's key."""
        for client in {self._service._active_api_client, *self._service._api_clients.values()}:
            manager = client._session.auth.tm
            manager.expire_time = manager.request_time = 0  # or else it waits a minute after a refusal
            manager.get_token()

    def _job(self, id: str) -> Any:
        if id not in self._jobs:
            self._jobs[id] = self._service.job(id)
        return self._jobs[id]


class LocalService:
    """The same client on a fake device: jobs run in this process, and are billed nothing.

    The client measures every qubit of a circuit's device, which no simulator can for a large one, so the circuit is
    moved to a device that has its qubits alone.
    """

    bills = False

    def __init__(self, name: str) -> None:
        self.device = snapshot_of(name)()
        self._calibrated = calibrated(self.device.properties())
        self._jobs: dict[str, tuple[Any, float]] = {}

    def refresh(self) -> None:
        """A snapshot is never calibrated again."""

    def calibrated(self) -> str | None:
        """Return the time of the snapshot."""
        return self._calibrated

    def find(self, tag: str) -> str | None:
        """Return the job with this tag, if this process ran it."""
        return tag if tag in self._jobs else None

    def send(self, work: Work, tag: str, cap: int) -> str:  # noqa: ARG002
        """Begin a job."""
        qubits = used_qubits(work.circuit, work.observables)
        small = Work(
            moved(work.circuit, qubits),
            [moved_observable(one, qubits) for one in work.observables],
            work.angles,
            work.shots,
            work.options | {"simulator": {"seed_simulator": work.seed}},
            work.seed,
        )
        self._jobs[tag] = _estimate(part(self.device, qubits), small, small.options), 0.0
        return tag

    def holds(self, id: str) -> bool:
        """Whether this process ran the job."""
        return id in self._jobs

    def state(self, id: str) -> tuple[str, str]:  # noqa: ARG002
        """Results are waited for by `result`."""
        return "DONE", ""

    def billed(self, id: str) -> float | None:  # noqa: ARG002
        """Nothing is billed; the estimate stands for it, so that a rehearsal has a bill."""
        return None

    def result(self, id: str) -> Found:
        """Wait for a result and forget it."""
        job, _ = self._jobs.pop(id)
        return _found(job.result()[0], self._calibrated)

    def renew(self) -> None:
        """There is no token."""


def client() -> Any:
    """Return the package qiskit_ibm_runtime; raise `MissingExtraError` if it is not installed."""
    try:
        import qiskit_ibm_runtime
    except ImportError:
        raise MissingExtraError("qiskit-ibm-runtime", "ibm", "IBM's machines") from None
    return qiskit_ibm_runtime


def calibrated(properties: Any) -> str | None:
    """Return the time of a calibration in UTC, None if it is not told."""
    told = getattr(properties, "last_update_date", None)
    return None if told is None else told.astimezone(UTC).isoformat(timespec="seconds")


def snapshot(device: Any, circuit: Any) -> dict[str, Any]:
    """Return what is known of the qubits and gates of a transpiled circuit: times in seconds, errors as probabilities.

    time: of the calibration, in UTC. qubits, gates: by number and by name and numbers, such as "cx 0 1".
    """
    properties = device.properties()
    qubits: dict[str, dict[str, float]] = {}
    for qubit in used_qubits(circuit) if properties is not None else []:
        told = properties.qubit_property(qubit)
        qubits[str(qubit)] = {name: told[name][0] for name in ("T1", "T2", "readout_error") if name in told}
    gates: dict[str, float] = {}
    for item in circuit.data:
        where = tuple(circuit.find_bit(bit).index for bit in item.qubits)
        if item.operation.name in device.target.operation_names:
            error = getattr(device.target[item.operation.name].get(where), "error", None)
            if error is not None:
                gates[" ".join(map(str, (item.operation.name, *where)))] = error
    return {"time": calibrated(properties), "qubits": qubits, "gates": gates}


def trouble(error: BaseException) -> tuple[str, str, float]:
    """Return what kind of trouble an exception of the client is, in its words, and how long to wait if it says so.

    "unreachable": it is not known whether the request was carried out. "busy": it was not, ask later. "denied": the
    token is not accepted. "refused": the request is. Exceptions of other kinds are raised again.
    """
    from qiskit_ibm_runtime.api.exceptions import RequestsApiError
    from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError
    from requests import RequestException

    seen = [error]
    while (before := seen[-1].__cause__ or seen[-1].__context__) is not None:
        seen.append(before)
    words = next((one.message for one in seen if isinstance(one, RequestsApiError)), str(seen[0]))
    if any(isinstance(one, IBMNotAuthorizedError) for one in seen):
        return DENIED, words, 0.0
    status = next((one.status_code for one in seen if isinstance(one, RequestsApiError)), None)
    if status is None and not any(isinstance(one, RequestException) for one in seen):
        raise error
    if status == 429:
        replies = [one.response for one in seen if isinstance(one, RequestException) and one.response is not None]
        told = replies[0].headers.get("Retry-After", "") if replies else ""
        return BUSY, words, float(told) if told.isdigit() else 0.0
    return (REFUSED if status is not None and 400 <= status < 500 else UNREACHABLE), words, 0.0


def cannot_connect(error: Exception) -> BackendError:
    """Return the `BackendError` that says why there is no connection."""
    return BackendError(
        f"cannot connect to IBM Quantum: {str(error).strip()} Is there an account? Set QISKIT_IBM_TOKEN (and "
        "QISKIT_IBM_INSTANCE), or save one with QiskitRuntimeService.save_account(token=..., instance=...), as "
        "docs/hardware.md says. Nothing was sent, and no simulator takes its place"
    )


def _estimate(device: Any, work: Work, options: dict[str, Any]) -> Any:
    from qiskit_ibm_runtime.executor_estimator import Estimator

    return Estimator(mode=device, options={"default_shots": work.shots} | options).run(
        [(work.circuit, list(work.observables), work.angles[:, None, :])]
    )


def _found(result: Any, when: str | None) -> Found:
    """Return a result's values, with the errors of an extrapolation where there is one, else those of the shots."""
    data = result.data
    errors = data.stds if hasattr(data, "evs_extrapolated") else data.ensemble_standard_error
    return Found(np.asarray(data.evs, dtype=np.float64), np.asarray(errors, dtype=np.float64) ** 2, when)
