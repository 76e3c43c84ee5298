import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from qfedfm.errors import ConfigurationError, ProtocolAbort
from qfedfm.qkd.channel import ClassicalChannel, converse
from qfedfm.qkd.estimation import ErrorRate, estimate_alice, estimate_bob
from qfedfm.qkd.pulses import AliceRecord, BobRecord
from qfedfm.qkd.sifting import decode_positions, encode_positions, sift_alice, sift_bob


@st.composite
def clicks(draw):
    limit = draw(st.integers(1, 10**12))
    return np.array(sorted(draw(st.sets(st.integers(0, limit - 1), max_size=40))), np.int64), limit


def records(count, pulses, seed=0):
    generator = np.random.default_rng(seed)
    pulse = np.sort(generator.choice(pulses, count, replace=False))
    bits = generator.integers(0, 2, (4, count), dtype=np.uint8)
    intensity = generator.integers(0, 3, count, dtype=np.uint8)
    alice = AliceRecord(pulse, bits[0], bits[1], intensity, np.zeros((2, 3), np.int64))
    return alice, BobRecord(pulse, bits[2], bits[3])


def sifted(alice, bob, pulses, tamper=None):
    channel = ClassicalChannel(tamper)
    return *converse(channel, sift_alice(alice, pulses), sift_bob(bob, pulses)), channel


@given(clicks())
def test_positions_come_back(case):
    positions, limit = case
    assert (decode_positions(encode_positions(positions, limit), limit) == positions).all()


@pytest.mark.parametrize(
    ("positions", "limit"), [(range(100), 100), ([], 1), ([], 10**15), ([0], 1), ([10**15 - 1], 10**15)]
)
def test_the_extremes_come_back(positions, limit):
    positions = np.array(positions, np.int64)
    assert (decode_positions(encode_positions(positions, limit), limit) == positions).all()


@pytest.mark.parametrize("chance", [1e-5, 1e-3, 0.02, 0.4])
def test_a_click_costs_at_most_what_elias_1974_proves_and_little_more_than_entropy(chance):
    positions = np.cumsum(np.random.default_rng(1).geometric(chance, 20_000))
    limit = int(positions[-1]) + 1
    bits = 8 * len(encode_positions(positions, limit))
    entropy = -(chance * math.log2(chance) + (1 - chance) * math.log2(1 - chance)) / chance
    each = (bits - 64 - 2 * 64) / len(positions)  # the count, and what fills up bytes
    assert each <= 2 + math.log2(limit / len(positions)) + 1e-3
    assert each <= entropy + 1.4


def test_the_code_of_a_list_worked_by_hand():
    # one low bit each: 1, 0, 1, 1; high parts 0, 2, 2, 4 put ones at places 0, 3, 4, 7 of the unary part
    assert encode_positions(np.array([1, 4, 5, 9]), 12) == bytes([4, 0, 0, 0, 0, 0, 0, 0, 0b10110000, 0b10011001, 0])


@given(clicks(), st.data())
def test_an_altered_list_gives_a_rising_list_or_an_abort(case, data):
    positions, limit = case
    message = bytearray(encode_positions(positions, limit))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(message)))
    for altered in (bytes(message), bytes(message[:cut]), bytes(message) + b"\0"):
        try:
            decoded = decode_positions(altered, limit)
        except ProtocolAbort:
            continue
        assert (np.diff(decoded) > 0).all()
        assert ((decoded >= 0) & (decoded < limit)).all()


@pytest.mark.parametrize("positions", [[3, 2], [2, 2], [-1, 2], [2, 10]])
def test_positions_that_cannot_be_are_not_sent(positions):
    with pytest.raises(ConfigurationError):
        encode_positions(np.array(positions), 10)


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_what_is_kept_is_where_the_bases_agree(count, seed):
    alice, bob = records(count, 10 * count, seed)
    ours, theirs, _ = sifted(alice, bob, 10 * count)
    for basis, mine, intensity, his in [
        (0, ours.key, ours.key_intensity, theirs.key),
        (1, ours.test, ours.test_intensity, theirs.test),
    ]:
        kept = [i for i in range(count) if alice.basis[i] == bob.basis[i] == basis]
        assert mine.tolist() == alice.bit[kept].tolist()
        assert intensity.tolist() == alice.intensity[kept].tolist()
        assert his.tolist() == bob.bit[kept].tolist()


