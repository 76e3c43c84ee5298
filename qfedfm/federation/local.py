"""Engines: what carries sealed envelopes to clients and brings their answers back.

`LocalEngine` hands them to cohorts in this process. Requests of several federations (seeds, grid points, arms) may be
served at once: their clients are trained together, in one cohort.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import QfedfmError
from .clients import Cohort, answer


@dataclass(frozen=True)
class Failure:
    """A client that did not answer, and why; `cause` is what it raised, where that is known."""

    reason: str
    cause: Exception | None = field(default=None, compare=False)


Replies = dict[str, bytes | Failure]


class Engine(Protocol):
    """Delivers one round's envelopes."""

    def exchange(self, envelopes: Mapping[str, bytes], deadline: float | None = None) -> Replies:
        """Return each client's sealed answer, or its failure; `deadline` in seconds from now."""
        ...


class LocalEngine:
    """All clients of one federation in this process."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort

    def exchange(self, envelopes: Mapping[str, bytes], deadline: float | None = None) -> Replies:  # noqa: ARG002
        """Train every addressed client and return the sealed updates; nothing in one process can be late."""
        return exchange_together([self], [envelopes])[0]


def exchange_together(engines: Sequence[LocalEngine], envelopes: Sequence[Mapping[str, bytes]]) -> list[Replies]:
    """Serve one round of several federations, all their clients trained in one cohort."""
    answers = answer([engine.cohort for engine in engines], envelopes)
    return [{client: _failure(a) if isinstance(a, Exception) else a for client, a in some.items()} for some in answers]


def _failure(error: Exception) -> Failure:
    return Failure(str(error) if isinstance(error, QfedfmError) else f"{type(error).__name__}: {error}", error)
