from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError, KeyExhausted
from qfedfm.qkd import session as module
from qfedfm.qkd.authentication import AuthenticationPool
from qfedfm.qkd.channel import converse
from qfedfm.qkd.decoy_bb84 import DecoyBB84
from qfedfm.qkd.eavesdroppers import BeamSplitting, InterceptResend, PhotonNumberSplitting
from qfedfm.qkd.finite_key import finite_length
from qfedfm.qkd.link import Detectors, Fibre, Link, PulsedSource
from qfedfm.qkd.pulses import AliceRecord, BobRecord
from qfedfm.qkd.session import STAGES, run_session
from qfedfm.seeds import stream

LINK = Link(
    channel=Fibre(km=0.0),
    detectors=Detectors(efficiency=1.0, misalignment=0.01),
    source=PulsedSource(intensities=(0.5, 0.2, 0.0), probabilities=(0.4, 0.4, 0.2)),
)
PROTOCOL = DecoyBB84(LINK, eps_sec=1e-4, eps_cor=1e-9)
PULSES = 200_000
"""Small enough for a test: about 12,000 bits of key basis, one frame, 1,400 bits of key."""


def pool(sessions=1):
    return AuthenticationPool(np.random.default_rng(5).bytes(64 * sessions))


def run(protocol=PROTOCOL, pulses=PULSES, seed=1, **given):
    return run_session(protocol, pulses, stream(seed, "session"), given.pop("secret", pool()), **given)


def assert_sound(done):
    """What holds of every session."""
    ledger = done.ledger
    proven = 0 if done.finite is None or done.aborted else done.finite.length
    assert ledger.delivered <= max(0, proven - ledger.tags)
    assert ledger.delivered == max(0, ledger.net) == len(done.key_alice) == len(done.key_bob)
    assert ledger.net == ledger.secret - ledger.tags
    assert ledger.secret == proven
    assert ledger.sifted <= ledger.raw <= ledger.pulses
    if done.frames:
        assert ledger.sifted == ledger.sample + ledger.dropped + ledger.reconciled
    if done.aborted:
        assert ledger.delivered == 0
        assert "no key" in str(done)
    else:
        assert (done.key_alice == done.key_bob).all()
        assert ledger.reconciled == ledger.secret + ledger.amplification


def test_a_session_makes_one_key_at_both_ends():
    done = run()
    assert done.aborted is None
    assert_sound(done)
    assert done.ledger.delivered > 1000
    assert 0.4 < done.key_alice.mean() < 0.6
    assert str(done) == f"{done.ledger.delivered} bits of key from 200000 pulses in 0.0002 s of sending"
    assert done.security == "information-theoretic"


def test_the_same_seed_gives_the_same_session_and_another_one_another_key():
    one, two, other = run(), run(), run(seed=2)
    assert one.ledger == two.ledger
    assert (one.key_alice == two.key_alice).all()
    assert one.key_alice[:500].tolist() != other.key_alice[:500].tolist()


def test_the_length_is_that_of_lim_2014_with_the_counts_of_the_records_and_the_real_leak(monkeypatch):
    sent = []
    transmit = module.transmit
    monkeypatch.setattr(module, "transmit", lambda *given: sent.append(transmit(*given)) or sent[0])
    done = run(pulses=600_000)
    alice, bob = sent[0].alice, sent[0].bob
    n, m = np.zeros((2, 3)), np.zeros((2, 3))
    for basis in (0, 1):
        for k in range(3):
            chosen = (alice.basis == basis) & (bob.basis == basis) & (alice.intensity == k)
            n[basis, k], m[basis, k] = chosen.sum(), (alice.bit != bob.bit)[chosen].sum()
    ledger = done.ledger
    leak = ledger.leaked + ledger.verification - 30 + ledger.dropped  # the last tag has 30 bits at 1e-9
    source = LINK.source
    expected = finite_length(n[0], m[0], n[1], m[1], source.intensities, source.probabilities, leak, 1e-4, 1e-9)
    assert ledger.secret == expected.length
    assert (ledger.sifted, ledger.sample, ledger.raw) == (n.sum(), n[1].sum(), len(bob.pulse))
    assert (done.qber_test.errors, done.qber_test.bits) == (m[1].sum(), n[1].sum())
    assert (done.qber_key.errors, done.qber_key.bits) == (m[0].sum(), n[0].sum())


