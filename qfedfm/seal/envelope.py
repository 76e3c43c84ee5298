"""The envelope: how a sealed message lies on the wire, and what is checked before its key is touched.

::

    b"QFED" | version u16 | header length u32 | header | nonce 12 | ciphertext and tag 16

Integers are big-endian. Everything before the nonce is authenticated as associated data. The header is canonical JSON:
ASCII, keys sorted, no spaces, no floats; a header that would not be written byte for byte as it arrived is refused, so
two readers cannot understand it differently. The counters round, attempt and seq are strings of eight digits, so that a
resumed run sends exactly as many bytes as an unbroken one. There is no negotiation: a version or suite other than the
receiver's own is refused. Nothing here decrypts; the suites (`aead`, and others later) do, after `admit`.
"""

import json
import re
import struct
import threading
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, Protocol, get_args, runtime_checkable

from ..codecs import TensorMeta
from ..errors import SealError
from ..qkd import Keys, KeySource

Kind = Literal["model", "update", "control"]

MAGIC = b"QFED"
VERSION = 1
PREFIX = struct.Struct(">4sHI")
MAX_HEADER_BYTES = 64 * 1024
NONCE_BYTES = 12
TAG_BYTES = 16

_COUNTERS = ("round", "attempt", "seq")
_COUNTER = re.compile(r"[0-9]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def _refuse(what: str, expected: str, got: object) -> NoReturn:
    raise SealError(f"envelope refused: {what} should be {expected}, got {got!r:.100}")


@dataclass(frozen=True)
class Header:
    """What an envelope says about itself, in clear and authenticated; a value out of range raises `SealError`.

    run: the run's id, of equal length in all runs. round, attempt, seq: 0 to 99,999,999; attempt counts the starts of a
    run, seq the messages from this sender to this receiver in an attempt. spec_hash, base_hash: `params.specs_hash` and
    `params.params_hash` in hex: which tensors are meant, and which model they belong to. codecs: names in the order of
    encoding. tensors: how the payload begins. suite and key_ids are filled in by the suite when it seals.
    """

    run: str
    round: int
    attempt: int
    seq: int
    kind: Kind
    sender: str
    receiver: str
    spec_hash: str
    base_hash: str
    codecs: tuple[str, ...]
    tensors: tuple[TensorMeta, ...]
    suite: str = ""
    key_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _COUNTERS:
            _check_size(name, getattr(self, name), 10**8)
        if self.kind not in get_args(Kind):
            _refuse("kind", " or ".join(get_args(Kind)), self.kind)
        for name in ("spec_hash", "base_hash"):
            value = getattr(self, name)
            if type(value) is not str or not _SHA256.fullmatch(value):
                _refuse(name, "64 hexadecimal digits", value)
        for name in ("run", "sender", "receiver"):
            _check_name(name, getattr(self, name))
        for name in ("codecs", "key_ids"):
            for value in getattr(self, name):
                _check_name(name, value)
        for tensor in self.tensors:
            _check_name("tensor name", tensor.name)
            _check_name("tensor dtype", tensor.dtype)
            for size in (*tensor.shape, tensor.bytes):
                _check_size("tensor shape or bytes", size, 2**53)

    @property
    def tensor_bytes(self) -> int:
        """Return the length of the part of the payload that holds tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    def to_bytes(self) -> bytes:
        """Return the canonical JSON; more than 64 KiB raise `SealError`."""
        counters = {name: f"{getattr(self, name):08d}" for name in _COUNTERS}
        tensors = [tensor._asdict() for tensor in self.tensors]
        raw = _canonical(vars(self) | counters | {"tensors": tensors}).encode("ascii")
        if len(raw) > MAX_HEADER_BYTES:
            _refuse("the header", f"at most {MAX_HEADER_BYTES} bytes long (fewer or shorter tensor names)", len(raw))
        return raw

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Header":
        """Return the header that `raw` is the canonical form of; anything else raises `SealError`."""
        try:
            value = json.loads(raw.decode("ascii"))
        except (ValueError, RecursionError) as error:
            raise SealError(f"envelope refused: the header is not canonical JSON ({type(error).__name__})") from None
        known: dict[str, Any] = _check_keys("the header", value, {field.name for field in fields(cls)})
        for name in _COUNTERS:
            if type(known[name]) is not str or not _COUNTER.fullmatch(known[name]):
                _refuse(name, "a string of eight digits", known[name])
            known[name] = int(known[name])
        for name in ("codecs", "key_ids", "tensors"):
            known[name] = _tuple(name, known[name])
        known["tensors"] = tuple(_tensor(item) for item in known["tensors"])
        header = cls(**known)
        if header.to_bytes() != raw:
            _refuse("the header", "canonical JSON (sorted keys, no spaces, no key twice)", bytes(raw))
        return header


def _check_size(what: str, value: object, limit: int) -> None:
    if type(value) is not int or not 0 <= value < limit:
        _refuse(what, f"an integer from 0 to {limit - 1}", value)


def _check_name(what: str, value: object) -> None:
    if type(value) is not str or not value or not value.isprintable():
        _refuse(what, "printable text", value)


def _check_keys(what: str, value: Any, names: set[str]) -> dict[str, Any]:
    if type(value) is not dict or value.keys() != names:
        _refuse(what, f"an object with {', '.join(sorted(names))}", value)
    return value


def _tuple(what: str, value: object) -> tuple[Any, ...]:
    if type(value) is not list:
        _refuse(what, "a list", value)
    return tuple(value)


def _tensor(value: object) -> TensorMeta:
    item = _check_keys("a tensor", value, set(TensorMeta._fields))
    return TensorMeta(**item | {"shape": _tuple("a tensor's shape", item["shape"])})


@dataclass(frozen=True)
class Expected:
    """What a receiver waits for: an envelope that differs in any field is refused.

    round, base_hash: None where the receiver cannot know it, as a client that is being sent the model.
    """

    run: str
    round: int | None
    attempt: int
    kind: Kind
    sender: str
    receiver: str
    spec_hash: str
    base_hash: str | None
    codecs: tuple[str, ...]

    def check(self, header: Header) -> None:
        """Raise `SealError` with the first field in which `header` differs."""
        for name, want in vars(self).items():
            got = getattr(header, name)
            if want is not None and got != want:
                _refuse(name, repr(want), got)


class ReplayGuard:
    """Remembers the newest accepted message of each run, sender and receiver; safe to call from several threads.

    (attempt, seq) has to grow from one accepted message to the next, whatever their kinds and rounds: so repeated and
    reordered envelopes are refused even where a key source would give the key again.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._lock = threading.Lock()

    def check(self, header: Header) -> None:
        """Raise `SealError` unless `header` is newer than all that were accepted."""
        newest = self._newest.get((header.run, header.sender, header.receiver))
        if newest is not None and (header.attempt, header.seq) <= newest:
            _refuse("(attempt, seq)", f"above {newest}: repeated or reordered", (header.attempt, header.seq))

    def accept(self, header: Header) -> None:
        """Remember an authenticated `header`, in one step with its check."""
        with self._lock:
            self.check(header)
            self._newest[header.run, header.sender, header.receiver] = (header.attempt, header.seq)


class Envelope(NamedTuple):
    """An envelope taken apart: `associated` is everything before the nonce, `body` the ciphertext and its tag."""

    header: Header
    associated: memoryview
    nonce: memoryview
    body: memoryview


def prefix(header: Header) -> bytes:
    """Return what stands before the nonce: the associated data."""
    raw = header.to_bytes()
    return PREFIX.pack(MAGIC, VERSION, len(raw)) + raw


def parse(data: bytes, max_bytes: int) -> Envelope:
    """Take an envelope apart without a copy; every length is checked before what it counts is read.

    max_bytes: the largest envelope the receiver takes. What is not an envelope of this version raises `SealError`.
    """
    if not PREFIX.size <= len(data) <= max_bytes:
        _refuse("the length", f"from {PREFIX.size} to {max_bytes} bytes", len(data))
    magic, version, header_length = PREFIX.unpack_from(data)
    if magic != MAGIC:
        _refuse("the first four bytes", repr(MAGIC), magic)
    if version != VERSION:
        _refuse("the version", f"{VERSION}, the only one this release reads", version)
    room = len(data) - PREFIX.size - NONCE_BYTES - TAG_BYTES
    if header_length > min(room, MAX_HEADER_BYTES):
        _refuse("the header length", f"at most {max(0, min(room, MAX_HEADER_BYTES))} here", header_length)
    view = memoryview(data)
    nonce_at = PREFIX.size + header_length
    body_at = nonce_at + NONCE_BYTES
    header = Header.from_bytes(data[PREFIX.size : nonce_at])
    if header.tensor_bytes > room - header_length:
        _refuse("the tensors", f"at most {room - header_length} bytes, as much as arrived", header.tensor_bytes)
    return Envelope(header, view[:nonce_at], view[nonce_at:body_at], view[body_at:])


def admit(data: bytes, suite: str, expected: Expected, seen: ReplayGuard, max_bytes: int) -> Envelope:
    """Return the envelope if all that can be known without its key is right; otherwise raise `SealError`."""
    envelope = parse(data, max_bytes)
    if envelope.header.suite != suite:
        _refuse("suite", repr(suite), envelope.header.suite)
    expected.check(envelope.header)
    seen.check(envelope.header)
    return envelope


@runtime_checkable
class Seal(Protocol):
    """A suite: how a payload is protected, and with whose keys. `suite` is its name in the header."""

    suite: ClassVar[str]

    @property
    def keys(self) -> Keys:
        """Return the declaration of the key source."""
        ...

    def connect(self) -> KeySource:
        """Return the live key source that `seal` and `unseal` are given."""
        ...

    def key_bits(self, payload_length: int) -> int:
        """Return how many bits of key a payload of so many bytes takes."""
        ...

    def seal(self, header: Header, payload: bytes, source: KeySource) -> bytes:
        """Return the envelope, under a key that is drawn for it alone."""
        ...

    def unseal(
        self, data: bytes, expected: Expected, source: KeySource, seen: ReplayGuard, max_bytes: int
    ) -> tuple[Header, bytes]:
        """Return header and payload of an envelope that is authentic, expected and new; otherwise raise `SealError`."""
        ...
