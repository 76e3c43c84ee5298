"""A stand-in for IBM's service on 127.0.0.1: the REST interface that qiskit-ibm-runtime speaks, with faults and a bill.

The client is the real one, unmodified: the environment variables of `Loopback.environment` aim it here, also in another
process. A URL that contains "experimental" is used by the client as it is. Jobs run on a fake device with noise.

Faults are told beforehand: `fault("POST /jobs", "lose")` carries the next submission out, bills it and hangs up
without an answer; "drop" hangs up before anything is done; a number is an HTTP status. `fate` says how the next jobs
end, `hold` keeps them in the queue until `release`, `recalibrate` publishes new properties of the device.
"""

import base64
import json
import socket
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ibm_quantum_schemas.common import CompressedTensorModel
from ibm_quantum_schemas.executor.version_2_0 import (
    ItemMetadataModel,
    MetadataModel,
    ParamsModel,
    QuantumProgramResultItemModel,
    QuantumProgramResultModel,
)
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0

DEVICE = "ibm_manila"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123456789abcdef:00000000-1111-2222-3333-444444444444::"
PREFIX = "/experimental/api/v1"
API_KEY = "not-a-real-key"
ENDED = {"Completed", "Failed", "Cancelled"}


@cache
def _raw(kind: str) -> str:
    return (files("qiskit_ibm_runtime.fake_provider") / "backends" / "manila" / f"{kind}_manila.json").read_text()


class Job:
    """A job as the service keeps it; seconds is what it bills, executions what it took."""

    def __init__(self, number: int, body: dict[str, Any], fate: str, held: bool) -> None:
        self.id = f"job-{number}"
        self.params, self.tags, self.cap = body["params"], body.get("tags", []), body.get("cost")
        self.fate, self.held = fate, held
        self.state, self.reason, self.code = "Queued", "", None
        self.created = datetime(2025, 1, 1) + timedelta(seconds=number)
        self.result, self.seconds, self.executions = "", 0.0, 0

    def run(self, seed: int) -> None:
        """Carry the job out as its fate has it."""
        model = ParamsModel.model_validate(self.params)
        program, _ = quantum_program_from_2_0(model)
        for item in program.items:
            if hasattr(item, "samplex"):
                item.samplex.finalize()
        self.executions = program.shots * sum(item.size() for item in program.items)
        self.seconds = 2 + 3.5e-4 * self.executions
        if self.fate == "Failed":
            self.state, self.reason, self.result = "Failed", "the control electronics lost lock", "Traceback: no lock"
        elif self.fate == "Cancelled":
            self.state, self.seconds = "Cancelled", 0.0
        elif self.fate == "too long" or (self.cap is not None and self.seconds > self.cap):
            self.state, self.reason, self.code = "Cancelled", "ran too long", 1305
            self.seconds = min(self.seconds, self.cap or self.seconds)
        else:
            found = run_quantum_program(FakeManilaV2(), program, SimulatorOptions(seed_simulator=seed))
            self.result = QuantumProgramResultModel(
                data=[
                    QuantumProgramResultItemModel(
                        results={name: CompressedTensorModel.from_numpy(array) for name, array in dict(item).items()},
                        metadata=ItemMetadataModel(),
                    )
                    for item in found
                ],
                metadata=MetadataModel(chunk_timing=[]),
                passthrough_data=model.quantum_program.passthrough_data,
                semantic_role=model.quantum_program.semantic_role,
            ).model_dump_json()
            self.state = "Completed"

    def described(self) -> dict[str, Any]:
        state = {"status": self.state} | ({"reason": self.reason} if self.reason else {})
        return {
            "id": self.id,
            "backend": DEVICE,
            "program": {"id": "executor"},
            "state": state | ({"reason_code": self.code} if self.code else {}),
            "status": self.state,
            "created": self.created.isoformat() + "Z",
            "tags": self.tags,
            "estimated_running_time_seconds": 3.0,
        }