def test_clicks_agree_with_the_channel_model_within_five_sigma():
    done = run(pulses=600_000)
    n_key, m_key, n_test, m_test = PROTOCOL.expected().sum(axis=1) * 600_000
    ledger = done.ledger
    for seen, mean in [
        (ledger.sifted - ledger.sample, n_key),
        (ledger.sample, n_test),
        (done.qber_key.errors, m_key),
        (done.qber_test.errors, m_test),
    ]:
        assert abs(seen - mean) < 5 * mean**0.5
    low, high = done.qber_test.interval
    assert low < m_test / n_test < high
    assert 1 < done.f_ec < 1.15


def test_seconds_rounds_and_bits_are_counted():
    done = run()
    assert done.seconds == PULSES / 1e9
    assert done.latency(0.001) == pytest.approx(done.rounds / 1000)
    assert done.messages >= done.rounds > 100
    positions = done.ledger.raw * (2 + np.log2(PULSES / done.ledger.raw))
    assert done.bits_bob > positions
    assert done.bits_alice > done.ledger.leaked + done.ledger.verification


def test_stages_are_reported_in_order():
    seen = []
    run(progress=lambda *step: seen.append(step))
    assert seen == [*((stage, i, 7) for i, stage in enumerate(STAGES)), ("done", 7, 7)]


# The pool


def test_a_session_takes_512_bits_and_pays_them_back_from_its_key(monkeypatch):
    secret = AuthenticationPool(bytes(range(64)))
    done = run(secret=secret)
    assert (secret.taken, secret.bits, done.ledger.tags) == (512, 512, 512)
    again = run(secret=secret, seed=2)
    assert again.aborted is None
    assert secret.taken == 1024
    whole = run(secret=AuthenticationPool(bytes(128)))  # the same key without its first 512 bits
    assert (whole.key_alice == done.key_alice).all()


def test_what_is_paid_back_is_not_delivered():
    secret = AuthenticationPool(bytes(64))
    done = run(secret=secret)
    paid = np.unpackbits(np.frombuffer(secret.take(512), np.uint8))
    assert len(paid) + len(done.key_alice) == done.ledger.secret
    assert paid.tolist() != done.key_alice[:512].tolist()


def test_a_pool_that_is_too_small_stops_before_any_pulse(monkeypatch):
    monkeypatch.setattr(module, "transmit", lambda *given: pytest.fail("pulses were sent"))
    with pytest.raises(KeyExhausted):
        run(secret=AuthenticationPool(bytes(63)))


@pytest.mark.parametrize("pulses", [0, -1, 1.5])
def test_settings_that_cannot_be_cost_nothing(pulses):
    secret = AuthenticationPool(bytes(64))
    with pytest.raises(ConfigurationError):
        run(PROTOCOL, pulses, secret=secret)
    assert secret.bits == 512
    with pytest.raises(ConfigurationError, match="eps_cor"):
        replace(PROTOCOL, eps_cor=1e-40)


def test_a_session_that_was_given_up_before_its_tags_gives_their_keys_back():
    secret = AuthenticationPool(bytes(range(64)) + bytes(8))
    done = run(secret=secret, eve=InterceptResend())
    assert done.aborted
    assert (secret.bits, secret.taken, done.ledger.tags, done.ledger.net) == (576, 0, 0, 0)
    assert secret.take(512) == bytes(range(64))  # in the same order
    assert str(done).startswith("given up, no key, 0 bits of the pool spent: ")


def test_a_session_whose_tags_were_made_spends_their_keys_whatever_comes_of_it():
    def alter_tags(sender, index, message):
        return bytes(len(message)) if len(message) == 16 else message

    secret = AuthenticationPool(bytes(range(64)))
    done = run(secret=secret, tamper=alter_tags)
    assert "tag does not fit" in done.aborted
    assert (secret.bits, done.ledger.net) == (0, -512)


def test_a_small_block_makes_less_than_its_tags_cost_and_says_so():
    secret = AuthenticationPool(bytes(64))
    done = run(pulses=120_000, seed=0, secret=secret)
    assert done.aborted is None
    assert 0 < done.ledger.secret < 512
    assert_sound(done)
    assert f"a net of {done.ledger.secret - 512}; send more pulses" in str(done)
    assert secret.bits == done.ledger.secret // 8 * 8