def test_nothing_said_while_sifting_depends_on_bits_or_intensities():
    alice, bob = records(500, 10_000)
    other = AliceRecord(alice.pulse, alice.basis, 1 - alice.bit, 2 - alice.intensity, alice.sent)
    one = sifted(alice, bob, 10_000)[2]
    two = sifted(other, BobRecord(bob.pulse, bob.basis, 1 - bob.bit), 10_000)[2]
    assert one.said == two.said


def test_a_link_without_clicks_gives_no_key():
    empty = np.zeros(0, np.uint8)
    record = np.zeros(0, np.int64), empty, empty
    with pytest.raises(ProtocolAbort, match="no pulse clicked"):
        sifted(AliceRecord(*record, empty, np.zeros((2, 3))), BobRecord(*record), 100)


@pytest.mark.parametrize("index", range(3))
def test_messages_of_another_length_are_refused(index):
    alice, bob = records(100, 1000)
    for change in (lambda m: b"", lambda m: m[:-1], lambda m: m + b"\0"):
        with pytest.raises(ProtocolAbort):
            sifted(alice, bob, 1000, lambda side, number, m, change=change: change(m) if number == index else m)


def estimated(alice, bob, pulses, tamper=None):
    ours, theirs, _ = sifted(alice, bob, pulses)
    return converse(ClassicalChannel(tamper), estimate_alice(ours, 3), estimate_bob(theirs))


@given(st.integers(1, 500), st.integers(0, 2**32))
def test_alice_counts_what_a_loop_counts(count, seed):
    # FIGURES.md: a peer's error counter miscounts 64-bit words; the counts here have every remainder mod 64
    alice, bob = records(count, 10 * count, seed)
    estimate, rate = estimated(alice, bob, 10 * count)
    n, wrong = np.zeros((2, 3), int), np.zeros(3, int)
    for i in range(count):
        if alice.basis[i] == bob.basis[i]:
            n[alice.basis[i], alice.intensity[i]] += 1
            wrong[alice.intensity[i]] += alice.basis[i] == 1 and alice.bit[i] != bob.bit[i]
    assert estimate.n_key.tolist() == n[0].tolist()
    assert estimate.n_test.tolist() == n[1].tolist()
    assert estimate.m_test.tolist() == wrong.tolist()
    assert (rate.errors, rate.bits) == (wrong.sum(), n[1].sum())


def test_an_impossible_number_of_errors_is_refused():
    alice, bob = records(100, 1000)
    with pytest.raises(ProtocolAbort, match="the message was altered"):
        estimated(alice, bob, 1000, lambda side, number, m: b"\xff" * 8 if number == 1 else m)


@pytest.mark.parametrize(
    ("errors", "bits", "low", "high"),
    [(0, 20, 0.0, 0.1684), (2, 20, 0.0123, 0.3170), (10, 100, 0.0490, 0.1762), (20, 20, 0.8316, 1.0)],
)
def test_intervals_are_those_of_clopper_and_pearson_1934(errors, bits, low, high):
    assert ErrorRate(errors, bits).interval == pytest.approx((low, high), abs=5e-5)


def test_intervals_cover_at_least_as_often_as_they_say():
    bits, rate = 200, 0.03
    each = binom(bits, rate).pmf(np.arange(bits + 1))
    covered = [low <= rate <= high for low, high in (ErrorRate(m, bits).interval for m in range(bits + 1))]
    assert each[covered].sum() >= 0.95


def test_no_bits_have_no_rate_and_the_whole_interval():
    assert math.isnan(ErrorRate(0, 0).value)
    assert ErrorRate(0, 0).interval == (0.0, 1.0)
