"""The errors of qfedfm, in one tree.

Every message says what was expected, what arrived and what to do about it::

    QfedfmError
    ├── ConfigurationError   a declaration, file or argument that cannot be run as written (also a ValueError)
    ├── DataError            data that is missing, unreadable, or not what it claims to be
    │   └── DownloadError    data that could not be fetched or failed its checksum
    ├── CircuitError         a circuit that cannot be read, lowered or simulated (also a ValueError)
    ├── MissingExtraError    an optional package that is not installed (also an ImportError)
    ├── RunError             a run directory that cannot be written, resumed or read
    ├── ClientError          a client that failed in a round; names client and round
    │   └── UpdateError      a client whose update arrived but is not acceptable
    ├── QuorumError          too few clients are left in a round; names the round and who failed
    ├── AggregationError     a rule that raised or returned what cannot be a model; names rule and round
    ├── PrivacyExhausted     a client or a model that has no privacy budget left for another round
    ├── SealError            an envelope that was refused
    ├── BackendError         a quantum machine that cannot be had, refuses a job, or failed at it
    │   └── BudgetExceeded   a job that would take more time on a quantum processor than was allowed; nothing was sent
    ├── ProtocolAbort        a QKD session that was given up; it yields no key
    └── KeySourceError       keys that cannot be had
        └── KeyExhausted     the source has no key left to give
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class QfedfmError(Exception):
    """Base of every error that qfedfm raises on purpose."""


class ConfigurationError(QfedfmError, ValueError):
    """A declaration, file or argument that cannot be run as written.

    `problems` holds one line for each mistake, so that a file with four mistakes shows four.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(QfedfmError):
    """Data that is missing, unreadable, or not what it claims to be."""


class DownloadError(DataError):
    """Data that could not be fetched, or that failed its checksum."""


class CircuitError(QfedfmError, ValueError):
    """A circuit that cannot be read, lowered or simulated."""


class MissingExtraError(QfedfmError, ImportError):
    """An optional package that is not installed; the message holds the line that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': run  pip install 'qfedfm[{extra}]'")


class RunError(QfedfmError):
    """A run directory that cannot be written, resumed or read."""


class ClientError(QfedfmError):
    """A client that failed; the message names the client and the round."""

    def __init__(self, client: str, round: int, reason: str) -> None:
        self.client, self.round, self.reason = client, round, reason
        super().__init__(f"client '{client}' failed in round {round}: {reason}")


class UpdateError(ClientError):
    """A client whose update arrived but is not acceptable: NaN, wrong shape, impossible row count."""


class QuorumError(QfedfmError):
    """Too few clients are left in a round whose failing clients are excluded; `failed` says who failed and why."""

    def __init__(self, round: int, left: int, quorum: int, failed: Mapping[str, str]) -> None:
        self.round, self.failed = round, dict(failed)
        reasons = "; ".join(f"'{client}': {reason}" for client, reason in self.failed.items())
        super().__init__(f"round {round} needs {quorum} clients and {left} are left ({reasons})")


class AggregationError(QfedfmError):
    """An aggregation rule that raised, or returned what cannot be a model; the message names rule and round."""


class PrivacyExhausted(QfedfmError):  # noqa: N818  (as KeyExhausted)
    """Another round would lose more privacy than was allowed."""


class SealError(QfedfmError):
    """An envelope that was refused: altered, replayed, of another round, sender, receiver or version."""


class BackendError(QfedfmError):
    """A quantum machine that cannot be had, refuses a job, or failed at it."""


class BudgetExceeded(BackendError):  # noqa: N818  (as KeyExhausted)
    """A job that would take more time on a quantum processor than was allowed; nothing was sent."""


class ProtocolAbort(QfedfmError):  # noqa: N818  (what the QKD literature says a protocol does)
    """A QKD session that was given up: a message that is malformed or altered, too many errors. It yields no key."""


class KeySourceError(QfedfmError):
    """Keys that cannot be had: an unknown id, a key already used, a broken source."""


class KeyExhausted(KeySourceError):  # noqa: N818  (the usual name in the QKD literature)
    """The source has no key left to give."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the known word most like `word`, or an empty string."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
