"""Scenarios: simulated keys, and what befalls their links round by round.

The federation meets a scenario as it would meet the real thing: a session with Eve on the line is given up, a link that
is out gives no key. What it does then is the policy of `Clients(failing=...)`; it never sends in clear.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from ..declaration import declared
from .decoy_bb84 import DecoyBB84
from .events import Event
from .keys import Source
from .simulated import SimulatedSource


@declared
class Scenario:
    """Simulated keys, and what befalls their links.

    sessions_per_round: the most that a link runs in one round, for it has only so much time; None for as many as the
    round's messages need.
    """

    keys: DecoyBB84
    events: tuple[Event, ...] = ()
    sessions_per_round: Annotated[int, Field(ge=1)] | None = None
    source: ClassVar[Source] = "qkd-simulated"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes whose links something befalls."""
        return tuple(event.node for event in self.events)

    def connect(self) -> SimulatedSource:
        """Return the live source."""
        return SimulatedSource(self.keys, self.events, self.sessions_per_round)
