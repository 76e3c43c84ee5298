"""What befalls quantum links while a federation runs: Eve on the line, a cut fibre, a key management entity down.

Events are values with a node and a span of rounds; a simulated key source (see `scenario`) acts them out.
"""

from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .eavesdroppers import Eavesdropper

Round = Annotated[int, Field(ge=1)]


@runtime_checkable
class Event(Protocol):
    """Something that befalls the links of `node` in rounds `first` to `last` (None: to the end)."""

    @property
    def node(self) -> str:
        """A client's name, or "server"."""
        ...

    @property
    def first(self) -> int:
        """The first round."""
        ...

    @property
    def last(self) -> int | None:
        """The last round."""
        ...

    @property
    def eve(self) -> Eavesdropper | None:
        """Who listens, if anybody; otherwise the links give no key."""
        ...

    @property
    def summary(self) -> str:
        """One line for messages and records."""
        ...


@declared
class Eavesdropping:
    """Eve is on the links of `node`, a client's name or "server", with `attack`, in rounds `first` to `last`.

    A link with Eve on it runs a session at once in each round, whatever key it has left: quantum links run all the
    time, and that is how Eve is noticed.
    """

    node: str
    attack: Eavesdropper
    first: Round = 1
    last: Round | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def eve(self) -> Eavesdropper:
        """The attack."""
        return self.attack

    @property
    def summary(self) -> str:
        """One line for messages and records."""
        return f"{self.attack.summary}, {_when(self)}"


@declared
class Outage:
    """The links of `node`, a client's name or "server", give no key in rounds `first` to `last`.

    cause: the fibre is cut, or the key management entity (KME) of the node answers nobody.
    """

    node: str
    cause: Literal["fibre cut", "KME down"] = "fibre cut"
    first: Round = 1
    last: Round | None = None
    eve: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def summary(self) -> str:
        """One line for messages and records."""
        return f"{self.cause}, {_when(self)}"


def concerns(event: Event, round: int, *nodes: str) -> bool:
    """Return whether an event befalls the link between `nodes` in `round`."""
    return event.node in nodes and event.first <= round and (event.last is None or round <= event.last)


def _check(event: Event) -> None:
    if event.last is not None and event.last < event.first:
        raise ConfigurationError(
            f"{type(event).__name__}: expected last to be first or later; got rounds {event.first} to {event.last}"
        )


def _when(event: Event) -> str:
    return f"from round {event.first} on" if event.last is None else f"rounds {event.first} to {event.last}"
