"""Keys from simulated quantum links: every pair of nodes has a link, and its key is made by whole BB84 sessions.

A link makes key when a draw finds too little of it. A session that is given up gives nothing, and neither does its link
for the rest of the round: no key is drawn from a link on which somebody may be listening, even if some is left from
before. Everything is kept in this process's memory.

**Simulated keys protect nothing in the real world.** They come from a pseudo-random generator, seeded by the operating
system each time a source connects, so that a resumed run has other keys.
"""

import threading
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import KeyExhausted, KeySourceError
from .decoy_bb84 import DecoyBB84
from .events import Event, concerns
from .keys import Key
from .session_result import Session
from .supply import SessionSupply

NodePair = frozenset[str]


@dataclass
class _Link:
    """A link in the current round: how many sessions it ran, and what the trouble is."""

    supply: SessionSupply
    sessions: int = 0
    trouble: str = ""


class SimulatedSource:
    """A simulated link for every pair of nodes that talk; safe to use from several threads.

    protocol: what each link runs, `protocol.block` sifted bits a session on average. events: what befalls links, round
    by round (see `scenario`). sessions_per_round: the most that a link runs in a round, or None for as many as it
    takes.
    """

    def __init__(
        self,
        protocol: DecoyBB84,
        events: tuple[Event, ...] = (),
        sessions_per_round: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self._protocol, self._events, self._most = protocol, events, sessions_per_round
        self._generator = np.random.default_rng() if generator is None else generator
        self._links: dict[NodePair, _Link] = {}
        self._waiting: dict[tuple[str, str, str], tuple[int, str, bytes]] = {}
        self._records: list[dict[str, Any]] = []
        self._round = 0
        self._lock = threading.Lock()

    def begin_round(self, round: int) -> None:
        """Let events of `round` happen, and give every link a fresh start."""
        with self._lock:
            self._round = round
            for link in self._links.values():
                link.sessions, link.trouble = 0, ""

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        """Return a key from the link's store, running as many sessions as that takes.

        Raises `KeyExhausted` when the link cannot make enough, and `KeySourceError` when it is out of reach.
        """
        if bits < 8 or bits % 8:
            raise KeySourceError(f"a key has whole bytes, at least one; got {bits} bits")
        where = f"the link between '{sender}' and '{receiver}'"
        with self._lock:
            pair = frozenset((sender, receiver))
            if pair not in self._links:
                self._links[pair] = _Link(SessionSupply(self._protocol, self._generator))
            link = self._links[pair]
            events = [event for event in self._events if concerns(event, self._round, sender, receiver)]
            for event in events:
                if event.eve is None:
                    raise KeySourceError(f"{where} gives no key: {event.summary}")
            if events and not link.sessions:
                self._run(link, sender, receiver, events)
            while not link.trouble and link.supply.bits < bits:
                if self._most is not None and link.sessions >= self._most:
                    raise KeyExhausted(
                        f"{where} has {link.supply.bits} bits of key left and {bits} are needed; it ran "
                        f"{link.sessions} sessions in round {self._round}, all it may: use a better link, larger "
                        "blocks, a smaller update, or a suite that takes less key"
                    )
                self._run(link, sender, receiver, events)
            if link.trouble:
                raise KeyExhausted(f"{where} gives no key: {link.trouble}")
            ends = link.supply.take(bits)
            key_id = str(uuid.uuid4())
            self._waiting[sender, receiver, key_id] = bits, purpose, ends[1]
            return Key((key_id,), ends[0], "qkd-simulated")

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:
        """Return the key that was drawn under the one id in `ids`, as the other end holds it; it is forgotten then."""
        if len(ids) != 1:
            raise KeySourceError(f"a key of a simulated link has one id, got {len(ids)}")
        with self._lock:
            found = self._waiting.pop((sender, receiver, ids[0]), None)
        if found is None:
            raise KeySourceError(
                f"key '{ids[0]}' from '{sender}' to '{receiver}' was never drawn, or was fetched before and is spent: "
                "a sender that tries again must seal its message anew"
            )
        if found[:2] != (bits, purpose):
            raise KeySourceError(
                f"key '{ids[0]}' was drawn as {found[0]} bits for '{found[1]}', {bits} for '{purpose}' were asked for: "
                "it is spent"
            )
        return Key(ids, found[2], "qkd-simulated")

    def account(self) -> list[dict[str, Any]]:
        """Return one record for each session since the last call, then one with the balance of each link."""
        with self._lock:
            records, self._records = self._records, []
            for pair, link in self._links.items():
                records.append(
                    {
                        "what": "balance",
                        "round": self._round,
                        "link": sorted(pair),
                        "delivered": link.supply.delivered,
                        "drawn": link.supply.taken,
                        "authentication": link.supply.authentication,
                        "left": link.supply.bits,
                    }
                )
        return records

    def _run(self, link: _Link, one: str, other: str, events: list[Event]) -> None:
        """Run a session on a link, note it, and say what the trouble is if it gave no key."""
        eve = next((event.eve for event in events if event.eve is not None), None)
        link.sessions += 1
        try:
            done = link.supply.run(eve)
        except KeyExhausted as error:
            link.trouble = str(error)
            return
        if not done.ledger.delivered:
            link.trouble = str(done)
        self._records.append(_record(done, self._round, one, other) | {"eve": eve.summary if eve else None})


def _record(done: Session, round: int, one: str, other: str) -> dict[str, Any]:
    """Return what a session came to, for the run's events; rates with their 95 % intervals."""
    rates = {}
    for name, rate in (("qber_key", done.qber_key), ("qber_test", done.qber_test)):
        rates[name] = None if rate is None or not rate.bits else [rate.value, *rate.interval]
    return {
        "what": "session",
        "round": round,
        "link": sorted((one, other)),
        "aborted": done.aborted,
        "seconds": done.seconds,
        "messages": done.messages,
        "round_trips": done.rounds,
        "frames": done.frames,
        "frames_failed": done.frames_failed,
        **rates,
        **asdict(done.ledger),
        "delivered": done.ledger.delivered,
    }
