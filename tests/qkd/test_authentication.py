from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError, KeyExhausted, ProtocolAbort
from qfedfm.qkd.authentication import (
    SESSION_BITS,
    AuthenticationPool,
    authenticate_alice,
    authenticate_bob,
    tag,
    transcript,
)
from qfedfm.qkd.channel import ClassicalChannel, converse, receive
from qfedfm.qkd.preshared import hkdf_sha256

KEYS = bytes(range(64))


def test_the_tag_is_poly1305_of_rfc_8439_section_2_5_2():
    key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    assert tag(key, b"Cryptographic Forum Research Group").hex() == "a8061dc1305136c6c22b8baf0c0127a9"


def talk(tamper=None, alice_keys=KEYS, bob_keys=KEYS):
    """Run a short conversation with tags at its end; return the channel."""
    channel = ClassicalChannel(tamper)

    def alice():
        yield b"first"
        yield from receive()
        yield b"third"
        yield b""
        yield from authenticate_alice(channel.said["alice"], channel.heard["alice"], alice_keys)

    def bob():
        yield from receive()
        yield b"second"
        yield from receive()
        yield from receive()
        yield from authenticate_bob(channel.said["bob"], channel.heard["bob"], bob_keys)

    converse(channel, alice(), bob())
    return channel


def test_an_honest_conversation_passes_and_costs_two_tags_of_128_bits():
    channel = talk()
    assert channel.messages == 6
    assert channel.bits == {"alice": 8 * 10 + 128, "bob": 8 * 6 + 128}


@pytest.mark.parametrize("index", range(6))
def test_any_altered_message_is_noticed(index):
    sent = []
    talk(lambda side, number, m: sent.append(m) or m)
    changed = [
        bytes(b ^ (1 << place % 8) if i == place else b for i, b in enumerate(sent[index])) for place in range(16)
    ]
    changed += [sent[index] + b"\0", sent[index][:-1], b"x", sent[index - 1]]
    for message in changed:
        if message != sent[index]:
            with pytest.raises(ProtocolAbort):
                talk(lambda side, number, m, message=message: message if number == index else m)


def test_another_secret_is_noticed():
    for place in (0, 31, 32, 63):  # the first half of each key is clamped in places, these bits are not
        other = bytearray(KEYS)
        other[place] ^= 1
        with pytest.raises(ProtocolAbort, match="hold different secrets"):
            talk(bob_keys=bytes(other))


def test_the_two_tags_have_keys_of_their_own():
    sent = []
    talk(lambda side, number, m: sent.append(m) or m)
    assert sent[-1] != sent[-2]
    with pytest.raises(ProtocolAbort):  # Bob's tag sent back to him
        talk(lambda side, number, m: sent[-2] if number == 5 else m)


@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_no_two_conversations_have_the_same_transcript(a, b, c, d):
    assert (transcript(a, b) == transcript(c, d)) == ((a, b) == (c, d))


@given(st.binary(max_size=300), st.lists(st.tuples(st.booleans(), st.integers(0, 40))))
def test_a_pool_gives_every_bit_once_and_in_order(secret, steps):
    pool, everything, taken = AuthenticationPool(secret), bytearray(secret), b""
    for take, length in steps:
        if not take:
            pool.replenish(bytes([length]) * length)
            everything += bytes([length]) * length
        elif length <= len(everything) - len(taken):
            taken += pool.take(8 * length)
        else:
            with pytest.raises(KeyExhausted, match="new shared secret"):
                pool.take(8 * length)
    assert taken == bytes(everything[: len(taken)])
    assert (pool.bits, pool.taken) == (8 * (len(everything) - len(taken)), 8 * len(taken))


def test_many_threads_never_take_the_same_bits():
    secret = b"".join(i.to_bytes(4, "big") for i in range(4000))
    pool = AuthenticationPool(secret)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: pool.take(32), range(4000)))
    assert b"".join(sorted(taken)) == secret


@pytest.mark.parametrize("bits", [-8, 1, 12])
def test_a_pool_gives_whole_bytes(bits):
    with pytest.raises(ConfigurationError):
        AuthenticationPool(bytes(8)).take(bits)


def test_a_derived_pool_is_computational_for_good_and_is_hkdf():
    pool = AuthenticationPool.derived(bytes(range(32)), b"alice bob 1")
    assert AuthenticationPool(b"").security == "information-theoretic"
    assert pool.security == "computational"
    assert pool.bits == 2 * SESSION_BITS
    expected = hkdf_sha256(bytes(range(32)), b"qfedfm authentication poolalice bob 1", 128)
    assert pool.take(1024) == expected
    pool.replenish(bytes(64))
    assert pool.security == "computational"


def test_ml_kem_can_begin_a_pool():
    mlkem = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mlkem")
    bob = mlkem.MLKEM768PrivateKey.generate()
    shared, ciphertext = bob.public_key().encapsulate()
    ours = AuthenticationPool.derived(shared, b"link 3")
    assert ours.take(512) == AuthenticationPool.derived(bob.decapsulate(ciphertext), b"link 3").take(512)


@pytest.mark.parametrize(("secret", "bits"), [(bytes(31), 512), (bytes(32), 0), (bytes(32), 511), (bytes(32), 1 << 20)])
def test_a_derived_pool_is_not_stretched_further_than_hkdf_goes(secret, bits):
    with pytest.raises(ConfigurationError):
        AuthenticationPool.derived(secret, b"", bits)


def test_secrets_are_never_printed():
    pool = AuthenticationPool(b"top secret" * 8)
    assert "top" not in f"{pool} {pool!r}"
