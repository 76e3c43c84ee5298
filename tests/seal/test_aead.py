"""Hostile envelopes. `Lenient` gives any key any number of times, so that what refuses is the envelope itself."""

import hashlib
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.codecs import TensorMeta
from qfedfm.errors import ConfigurationError, KeySourceError, SealError
from qfedfm.qkd import Key, PresharedKeys
from qfedfm.seal import Aead, Expected, Header, ReplayGuard

A, B, C = "a" * 64, "b" * 64, "c" * 64
LIMIT = 10**6
PAYLOAD = bytes.fromhex("0000803f000000c0") + b'{"rows":5}'
UPDATE = Header(
    "run-1", 3, 1, 7, "update", "Zürich", "server", A, B, ("dense",), (TensorMeta("w", "float32", (2,), 8),)
)


class Lenient:
    def __init__(self, material: bytes | None = None) -> None:
        self.material, self.drawn, self.fetched = material, 0, 0

    def draw(self, sender, receiver, bits, purpose):
        self.drawn += 1
        return self._key((f"{self.drawn:036d}",), sender, receiver, bits, purpose)

    def fetch(self, sender, receiver, ids, bits, purpose):
        self.fetched += 1
        return self._key(ids, sender, receiver, bits, purpose)

    def _key(self, ids, *arguments):
        material = self.material or hashlib.sha256(repr((ids, arguments)).encode()).digest()
        return Key(ids, material, "preshared")


def expected(header: Header) -> Expected:
    return Expected(
        header.run, header.round, header.attempt, header.kind, header.sender, header.receiver,
        header.spec_hash, header.base_hash, header.codecs,
    )  # fmt: skip


def unseal(data, wanted, source, seen=None, limit=LIMIT):
    return Aead().unseal(data, wanted, source, seen or ReplayGuard(), limit)


def refused(data, wanted, match, seen=None):
    """Assert that the envelope is refused before a key is asked for."""
    source = Lenient()
    with pytest.raises(SealError, match=match):
        unseal(data, wanted, source, seen)
    assert source.fetched == 0


@settings(derandomize=True, max_examples=100)
@given(
    payload=st.binary(max_size=300),
    sender=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=10),
    round=st.integers(0, 10**8 - 1),
    kind=st.sampled_from(["model", "update", "control"]),
)
def test_what_was_sealed_is_opened(payload, sender, round, kind):
    source = PresharedKeys().connect()
    header = replace(UPDATE, sender=sender, round=round, kind=kind, tensors=())
    opened, got = unseal(Aead().seal(header, payload, source), expected(header), source)
    assert got == payload
    assert opened == replace(header, suite="aes-256-gcm", key_ids=opened.key_ids)


# The body was computed from NIST SP 800-38D step by step (AES block, counter mode, GHASH), by no library's AES-GCM.
VECTOR_KEY, VECTOR_NONCE = bytes(range(32)), bytes(range(100, 112))
VECTOR_HEADER = (
    b'{"attempt":"00000001","base_hash":"' + b"b" * 64 + b'","codecs":["dense"],'
    b'"key_ids":["00000000-0000-4000-8000-000000000001"],"kind":"update","receiver":"server","round":"00000003",'
    b'"run":"run-1","sender":"Z\\u00fcrich","seq":"00000007","spec_hash":"' + b"a" * 64 + b'","suite":"aes-256-gcm",'
    b'"tensors":[{"bytes":8,"dtype":"float32","name":"w","shape":[2]}]}'
)
VECTOR_ASSOCIATED = b"QFED" + b"\x00\x01" + b"\x00\x00\x01\xbe" + VECTOR_HEADER
VECTOR_BODY = bytes.fromhex("481b5e5979e9565e45402d87ad1648c777bf9b60fe1cd309bc7d3c5607937fa9873e")


def test_fixed_vector_opens():
    data = VECTOR_ASSOCIATED + VECTOR_NONCE + VECTOR_BODY
    header, payload = unseal(data, expected(UPDATE), Lenient(VECTOR_KEY))
    assert payload == PAYLOAD
    assert header.key_ids == ("00000000-0000-4000-8000-000000000001",)


def test_fixed_vector_is_what_aes_gcm_gives():
    assert AESGCM(VECTOR_KEY).encrypt(VECTOR_NONCE, PAYLOAD, VECTOR_ASSOCIATED) == VECTOR_BODY


