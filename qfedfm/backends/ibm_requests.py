"""Requests to IBM's service: made again while it is busy or away, given up with advice.

The client itself repeats requests that end in a server error, and none that a full queue, a broken connection or an
expired token ends. Asking again is safe where the question is; the one that is not, sending a job, looks its tag up
first each time (`ibm_machine`).
"""

from collections.abc import Callable
from typing import TypeVar

from ..errors import BackendError, QfedfmError
from .ibm_service import BUSY, DENIED, REFUSED, Service, trouble

T = TypeVar("T")
MINUTE = 60.0


class RefusedError(BackendError):
    """A request that the service turned down: it will not be carried out."""


def ask(
    service: Service, name: str, what: str, question: Callable[[], T], sleep: Callable[[float], object], attempts: int
) -> T:
    """Return the service's answer.

    name: of the machine. what: is asked, as in "cannot be reached to submit a job". sleep: waits some seconds, twice
    as long after each attempt, or as long as the service says. Raises `BackendError` after so many attempts, or where
    the account is not admitted with a new token either; `RefusedError` for a request that makes no sense to it.
    """
    renewed = False
    for attempt in range(1, attempts + 1):
        try:
            return question()
        except QfedfmError:
            raise
        except Exception as error:
            kind, words, wait = trouble(error)  # raises what it does not know
            if kind == DENIED:
                if renewed:
                    raise _denied(name, what, words) from error
                _renew(service, name, what)
                renewed = True
                continue
            if kind == REFUSED:
                raise RefusedError(f"{name} refused to {what}: {words}") from error
            if attempt == attempts:
                how = "is still too busy" if kind == BUSY else "cannot be reached"
                raise BackendError(
                    f"{name}: IBM Quantum {how} after {attempt} attempts to {what} ({words}). The journal knows "
                    "what was sent: resume later, and nothing is sent or billed twice"
                ) from error
        sleep(max(wait, min(2.0**attempt, MINUTE)))
    raise AssertionError("every attempt returns or raises")


def _renew(service: Service, name: str, what: str) -> None:
    try:
        service.renew()
    except Exception as error:
        raise _denied(name, what, str(error)) from error


def _denied(name: str, what: str, words: str) -> BackendError:
    return BackendError(
        f"{name}: IBM Quantum does not accept this account's token, asked to {what} ({words}). Make a new API key at "
        "quantum.cloud.ibm.com, set QISKIT_IBM_TOKEN or save the account again, and resume: jobs that were sent go on "
        "and are in the journal"
    )
