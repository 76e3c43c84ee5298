"""Hostile envelopes, for every suite. `Lenient` gives any key any number of times, so what refuses is the envelope."""

import hashlib
import hmac
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.codecs import TensorMeta
from qfedfm.declaration import declared
from qfedfm.errors import ConfigurationError, KeySourceError, SealError
from qfedfm.qkd import Key, PresharedKeys
from qfedfm.seal import Aead, Expected, Header, HybridAead, OneTimePad, ReplayGuard
from qfedfm.seal.hybrid import HybridSource

A, B, C = "a" * 64, "b" * 64, "c" * 64
LIMIT = 10**6
PAYLOAD = bytes.fromhex("0000803f000000c0") + b'{"rows":5}'
UPDATE = Header(
    "run-1", 3, 1, 7, "update", "Zürich", "server", A, B, ("dense",), (TensorMeta("w", "float32", (2,), 8),)
)


PAIRS: dict[str, MLKEM768PrivateKey] = {}


class Lenient(HybridSource):
    def __init__(self, material: bytes | None = None) -> None:
        super().__init__(self)
        self.material, self.drawn, self.fetched = material, 0, 0
        self._pairs = PAIRS  # for the hybrid suite: all instances know the same nodes

    def draw(self, sender, receiver, bits, purpose):
        self.drawn += 1
        return self._key((f"{self.drawn:036d}",), sender, receiver, bits, purpose)

    def fetch(self, sender, receiver, ids, bits, purpose):
        self.fetched += 1
        return self._key(ids, sender, receiver, bits, purpose)

    def _key(self, ids, *arguments):
        *_, bits, _ = arguments
        if self.material:
            return Key(ids, (self.material * bits)[: bits // 8], "preshared")
        material = hashlib.shake_256(repr((ids, arguments)).encode()).digest(bits // 8)
        return Key(ids, material, "preshared")


@declared
class Plenty:
    """Stands for quantum keys: a source that gives every key once."""

    source: ClassVar[str] = "qkd-simulated"

    def connect(self):
        return PresharedKeys().connect()


PAD = OneTimePad(Plenty())
SUITES = [Aead(), HybridAead(), PAD]


@pytest.fixture(params=SUITES, ids=lambda seal: seal.suite, scope="module")
def suite(request):
    return request.param


def expected(header: Header) -> Expected:
    return Expected(
        header.run, header.round, header.attempt, header.kind, header.sender, header.receiver,
        header.spec_hash, header.base_hash, header.codecs,
    )  # fmt: skip


def unseal(suite, data, wanted, source, seen=None, limit=LIMIT):
    return suite.unseal(data, wanted, source, seen or ReplayGuard(), limit)


def refused(suite, data, wanted, match, seen=None):
    """Assert that the envelope is refused before a key is asked for."""
    source = Lenient()
    with pytest.raises(SealError, match=match):
        unseal(suite, data, wanted, source, seen)
    assert source.fetched == 0


@settings(derandomize=True, max_examples=100)
@given(
    payload=st.binary(max_size=300),
    sender=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=10),
    round=st.integers(0, 10**8 - 1),
    kind=st.sampled_from(["model", "update", "control"]),
)
def test_what_was_sealed_is_opened(suite, payload, sender, round, kind):
    source = suite.connect()
    header = replace(UPDATE, sender=sender, round=round, kind=kind, tensors=())
    opened, got = unseal(suite, suite.seal(header, payload, source), expected(header), source)
    assert got == payload
    assert opened == replace(header, suite=suite.suite, key_ids=opened.key_ids)


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
    header, payload = unseal(Aead(), data, expected(UPDATE), Lenient(VECTOR_KEY))
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


def test_any_flipped_bit_is_refused(suite):
    source = Lenient()
    data = suite.seal(UPDATE, PAYLOAD, source)
    wanted = expected(UPDATE)
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            unseal(suite, bytes(altered), wanted, source)
    assert unseal(suite, data, wanted, source)[1] == PAYLOAD


def test_any_truncation_and_any_appendix_is_refused(suite):
    source = Lenient()
    data = suite.seal(UPDATE, PAYLOAD, source)
    for length in range(len(data)):
        with pytest.raises(SealError):
            unseal(suite, data[:length], expected(UPDATE), source)
    for tail in (b"\0", b" ", data[-16:], data):
        with pytest.raises(SealError):
            unseal(suite, data + tail, expected(UPDATE), source)


def test_replay_is_refused_even_if_the_key_could_be_had_again(suite):
    seen = ReplayGuard()
    data = suite.seal(UPDATE, PAYLOAD, Lenient())
    unseal(suite, data, expected(UPDATE), Lenient(), seen)
    refused(suite, data, expected(UPDATE), "repeated or reordered", seen)


def test_replay_is_refused_by_a_receiver_that_forgot_as_its_key_is_spent(suite):
    source = suite.connect()
    data = suite.seal(UPDATE, PAYLOAD, source)
    unseal(suite, data, expected(UPDATE), source)
    with pytest.raises(KeySourceError, match="is spent"):
        unseal(suite, data, expected(UPDATE), source)


def test_reordered_envelopes_are_refused(suite):
    first, second = (suite.seal(replace(UPDATE, seq=seq), PAYLOAD, Lenient()) for seq in (7, 8))
    seen = ReplayGuard()
    unseal(suite, second, expected(UPDATE), Lenient(), seen)
    refused(suite, first, expected(UPDATE), "repeated or reordered", seen)


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
def test_a_genuine_envelope_of_something_else_is_refused_and_its_key_not_touched(suite, change):
    data = suite.seal(replace(UPDATE, **change), PAYLOAD, Lenient())
    ((name, value),) = change.items()
    refused(suite, data, expected(UPDATE), f"{name} should be .*, got ")
    unseal(suite, data, replace(expected(UPDATE), **{name: value}), Lenient())


def test_an_envelope_reflected_to_its_sender_is_refused(suite):
    model = replace(UPDATE, kind="model", sender="server", receiver="Zürich")
    data = suite.seal(model, PAYLOAD, Lenient())
    refused(suite, data, expected(UPDATE), "kind")
    refused(suite, data, replace(expected(UPDATE), kind="model"), "sender should be 'Zürich', got 'server'")


def test_swapped_key_ids_are_refused(suite):
    source = Lenient()
    one, two = (suite.seal(UPDATE, PAYLOAD, source) for _ in range(2))
    first, second = (f"{number:036d}".encode() for number in (1, 2))
    assert first in one
    assert second in two
    for data, other in ((one.replace(first, second), source), (two.replace(second, first), source)):
        with pytest.raises(SealError, match="tag"):
            unseal(suite, data, expected(UPDATE), other)


def test_an_envelope_under_the_attackers_key_is_refused(suite):
    forged = suite.seal(UPDATE, PAYLOAD, suite.connect())
    with pytest.raises(SealError, match="two ends hold different secrets"):
        unseal(suite, forged, expected(UPDATE), suite.connect())


def test_ciphertexts_swapped_between_two_envelopes_are_refused(suite):
    source = Lenient(VECTOR_KEY)  # even under one key, since the header is authenticated
    one, two = (suite.seal(replace(UPDATE, seq=seq), PAYLOAD, source) for seq in (7, 8))
    cut = 10 + struct.unpack(">4sHI", one[:10])[2]
    for data in (one[:cut] + two[cut:], two[:cut] + one[cut:]):
        with pytest.raises(SealError, match="tag"):
            unseal(suite, data, expected(UPDATE), source)


@pytest.mark.parametrize("version", [0, 2])
def test_no_other_version_is_opened(suite, version):
    data = suite.seal(UPDATE, PAYLOAD, Lenient())
    refused(suite, data[:5] + bytes([version]) + data[6:], expected(UPDATE), "version should be 1")


@pytest.mark.parametrize("other", [*(seal.suite for seal in SUITES), "aes-128-gcm", "clear"])
def test_no_other_suite_is_opened(suite, other):
    if other == suite.suite:
        return
    length = 10 + struct.unpack(">4sHI", (data := suite.seal(UPDATE, PAYLOAD, Lenient()))[:10])[2]
    header = data[10:length].replace(suite.suite.encode(), other.encode())
    forged = data[:6] + struct.pack(">I", len(header)) + header + data[length:]
    refused(suite, forged, expected(UPDATE), f"suite should be '{suite.suite}', got '{other}'")


def test_an_oversize_envelope_is_refused_unread(suite):
    data = suite.seal(UPDATE, PAYLOAD, Lenient())
    source = Lenient()
    with pytest.raises(SealError, match="the length should be"):
        unseal(suite, data, expected(UPDATE), source, limit=len(data) - 1)
    assert source.fetched == 0


def test_a_failed_tag_spends_the_key_but_leaves_the_guard_where_it_was(suite):
    source, seen = suite.connect(), ReplayGuard()
    data = suite.seal(UPDATE, PAYLOAD, source)
    with pytest.raises(SealError, match="is spent, so seal the message anew"):
        unseal(suite, data[:-1] + bytes([data[-1] ^ 1]), expected(UPDATE), source, seen)
    with pytest.raises(KeySourceError, match="is spent"):
        unseal(suite, data, expected(UPDATE), source, seen)
    assert unseal(suite, suite.seal(UPDATE, PAYLOAD, source), expected(UPDATE), source, seen)[1] == PAYLOAD


def test_of_many_threads_that_open_one_envelope_exactly_one_succeeds(suite):
    data, source, seen = suite.seal(UPDATE, PAYLOAD, Lenient()), Lenient(), ReplayGuard()

    def opens(_):
        try:
            return unseal(suite, data, expected(UPDATE), source, seen)[1] == PAYLOAD
        except SealError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(opens, range(200))) == 1


def test_every_message_has_its_own_key_and_nonce_and_equal_messages_have_equal_length(suite):
    source = suite.connect()
    sent = [replace(UPDATE, attempt=n, round=n, seq=n) for n in (0, 9, 10, 10**8 - 1)]
    many = [suite.seal(header, PAYLOAD, source) for header in sent]
    assert len({len(data) for data in many}) == 1
    assert len({data[-len(PAYLOAD) - 28 : -len(PAYLOAD) - 16] for data in many}) == len(many)
    opened = [unseal(suite, data, expected(header), source)[0] for data, header in zip(many, sent, strict=True)]
    assert len({header.key_ids for header in opened}) == len(many)


@pytest.mark.parametrize("size", [0, 1, 10_000])
def test_key_bits_are_what_is_drawn(suite, size):
    drawn = []

    class Noting(Lenient):
        def draw(self, sender, receiver, bits, purpose):
            drawn.append((bits, purpose))
            return super().draw(sender, receiver, bits, purpose)

    suite.seal(replace(UPDATE, tensors=()), bytes(size), Noting())
    assert drawn == [(suite.key_bits(size), "update")]


@pytest.mark.parametrize("length", [0, 16, 24, 33])
def test_a_key_of_another_length_is_not_used(suite, length):
    data = suite.seal(UPDATE, PAYLOAD, Lenient())
    source = Lenient()
    source._key = lambda ids, *_: Key(ids, bytes(length), "preshared")
    with pytest.raises(KeySourceError, match=f"{suite.key_bits(len(PAYLOAD))} bits, got {8 * length}"):
        suite.seal(UPDATE, PAYLOAD, source)
    with pytest.raises(KeySourceError, match=f"{suite.key_bits(len(PAYLOAD))} bits, got {8 * length}"):
        unseal(suite, data, expected(UPDATE), source)


def test_a_payload_shorter_than_its_tensors_is_not_sealed(suite):
    with pytest.raises(SealError, match="counts 8 bytes of tensors, the payload has 7"):
        suite.seal(UPDATE, PAYLOAD[:7], Lenient())


def test_keys_must_be_a_declaration_of_a_key_source():
    assert Aead().keys.source == "preshared"
    assert Aead(keys=PresharedKeys()) == Aead()
    with pytest.raises(ConfigurationError, match=r"Aead\.keys"):
        Aead(keys="preshared")


def apart(data):
    """Return associated data, nonce and body of an envelope."""
    length = 10 + struct.unpack(">4sHI", data[:10])[2]
    return data[:length], data[length : length + 12], data[length + 12 :]


def poly1305(key: bytes, message: bytes) -> bytes:
    """RFC 8439, section 2.5, in integers."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        block = message[start : start + 16] + b"\1"
        total = (total + int.from_bytes(block, "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def test_rfc_8439_section_2_5_2_vector_of_the_reference():
    key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    assert poly1305(key, b"Cryptographic Forum Research Group").hex() == "a8061dc1305136c6c22b8baf0c0127a9"


def test_a_one_time_pad_is_taken_apart_by_hand():
    key = hashlib.shake_256(b"pad").digest(32 + len(PAYLOAD))
    associated, nonce, body = apart(PAD.seal(UPDATE, PAYLOAD, Lenient(key)))
    ciphertext, tag = body[:-16], body[-16:]
    assert bytes(c ^ k for c, k in zip(ciphertext, key[32:], strict=True)) == PAYLOAD
    lengths = len(associated).to_bytes(8, "big") + len(ciphertext).to_bytes(8, "big")
    assert tag == poly1305(key[:32], associated + nonce + ciphertext + lengths)


def test_a_hybrid_key_is_hkdf_of_both_secrets_and_the_transcript():
    source = Lenient(VECTOR_KEY)
    associated, nonce, body = apart(HybridAead().seal(UPDATE, PAYLOAD, source))
    secret = PAIRS["server"].decapsulate(body[:1088])
    extracted = hmac.digest(bytes(32), VECTOR_KEY + secret, "sha256")  # RFC 5869, by its two steps
    info = b"qfedfm hybrid" + hashlib.sha256(associated + body[:1088]).digest()
    key = hmac.digest(extracted, info + b"\1", "sha256")
    assert AESGCM(key).decrypt(nonce, body[1088:], associated) == PAYLOAD


@pytest.mark.parametrize("known", ["the qkd key", "the kem secret"])
def test_either_secret_alone_does_not_open_a_hybrid_envelope(known):
    data = HybridAead().seal(UPDATE, PAYLOAD, Lenient(VECTOR_KEY))
    other = Lenient(VECTOR_KEY if known == "the qkd key" else bytes(32))
    if known == "the qkd key":
        other._pairs = {}
    with pytest.raises(SealError, match="tag"):
        unseal(HybridAead(), data, expected(UPDATE), other)


def test_a_hybrid_suite_refuses_a_source_without_kem_keys():
    with pytest.raises(KeySourceError, match=r"its own connect\(\)"):
        HybridAead().seal(UPDATE, PAYLOAD, PresharedKeys().connect())


def test_a_one_time_pad_refuses_keys_that_are_stretched():
    with pytest.raises(ConfigurationError, match="no one-time pad"):
        OneTimePad(PresharedKeys())