def test_sealed_bytes_are_taken_apart_by_hand():
    data = Aead().seal(UPDATE, PAYLOAD, Lenient(VECTOR_KEY))
    magic, version, length = struct.unpack(">4sHI", data[:10])
    assert (magic, version, length) == (b"QFED", 1, len(VECTOR_HEADER))
    key_id = b"00000000-0000-4000-8000-000000000001"
    assert data[10 : 10 + length] == VECTOR_HEADER.replace(key_id, b"0" * 35 + b"1")
    nonce, body = data[10 + length : 22 + length], data[22 + length :]
    assert AESGCM(VECTOR_KEY).decrypt(nonce, body, data[: 10 + length]) == PAYLOAD
    assert len(body) == len(PAYLOAD) + 16


def test_any_flipped_bit_is_refused():
    source = Lenient()
    data = Aead().seal(UPDATE, PAYLOAD, source)
    wanted = expected(UPDATE)
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            unseal(bytes(altered), wanted, source)
    assert unseal(data, wanted, source)[1] == PAYLOAD


def test_any_truncation_and_any_appendix_is_refused():
    source = Lenient()
    data = Aead().seal(UPDATE, PAYLOAD, source)
    for length in range(len(data)):
        with pytest.raises(SealError):
            unseal(data[:length], expected(UPDATE), source)
    for tail in (b"\0", b" ", data[-16:], data):
        with pytest.raises(SealError):
            unseal(data + tail, expected(UPDATE), source)


def test_replay_is_refused_even_if_the_key_could_be_had_again():
    seen = ReplayGuard()
    data = Aead().seal(UPDATE, PAYLOAD, Lenient())
    unseal(data, expected(UPDATE), Lenient(), seen)
    refused(data, expected(UPDATE), "repeated or reordered", seen)


def test_replay_is_refused_by_a_receiver_that_forgot_as_its_key_is_spent():
    source = PresharedKeys().connect()
    data = Aead().seal(UPDATE, PAYLOAD, source)
    unseal(data, expected(UPDATE), source)
    with pytest.raises(KeySourceError, match="is spent"):
        unseal(data, expected(UPDATE), source)


def test_reordered_envelopes_are_refused():
    first, second = (Aead().seal(replace(UPDATE, seq=seq), PAYLOAD, Lenient()) for seq in (7, 8))
    seen = ReplayGuard()
    unseal(second, expected(UPDATE), Lenient(), seen)
    refused(first, expected(UPDATE), "repeated or reordered", seen)


@pytest.mark.parametrize(
    "change",
    [
        {"run": "run-2"},
        {"round": 2},
        {"attempt": 0},
        {"kind": "control"},
        {"sender": "Bern"},
        {"receiver": "Bern"},
        {"spec_hash": C},
        {"base_hash": C},
        {"codecs": ("topk", "dense")},
    ],
    ids=lambda change: f"cross-{next(iter(change))}",
)
def test_a_genuine_envelope_of_something_else_is_refused_and_its_key_not_touched(change):
    data = Aead().seal(replace(UPDATE, **change), PAYLOAD, Lenient())
    ((name, value),) = change.items()
    refused(data, expected(UPDATE), f"{name} should be .*, got ")
    unseal(data, replace(expected(UPDATE), **{name: value}), Lenient())


def test_an_envelope_reflected_to_its_sender_is_refused():
    model = replace(UPDATE, kind="model", sender="server", receiver="Zürich")
    data = Aead().seal(model, PAYLOAD, Lenient())
    refused(data, expected(UPDATE), "kind")
    refused(data, replace(expected(UPDATE), kind="model"), "sender should be 'Zürich', got 'server'")


def test_swapped_key_ids_are_refused():
    source = Lenient()
    one, two = (Aead().seal(UPDATE, PAYLOAD, source) for _ in range(2))
    first, second = (f"{number:036d}".encode() for number in (1, 2))
    assert first in one
    assert second in two
    for data, other in ((one.replace(first, second), source), (two.replace(second, first), source)):
        with pytest.raises(SealError, match="tag"):
            unseal(data, expected(UPDATE), other)


def test_an_envelope_under_the_attackers_key_is_refused():
    forged = Aead().seal(UPDATE, PAYLOAD, PresharedKeys().connect())
    with pytest.raises(SealError, match="two ends hold different secrets"):
        unseal(forged, expected(UPDATE), PresharedKeys().connect())


