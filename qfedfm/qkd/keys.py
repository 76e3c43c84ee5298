"""Keys, and the contract of whatever supplies them.

The API follows ETSI GS QKD 014: the sender draws a key and learns its ids, the ids travel in clear, and the receiver
fetches the same key by them. Each key is handed out twice in all, once to either end. A pre-shared secret, simulated
quantum key distribution and a key management entity (KME) with real devices behind it all fit; `source` tells them
apart and is shown wherever keys are spoken of.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Source = Literal["preshared", "qkd-simulated", "etsi014"]


@dataclass(frozen=True)
class Key:
    """Key material with the ids under which the other end fetches it.

    ids: one or more, in order; a long key may be the concatenation of several. material: secret bytes, never printed.
    """

    ids: tuple[str, ...]
    material: bytes = field(repr=False)
    source: Source


class KeySource(Protocol):
    """Hands each key to its sender and to its receiver, once each; safe to call from several threads.

    sender, receiver: node names, in the direction of the message. bits: a multiple of 8. purpose: the message's kind
    ("model", "update", "control"). Either call raises `KeyExhausted` when no key is left and `KeySourceError` when the
    source cannot serve the request.
    """

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        """Return a key of exactly `bits` bits that was never handed out before; the sender calls this."""
        ...

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:
        """Return the key that the sender drew with these very arguments; the receiver calls this.

        An id that was fetched in this direction before raises `KeySourceError`, whatever the other arguments say.
        `bits` is what the receiver's suite needs, so that an id never yields material of another length.
        """
        ...


@runtime_checkable
class FollowsRounds(Protocol):
    """A key source that is told when a federated round begins, because what happens to its links depends on it."""

    def begin_round(self, round: int) -> None:
        """Take note that `round` begins; called by the server before it draws keys, repeated rounds included."""
        ...


@runtime_checkable
class KeepsAccount(Protocol):
    """A key source that can say how its keys came about."""

    def account(self) -> list[dict[str, Any]]:
        """Return what happened since the last call, as JSON-able records with a link each; a run keeps them."""
        ...


@runtime_checkable
class NamesNodes(Protocol):
    """A declaration of keys that speaks of nodes by name, so that a name nobody has can be refused before a run."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node that is named."""
        ...


@runtime_checkable
class Keys(Protocol):
    """The declaration of a key source, written in an experiment; each node connects for itself."""

    source: ClassVar[Source]

    def connect(self) -> KeySource:
        """Return the live source."""
        ...