def test_a_computational_beginning_is_said():
    assert run(secret=AuthenticationPool.derived(bytes(32), b"test")).security == "computational"


# Two parties


def test_neither_party_looks_at_the_record_of_the_other(monkeypatch):
    turn = [None]
    transmit, joined = module.transmit, module.converse

    class Guarded:
        def __init__(self, owner, record):
            self._owner, self._record = owner, record

        def __getattr__(self, name):
            assert turn[0] in (self._owner, None), f"{turn[0]} read '{name}' of {self._owner}"
            return getattr(self._record, name)

    def guarded(*given):
        sent = transmit(*given)
        return replace(
            sent, alice=Guarded("alice", sent.alice), bob=Guarded("bob", sent.bob), truth=Guarded("eve", None)
        )

    def taking_turns(side, party):
        message = None
        while True:
            turn[0] = side
            try:
                asked = party.send(message)
            except StopIteration as stop:
                return stop.value
            finally:
                turn[0] = None
            message = yield asked

    monkeypatch.setattr(module, "transmit", guarded)
    monkeypatch.setattr(
        module, "converse", lambda channel, a, b: joined(channel, taking_turns("alice", a), taking_turns("bob", b))
    )
    assert run().ledger.delivered > 1000


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_a_party_alone_with_what_it_heard_makes_the_same_key(monkeypatch, side):
    """The other party is a tape of its messages: all that a side learns of the other came through the channel."""
    heard = []
    transmit = module.transmit
    full = run(tamper=lambda sender, index, message: heard.append((sender, message)) or message)

    def tape(sender, count):
        for who, message in heard:
            if who == sender:
                yield message
            else:
                assert (yield None) == message
        return np.zeros(0, np.uint8)

    def alone(channel, alice, bob):
        other = tape("bob" if side == "alice" else "alice", len(heard))
        return converse(channel, alice, other) if side == "alice" else converse(channel, other, bob)

    def half(*given):
        sent = transmit(*given)
        nothing = [np.zeros(0, np.uint8)] * 8
        if side == "alice":
            return replace(sent, bob=BobRecord(*nothing[: len(fields(BobRecord))]), truth=None)
        return replace(sent, alice=AliceRecord(*nothing[: len(fields(AliceRecord))]), truth=None)

    monkeypatch.setattr(module, "converse", alone)
    monkeypatch.setattr(module, "transmit", half)
    again = run()
    key = again.key_alice if side == "alice" else again.key_bob
    assert key.tolist() == full.key_alice.tolist()
    assert len(key) > 1000


# Eve


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_intercept_and_resend_is_caught(fraction):
    done = run(eve=InterceptResend(fraction=fraction))
    assert_sound(done)
    assert done.aborted
    assert done.finite is None


def test_photon_number_splitting_is_caught_though_clicks_and_errors_look_the_same():
    protocol = replace(PROTOCOL, link=LINK.at(50.0))
    honest, split = (run(protocol, 8_000_000, eve=eve) for eve in (None, PhotonNumberSplitting()))
    assert honest.ledger.delivered > 10_000
    assert abs(split.ledger.raw - honest.ledger.raw) < 5 * (2 * honest.ledger.raw) ** 0.5
    assert split.aborted
    assert "single photons" in split.aborted
    assert_sound(split)


def test_what_is_proven_holds_of_what_really_happened(monkeypatch):
    """The simulation knows how many photons each pulse had and what Eve knows; the bounds were made without it."""
    sent = []
    transmit = module.transmit
    monkeypatch.setattr(module, "transmit", lambda *given: sent.append(transmit(*given)) or sent[0])
    done = run(pulses=600_000, eve=BeamSplitting())
    key = (sent[0].alice.basis == 0) & (sent[0].bob.basis == 0)
    photons = sent[0].truth.photons[key]
    assert done.finite.s1 <= np.count_nonzero(photons == 1)
    assert done.finite.s0 <= np.count_nonzero(photons == 0)
    assert 0 < done.ledger.secret + done.ledger.leaked < np.count_nonzero(sent[0].truth.certainty[key] < 1)