class Loopback:
    """The service; `with Loopback() as service:` runs it in a thread."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.requests: Counter[str] = Counter()
        self.updated = datetime(2025, 1, 1, 12)
        self.key_is_valid, self.is_simulator = True, False
        self._faults: list[tuple[str, int | str]] = []
        self._fates: list[str] = []
        self._held_from: int | None = None
        self._token = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Loopback":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that aim a client at this service."""
        return {
            "QISKIT_IBM_TOKEN": API_KEY,
            "QISKIT_IBM_URL": self.url + PREFIX,
            "QISKIT_IBM_INSTANCE": CRN,
            "QISKIT_FUNCTIONS_EXPERIMENTAL": "1",  # does not look the instance up elsewhere
            "USAGE_DATA_OPT_OUT": "True",
            "IAM_URL": self.url,
        }

    @property
    def bill(self) -> tuple[int, float]:
        """Jobs that ran and seconds billed for them."""
        ran = [job for job in self.jobs if job.state in ENDED]
        return len(ran), sum(job.seconds for job in ran)

    def fault(self, request: str, kind: int | str, times: int = 1) -> None:
        """Let the next `times` requests of this kind ("POST /jobs") go wrong."""
        self._faults += [(request, kind)] * times

    def fate(self, *fates: str) -> None:
        """Let the next jobs end so: "Failed", "Cancelled" or "too long"."""
        self._fates += fates

    def hold(self, after: int = 0) -> None:
        """Keep jobs in the queue from now on, or after so many more."""
        self._held_from = len(self.jobs) + after

    def release(self) -> None:
        """Run what was held."""
        self._held_from = None
        for job in self.jobs:
            job.held = False

    def recalibrate(self) -> None:
        """Publish properties of an hour later."""
        self.updated += timedelta(hours=1)

    def expire(self) -> None:
        """Refuse the access tokens given out so far; new ones can be had with the API key."""
        self._token += 1

    # what requests come to

    def take_fault(self, request: str) -> int | str | None:
        with self._lock:
            for i, (where, kind) in enumerate(self._faults):
                if where == request:
                    del self._faults[i]
                    return kind
        return None

    def admits(self, authorization: str | None) -> bool:
        scheme, _, token = (authorization or "").partition(" ")
        fresh = scheme == "Bearer" and token.endswith(f".{self._token:04d}")
        return self.key_is_valid and (fresh or (scheme, token) == ("apikey", API_KEY))

    def token(self) -> dict[str, Any]:
        now = int(time.time())
        claims = [{"alg": "none"}, {"iat": now, "exp": now + 3600, "number": self._token}]
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in claims]
        token = ".".join([*parts, f"{self._token:04d}"])
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "expiration": now + 3600,
        }

    def add(self, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            fate = self._fates.pop(0) if self._fates else "Completed"
            held = self._held_from is not None and len(self.jobs) >= self._held_from
            job = Job(len(self.jobs) + 1, body, fate, held)
            self.jobs.append(job)
        self.advance(job)
        return {"id": job.id, "backend": DEVICE}

    def advance(self, job: Job) -> None:
        with self._lock:
            if job.state == "Queued" and not job.held:
                job.run(self.jobs.index(job))

    def find(self, query: dict[str, list[str]]) -> dict[str, Any]:
        tags = set(query.get("tags", []))
        found = [job.described() for job in reversed(self.jobs) if tags <= set(job.tags)]
        return {"jobs": found[: int(query.get("limit", ["20"])[0])], "count": len(found)}

    def properties(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(_raw("props"))
        return data | {"backend_name": DEVICE, "last_update_date": self.updated.isoformat() + "+00:00"}


def _handler(service: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer("GET")

        def do_POST(self) -> None:
            self.answer("POST")

        def log_message(self, *_: object) -> None:
            return

        def answer(self, method: str) -> None:
            place = urlsplit(self.path)
            parts = place.path.removeprefix(PREFIX).strip("/").split("/")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{method} /" + "/".join(
                "*" if i == 1 and parts[0] in ("jobs", "backends") else p for i, p in enumerate(parts)
            )
            service.requests[request] += 1
            kind = service.take_fault(request)
            if kind == "drop":
                return self.hang_up()
            if isinstance(kind, int):
                return self.reply(kind, {"errors": [{"code": kind, "message": "as was asked for"}]})
            if parts == ["identity", "token"]:
                if not service.key_is_valid:
                    return self.reply(400, {"errorCode": "BXNIM0415E", "errorMessage": "API key could not be found"})
                return self.reply(200, service.token())
            if not service.admits(self.headers.get("Authorization")):
                return self.reply(401, {"errors": [{"code": 1200, "message": "Unable to authenticate the request"}]})
            status, answer = self.look_up(method, parts, parse_qs(place.query), body)
            return self.hang_up() if kind == "lose" else self.reply(status, answer)

        def look_up(
            self, method: str, parts: list[str], query: dict[str, list[str]], body: bytes
        ) -> tuple[int, dict[str, Any] | str]:
            match [method, *parts]:
                case ["GET", "instances", "usage"]:
                    return 200, {"usage_consumed_seconds": service.bill[1], "usage_limit_seconds": 600}
                case ["GET", "backends"]:
                    return 200, {"devices": [{"name": DEVICE, "physical_qubits": 5}]}
                case ["GET", "backends", name, "configuration"] if name == DEVICE:
                    told = {"backend_name": DEVICE, "simulator": service.is_simulator}
                    return 200, json.loads(_raw("conf")) | told
                case ["GET", "backends", name, "properties"] if name == DEVICE:
                    return 200, service.properties()
                case ["GET", "backends", name, "status"] if name == DEVICE:
                    return 200, {"state": True, "status": "active", "backend_version": "1", "length_queue": 0}
                case ["POST", "jobs"]:
                    return 200, service.add(json.loads(body))
                case ["GET", "jobs"]:
                    return 200, service.find(query)
                case [_, "jobs", name, *rest]:
                    job = next((job for job in service.jobs if job.id == name), None)
                    if job is None:
                        return 404, {"errors": [{"code": 1291, "message": f"Job not found: {name}"}]}
                    service.advance(job)
                    return self.job(job, method, rest)
            return 404, {"errors": [{"code": 404, "message": f"nothing at {'/'.join(parts)}"}]}

        def job(self, job: Job, method: str, rest: list[str]) -> tuple[int, dict[str, Any] | str]:
            match [method, *rest]:
                case ["GET"]:
                    return 200, job.described()
                case ["GET", "results"]:
                    return 200, job.result
                case ["GET", "metrics"]:
                    state = "complete" if job.state in ENDED else "pending"
                    running = (service.updated + timedelta(minutes=1)).isoformat() + "Z"
                    return 200, {
                        "timestamps": {"created": job.created.isoformat() + "Z", "running": running},
                        "usage": {"qpu_charge_time_seconds": job.seconds, "status": state},
                    }
                case ["POST", "cancel"]:
                    job.state = "Cancelled"
                    return 204, ""
            return 404, ""

        def reply(self, status: int, answer: dict[str, Any] | str) -> None:
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(data)

        def hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    return Handler
