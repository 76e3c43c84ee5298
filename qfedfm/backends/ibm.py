"""IBM's quantum processors, and a rehearsal of them on fake devices, through qiskit-ibm-runtime.

Both run the same code (`ibm_machine`) over the same client (`ibm_service`). What cannot run on the named device does
not run: nothing here ever falls back to a simulator.
"""

import math
from typing import Annotated, Any

from pydantic import Field

from ..declaration import declared
from ..errors import BackendError
from .contract import Machine, Session
from .simulated import ShotNumber


@declared
class RuntimeMitigation:
    """What the runtime does against errors, on its own side and on this one.

    readout: measures how often qubits are misread and corrects values (TREX, van den Berg et al. 2022,
    arXiv:2012.09738), which twirls measurements and adds one calibration circuit to every job. twirling: random Pauli
    gates around two-qubit gates, which make their errors stochastic. zero_noise: runs circuits with two-qubit gates
    repeated by odd factors 1, 3, 5 and extrapolates to none, which takes three times as many executions and gives
    larger variances. dynamical_decoupling: pulses on idle qubits.
    """

    readout: bool = True
    twirling: bool = False
    zero_noise: bool = False
    dynamical_decoupling: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The options of the runtime's estimator."""
        return {
            "resilience_level": 0,
            "resilience": {"measure_mitigation": self.readout, "zne_mitigation": self.zero_noise},
            "twirling": {"enable_gates": self.twirling, "enable_measure": self.readout},
            "dynamical_decoupling": {"enable": self.dynamical_decoupling},
        }

    @property
    def factors(self) -> int:
        """How often each circuit is run with other noise."""
        return 3 if self.zero_noise else 1

    def randomizations(self, shots: int) -> tuple[int, int]:
        """Return as how many different circuits each one is run, and how often each of them.

        What the runtime does: with twirling 64 shots or more each of at most 32, so that a number of shots may be
        rounded up.
        """
        if not (self.readout or self.twirling):
            return 1, shots
        each = max(64, math.ceil(shots / 32))
        return math.ceil(shots / each), each


@declared
class IBM:
    """A quantum processor of IBM's, such as `IBM("ibm_torino")`; its time costs money or quota.

    name: of the device. shots: of a row in each measurement setting. instance: the service instance that pays, by name;
    account: the saved account. Both default to what qiskit-ibm-runtime takes: the environment (QISKIT_IBM_TOKEN,
    QISKIT_IBM_INSTANCE), else the default saved account. A token is never part of a declaration or a record.
    mitigation: by default of readout only. transpilations: of which the best is taken. max_wait: seconds to wait for
    a job in the queue before giving up waiting (not the job); None waits for ever.
    """

    name: str
    shots: ShotNumber = 1024
    instance: str | None = None
    account: str | None = None
    mitigation: RuntimeMitigation = RuntimeMitigation()
    transpilations: Annotated[int, Field(ge=1)] = 20
    max_wait: Annotated[float, Field(gt=0)] | None = None

    def check(self) -> None:
        """Raise `MissingExtraError` without qiskit-ibm-runtime; nothing is asked of the service."""
        from .ibm_service import client

        client()

    def connect(self, session: Session) -> Machine:
        """Open the device; raise `BackendError` without an account, a journal, a budget, or a connection."""
        if session.max_qpu_seconds is None:
            raise BackendError(
                f"{self.name} bills its time: say how much may be used, run(..., max_qpu_seconds=60) or "
                "--max-qpu-seconds 60; `qfedfm estimate` says what a run takes"
            )
        if session.journal is None:
            raise BackendError(f"{self.name} needs a journal, Session(journal=file), so that no job is paid twice")
        from .ibm_machine import RuntimeMachine
        from .ibm_service import IbmService

        service = IbmService(self.name, self.instance, self.account)
        return RuntimeMachine(self.name, service, session, self.mitigation, self.transpilations, self.max_wait)


@declared
class FakeRuntime:
    """The same client and the same code as `IBM`, on a fake device in this process: a rehearsal without an account.

    name: as that of `Fake`, such as "manila". Seconds are estimated as for the device and counted against
    the budget, if there is one; nothing is billed. `Fake` simulates the same device far faster.
    """

    name: str
    shots: ShotNumber = 1024
    mitigation: RuntimeMitigation = RuntimeMitigation()
    transpilations: Annotated[int, Field(ge=1)] = 20

    def check(self) -> None:
        """Raise `ConfigurationError` for an unknown device, `MissingExtraError` without qiskit-ibm-runtime."""
        from .fake import snapshot_of

        snapshot_of(self.name)

    def connect(self, session: Session) -> Machine:
        """Open the fake device."""
        from .ibm_machine import RuntimeMachine
        from .ibm_service import LocalService

        name = f"fake_runtime_{self.name}"
        return RuntimeMachine(name, LocalService(self.name), session, self.mitigation, self.transpilations)