def test_every_message_of_every_stage_is_authenticated():
    """Flip, cut, lengthen or empty any message: zero bits. Of Cascade's thousand messages some are taken."""
    said = []
    full = run(tamper=lambda sender, index, message: said.append(message) or message)
    assert full.ledger.delivered > 0
    last = len(said) - 1
    generator = np.random.default_rng(6)
    cascade = generator.choice(np.arange(9, last - 6), 12, replace=False)
    for index in [*range(9), *cascade.tolist(), *range(last - 6, last + 1)]:
        message = said[index]
        places = len(message) - 1, int(generator.integers(len(message)))
        altered = [flipped(message, place, 1 << int(generator.integers(8))) for place in places]
        altered.append([message[:-1], message + b"\0", b""][index % 3])
        for change in altered:
            done = run(tamper=lambda sender, i, m, index=index, change=change: change if i == index else m)
            assert done.aborted, (index, len(message), len(change))
            assert_sound(done)


def flipped(message, place, bits):
    return message[:place] + bytes([message[place] ^ bits]) + message[place + 1 :]


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_noise_on_all_messages_ends_the_session(side):
    generator = np.random.default_rng(7)

    def noisy(sender, index, message):
        return generator.bytes(len(message)) if sender == side else message

    assert run(tamper=noisy).aborted


def test_silence_ends_the_session():
    assert run(tamper=lambda sender, index, message: b"").aborted


# Whatever the inputs


@settings(max_examples=60)
@given(
    km=st.sampled_from([0.0, 0.0, 1.0, 5.0, 60.0]),
    misalignment=st.sampled_from([0.0, 0.005, 0.01, 0.03, 0.2]),
    dark_count=st.sampled_from([0.0, 0.0, 1e-3]),
    after_pulsing=st.sampled_from([0.0, 0.05]),
    signal=st.floats(0.35, 0.9),
    basis_probability=st.floats(0.2, 0.9),
    pulses=st.one_of(st.integers(1, 1000), st.integers(150_000, 500_000)),
    eps=st.sampled_from([0.5, 1e-3, 1e-3, 1e-10]),
    fraction=st.sampled_from([None, None, None, 0.02, 0.3]),
    altered=st.sampled_from([None, None, None, 40]),
    seed=st.integers(0, 2**32),
)
def test_no_session_delivers_more_than_is_proven_less_what_authentication_cost(
    km, misalignment, dark_count, after_pulsing, signal, basis_probability, pulses, eps, fraction, altered, seed
):
    link = Link(
        channel=Fibre(km=km),
        detectors=Detectors(1.0, dark_count, 0.0, after_pulsing, misalignment),
        source=PulsedSource(intensities=(signal, 0.2, 0.0), probabilities=(0.4, 0.4, 0.2)),
        basis_probability=basis_probability,
    )
    done = run(
        DecoyBB84(link, eps_sec=eps, eps_cor=1e-9),
        pulses,
        seed,
        eve=None if fraction is None else InterceptResend(fraction=fraction),
        tamper=lambda sender, i, m: flipped(m, len(m) // 2, 4) if i == altered and m else m,
    )
    assert_sound(done)


def test_173_sifted_bits_make_no_key():
    # FIGURES.md: a peer makes a "secure" key of 100 bits from as many
    for seed in range(5):
        done = run(pulses=1500, seed=seed)
        assert 120 < done.ledger.sifted < 230
        assert done.aborted
        assert done.ledger.delivered == 0


def test_the_key_is_shorter_where_more_was_leaked():
    # FIGURES.md: a peer's key has 256 bits whatever leaked
    quiet, noisy = run(), run(replace(PROTOCOL, link=replace(LINK, detectors=Detectors(1.0, misalignment=0.012))))
    assert noisy.ledger.leaked > quiet.ledger.leaked
    assert noisy.ledger.secret < quiet.ledger.secret


def test_a_frame_that_fails_is_dropped_counted_and_charged_in_full(monkeypatch):
    wrong = []

    def spoiling(frames, schedule):
        corrected = yield from cascade_bob(frames, schedule)
        corrected.frames[0, 5] ^= 1
        wrong.append(frames.shape)
        return corrected

    cascade_bob = module.cascade_bob
    monkeypatch.setattr(module, "cascade_bob", spoiling)
    done = run(pulses=800_000)
    assert_sound(done)
    assert done.aborted is None
    assert (done.frames, done.frames_failed) == (wrong[0][0], 1)
    assert done.ledger.dropped == 16_384
    assert done.finite.leaked == done.ledger.leaked + 24 * (done.frames - 1) + 16_384
    assert done.qber_key.bits == done.ledger.reconciled