def test_ciphertexts_swapped_between_two_envelopes_are_refused():
    source = Lenient(VECTOR_KEY)  # even under one key, since the header is authenticated
    one, two = (Aead().seal(replace(UPDATE, seq=seq), PAYLOAD, source) for seq in (7, 8))
    cut = len(VECTOR_ASSOCIATED)
    for data in (one[:cut] + two[cut:], two[:cut] + one[cut:]):
        with pytest.raises(SealError, match="tag"):
            unseal(data, expected(UPDATE), source)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"QFED\0\1", b"QFED\0\0", "version should be 1"),
        (b"QFED\0\1", b"QFED\0\2", "version should be 1"),
        (b'"aes-256-gcm"', b'"aes-128-gcm"', "suite should be 'aes-256-gcm', got 'aes-128-gcm'"),
        (b'"aes-256-gcm"', b'"clear-texts"', "suite should be 'aes-256-gcm', got 'clear-texts'"),
    ],
)
def test_no_other_version_or_suite_is_opened(old, new, match):
    refused(Aead().seal(UPDATE, PAYLOAD, Lenient()).replace(old, new), expected(UPDATE), match)


def test_an_oversize_envelope_is_refused_unread():
    data = Aead().seal(UPDATE, PAYLOAD, Lenient())
    source = Lenient()
    with pytest.raises(SealError, match="the length should be"):
        unseal(data, expected(UPDATE), source, limit=len(data) - 1)
    assert source.fetched == 0


def test_a_failed_tag_spends_the_key_but_leaves_the_guard_where_it_was():
    source, seen = PresharedKeys().connect(), ReplayGuard()
    data = Aead().seal(UPDATE, PAYLOAD, source)
    with pytest.raises(SealError, match="is spent, so seal the message anew"):
        unseal(data[:-1] + bytes([data[-1] ^ 1]), expected(UPDATE), source, seen)
    with pytest.raises(KeySourceError, match="is spent"):
        unseal(data, expected(UPDATE), source, seen)
    assert unseal(Aead().seal(UPDATE, PAYLOAD, source), expected(UPDATE), source, seen)[1] == PAYLOAD


def test_of_many_threads_that_open_one_envelope_exactly_one_succeeds():
    data, source, seen = Aead().seal(UPDATE, PAYLOAD, Lenient()), Lenient(), ReplayGuard()

    def opens(_):
        try:
            return unseal(data, expected(UPDATE), source, seen)[1] == PAYLOAD
        except SealError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(opens, range(200))) == 1


def test_every_message_has_its_own_key_and_nonce_and_equal_messages_have_equal_length():
    source = PresharedKeys().connect()
    sent = [replace(UPDATE, attempt=n, round=n, seq=n) for n in (0, 9, 10, 10**8 - 1)]
    many = [Aead().seal(header, PAYLOAD, source) for header in sent]
    assert len({len(data) for data in many}) == 1
    assert len({data[-len(PAYLOAD) - 28 : -len(PAYLOAD) - 16] for data in many}) == len(many)
    opened = [unseal(data, expected(header), source)[0] for data, header in zip(many, sent, strict=True)]
    assert len({header.key_ids for header in opened}) == len(many)


@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_key_bits_are_what_is_drawn(size):
    drawn = []

    class Noting(Lenient):
        def draw(self, sender, receiver, bits, purpose):
            drawn.append((bits, purpose))
            return super().draw(sender, receiver, bits, purpose)

    Aead().seal(replace(UPDATE, tensors=()), bytes(size), Noting())
    assert drawn == [(Aead().key_bits(size), "update")]


@pytest.mark.parametrize("length", [0, 16, 24, 33])
def test_a_key_of_another_length_is_not_used(length):
    data = Aead().seal(UPDATE, PAYLOAD, Lenient())
    source = Lenient()
    source._key = lambda ids, *_: Key(ids, bytes(length), "preshared")
    with pytest.raises(KeySourceError, match=f"256 bits, got {8 * length}"):
        Aead().seal(UPDATE, PAYLOAD, source)
    with pytest.raises(KeySourceError, match=f"256 bits, got {8 * length}"):
        unseal(data, expected(UPDATE), source)


def test_a_payload_shorter_than_its_tensors_is_not_sealed():
    with pytest.raises(SealError, match="counts 8 bytes of tensors, the payload has 7"):
        Aead().seal(UPDATE, PAYLOAD[:7], Lenient())


def test_keys_must_be_a_declaration_of_a_key_source():
    assert Aead().keys.source == "preshared"
    assert Aead(keys=PresharedKeys()) == Aead()
    with pytest.raises(ConfigurationError, match=r"Aead\.keys"):
        Aead(keys="preshared")
