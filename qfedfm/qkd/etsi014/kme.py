"""A key management entity (KME): what ETSI GS QKD 014 v1.1.1 asks of one, without HTTP.

Two KMEs are joined by a `SimulatedLink`, within one process: that is where a simulated link lives, for it makes the
bits of both its ends. Each KME keeps its own copy of a link's keys in its own `KeyStore` and never looks into the
other's. What KMEs tell one another is a `Delivery`: key ids, whom a key is for, and material under a one-time pad of
link keys. It stands for a message over the authenticated channel between real KMEs, and holds no secret in clear.

A link's keys are kept apart by which KME hands them out first, so that the two never choose the same one. A key for
several slaves is made of keys of the link to the first one's KME, and reaches the other KMEs under a one-time pad.
"""

import base64
import json
import re
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ...declaration import declared
from ...errors import ConfigurationError, KeyExhausted, KeySourceError
from ..key_store import KeyStore, KeySupply
from .wire import NOT_FOUND, NOT_MULTIPLE_OF_8, NOT_SUPPORTED, DeliveredKey, KeyContainer, KeyRequest, Refusal, Status
from .wire import canonical as canonical_id

Bits = Annotated[int, Field(ge=8, multiple_of=8)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Ids of KMEs and SAEs: they name files, stand in URLs and are common names of certificates."""


@declared
class Limits:
    """What a KME grants: sizes in bits, counts in keys of `key_size`; the names are those of its status."""

    key_size: Bits = 256
    min_key_size: Bits = 64
    max_key_size: Bits = 65536
    max_key_per_request: Annotated[int, Field(ge=1)] = 128
    max_key_count: Annotated[int, Field(ge=1)] = 1000
    max_SAE_ID_count: Annotated[int, Field(ge=0)] = 8  # noqa: N815

    def __post_init__(self) -> None:
        if not self.min_key_size <= self.key_size <= self.max_key_size:
            raise ConfigurationError(
                "Limits: expected min_key_size <= key_size <= max_key_size; "
                f"got {self.min_key_size}, {self.key_size} and {self.max_key_size}"
            )


@dataclass(frozen=True)
class Delivery:
    """What the KME of a master SAE tells the KME of slave SAEs.

    size: of a key in bits. link_ids: the link's key that pads each key. keys: id and padded material of each.
    """

    source: str
    master: str
    slaves: tuple[str, ...]
    size: int
    link_ids: tuple[str, ...]
    keys: tuple[tuple[str, bytes], ...]


class Kme:
    """A KME that serves `saes` out of `store`, which it alone uses."""

    def __init__(self, kme_id: str, saes: Iterable[str], store: KeyStore, limits: Limits | None = None) -> None:
        self.kme_id, self.saes, self.store, self.limits = kme_id, frozenset(saes), store, limits or Limits()
        self.links: dict[str, SimulatedLink] = {}
        for name in (kme_id, *self.saes):
            check_name(name)
        store.sweep()

    def status(self, master: str, slave: str) -> Status:
        """Return what `master`, who asks, can have for `slave`."""
        self._serves(master)
        link = self._link_to(slave)
        return Status(
            source_KME_ID=self.kme_id,
            target_KME_ID=link.peer(self).kme_id,
            master_SAE_ID=master,
            slave_SAE_ID=slave,
            key_size=self.limits.key_size,
            stored_key_count=self.store.count(link.purpose(self, self.limits.key_size)),
            max_key_count=self.limits.max_key_count,
            max_key_per_request=self.limits.max_key_per_request,
            max_key_size=self.limits.max_key_size,
            min_key_size=self.limits.min_key_size,
            max_SAE_ID_count=self.limits.max_SAE_ID_count,
        )

    def enc_keys(self, master: str, slave: str, request: KeyRequest) -> KeyContainer:
        """Return new keys for `master`, who asks; `slave` and the additional ones can then fetch them, once each."""
        self._serves(master)
        size = self._size(request)
        slaves = (slave, *request.additional_slave_SAE_IDs)
        if len(set(slaves)) != len(slaves):
            raise Refusal(400, "an SAE is named twice as slave")
        links = {link.peer(self).kme_id: link for link in map(self._link_to, slaves)}
        ids = [str(uuid.uuid4()) for _ in range(request.number)]
        try:
            pads = {link: self._pads(link, request.number, size) for link in links.values()}
            first, *_ = pads.values()
            materials = first[1]
            for link, (link_ids, pad) in pads.items():
                there = link.peer(self)
                padded = tuple((i, _xor(m, p)) for i, m, p in zip(ids, materials, pad, strict=True))
                named = tuple(one for one in slaves if one in there.saes)
                there.accept(Delivery(self.kme_id, master, named, size, link_ids, padded))
        except KeyExhausted as error:
            raise Refusal(503, f"not enough keys at this time: {error}") from error
        except KeySourceError as error:
            raise Refusal(503, f"the KME cannot deliver keys: {error}") from error
        return _container(zip(ids, materials, strict=True))

    def dec_keys(self, slave: str, master: str, key_ids: Sequence[str]) -> KeyContainer:
        """Return the keys that `master` got under `key_ids` to `slave`, who asks: all of them, or none."""
        self._serves(slave)
        if not 1 <= len(key_ids) <= self.limits.max_key_per_request or len({i.lower() for i in key_ids}) != len(
            key_ids
        ):
            raise Refusal(400, f"expected 1 to {self.limits.max_key_per_request} different key_IDs, got {len(key_ids)}")
        purpose = _delivered(master, slave)
        missing = []
        for key_id in key_ids:
            try:
                states = self.store.states(canonical_id(key_id))
            except ValueError as error:
                raise Refusal(400, str(error)) from None
            named = [_slave(other) for other in states]
            if any(named) and slave not in named:
                raise Refusal(401, "the SAE was not named as a slave when the key was made", {"key_ID": key_id})
            if states.get(purpose) != "available":
                missing.append({"key_ID": key_id})
        if missing:
            raise Refusal(400, NOT_FOUND, *missing)
        ids = [canonical_id(key_id) for key_id in key_ids]
        try:
            self.store.claim(purpose, ids)
            materials = self.store.use(purpose, ids)
            self.store.destroy(purpose, ids)
        except KeySourceError:
            if all(self.store.states(key_id).get(purpose) == "available" for key_id in ids):
                raise
            raise Refusal(400, NOT_FOUND) from None  # another request was faster
        return _container(zip(key_ids, materials, strict=True))

    def accept(self, delivery: Delivery) -> None:
        """Keep keys for our SAEs that another KME announces."""
        link = self.links[delivery.source]
        purpose = link.purpose(link.peer(self), delivery.size)
        self.store.claim(purpose, delivery.link_ids)
        pads = self.store.use(purpose, delivery.link_ids)
        keys = {key_id: _xor(padded, pad) for (key_id, padded), pad in zip(delivery.keys, pads, strict=True)}
        for slave in delivery.slaves:
            self.store.add(_delivered(delivery.master, slave), keys)
        self.store.destroy(purpose, delivery.link_ids)

    def _pads(self, link: "SimulatedLink", number: int, size: int) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
        """Spend `number` link keys of `size` bits, and return their ids and material."""
        purpose = link.purpose(self, size)
        ids = link.reserve(self, size, number)
        pads = self.store.use(purpose, ids)
        self.store.destroy(purpose, ids)
        return ids, pads

    def _size(self, request: KeyRequest) -> int:
        limits = self.limits
        size = limits.key_size if request.size is None else request.size
        if request.extension_mandatory:
            names = sorted({name for extension in request.extension_mandatory for name in extension})
            raise Refusal(400, NOT_SUPPORTED, *({"extension_mandatory": name} for name in names))
        if size % 8:
            raise Refusal(400, NOT_MULTIPLE_OF_8)
        if not limits.min_key_size <= size <= limits.max_key_size:
            raise Refusal(400, f"size shall be {limits.min_key_size} to {limits.max_key_size} bits, got {size}")
        if not 1 <= request.number <= limits.max_key_per_request:
            raise Refusal(400, f"number shall be 1 to {limits.max_key_per_request}, got {request.number}")
        if len(request.additional_slave_SAE_IDs) > limits.max_SAE_ID_count:
            raise Refusal(400, f"at most {limits.max_SAE_ID_count} additional_slave_SAE_IDs are allowed")
        return size

    def _serves(self, sae: str) -> None:
        if sae not in self.saes:
            raise Refusal(401, f"SAE '{sae}' of the client certificate is not served by KME '{self.kme_id}'")

    def _link_to(self, slave: str) -> "SimulatedLink":
        for link in self.links.values():
            if slave in link.peer(self).saes:
                return link
        raise Refusal(400, f"no link of KME '{self.kme_id}' leads to an SAE '{slave[:64]}'")


class SimulatedLink:
    """Joins two KMEs, whose stores it fills with what `supply` makes: each end gets its own copy.

    Keys of the size that is handed out by default are kept in stock; those of any other are made when asked for.
    """

    def __init__(self, one: Kme, other: Kme, supply: KeySupply) -> None:
        if one.saes & other.saes or one.kme_id == other.kme_id:
            raise ConfigurationError(f"KMEs '{one.kme_id}' and '{other.kme_id}' should have ids and SAEs of their own")
        self.ends, self._supply = (one, other), supply
        self._lock = threading.Lock()
        one.links[other.kme_id] = other.links[one.kme_id] = self
        for initiator in self.ends:
            self._agree(self.purpose(initiator, initiator.limits.key_size))
            self.refill(initiator)

    def peer(self, kme: Kme) -> Kme:
        """Return the other end."""
        return self.ends[kme is self.ends[0]]

    def purpose(self, initiator: Kme, size: int) -> str:
        """Return the purpose of the keys of `size` bits that `initiator` is the first to hand out."""
        return json.dumps(["link", initiator.kme_id, self.peer(initiator).kme_id, size])

    def refill(self, initiator: Kme) -> None:
        """Fill the stock of `initiator` if it is low; less where the supply has not enough."""
        with self._lock:
            self._refill(initiator, initiator.limits.key_size, 0)

    def reserve(self, initiator: Kme, size: int, count: int) -> tuple[str, ...]:
        """Reserve keys at `initiator`, making new ones as needed, and return their ids; or raise `KeyExhausted`.

        What is in stock is had at once, even while the link is busy making key for somebody else.
        """
        purpose = self.purpose(initiator, size)
        try:
            return initiator.store.reserve(purpose, count)
        except KeyExhausted:
            with self._lock:
                self._refill(initiator, size, count)
                return initiator.store.reserve(purpose, count)
        finally:
            if self._lock.acquire(blocking=False):
                try:
                    self._refill(initiator, initiator.limits.key_size, 0)
                finally:
                    self._lock.release()

    def _refill(self, initiator: Kme, size: int, at_least: int) -> None:
        purpose, limits = self.purpose(initiator, size), initiator.limits
        there = initiator.store.count(purpose)
        full = limits.max_key_count if size == limits.key_size else 0
        if there >= max(at_least, full // 4):
            return
        count = max(at_least, full) - there
        try:
            copies = self._supply.produce(count * size)
        except KeyExhausted:
            if there < at_least:
                raise
            return
        ids = [str(uuid.uuid4()) for _ in range(count)]
        length = size // 8
        # the initiator last: it must not hand out a key that the other end lacks
        for kme in (self.peer(initiator), initiator):
            copy = copies[self.ends.index(kme)]
            kme.store.add(purpose, {key_id: copy[i * length : (i + 1) * length] for i, key_id in enumerate(ids)})

    def _agree(self, purpose: str) -> None:
        """Destroy keys that a crash left at one end alone."""
        here, there = (set(kme.store.available(purpose)) for kme in self.ends)
        for kme in self.ends:
            kme.store.destroy(purpose, [i for i in kme.store.available(purpose) if i in here ^ there])


def check_name(name: str) -> None:
    """Raise `ConfigurationError` for what cannot be the id of a KME or SAE."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            "the id of a KME or SAE has up to 64 letters, digits, '-', '_' and '.', and no mark of these first; "
            f"got {name!r}"
        )


def _delivered(master: str, slave: str) -> str:
    return json.dumps(["delivered", master, slave])


def _slave(purpose: str) -> str | None:
    """Return whom a delivered key is for, or None for a link key."""
    what, _, slave, *_ = json.loads(purpose)
    return str(slave) if what == "delivered" else None


def _container(keys: Iterable[tuple[str, bytes]]) -> KeyContainer:
    return KeyContainer(
        keys=tuple(DeliveredKey(key_ID=i, key=base64.b64encode(material).decode("ascii")) for i, material in keys)
    )


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
