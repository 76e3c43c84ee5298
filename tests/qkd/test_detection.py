"""Dead time and after-pulsing against a loop over gates, and against renewal theory."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import rest

from qfedfm.qkd import clicks
from qfedfm.qkd.clicks import Clicks
from qfedfm.qkd.detection import Awake, detect
from qfedfm.qkd.link import Detectors, Fibre, Link, PulsedSource
from qfedfm.qkd.pulses import receive, transmit
from qfedfm.seeds import stream

BRIGHT = Link(
    channel=Fibre(km=5.0),
    detectors=Detectors(efficiency=0.5, dark_count=1e-3, misalignment=0.02),
    source=PulsedSource(intensities=(0.8, 0.2, 0.0), probabilities=(0.5, 0.3, 0.2), repetition_hz=1e6),
)


def resting(dead_time=0.0, after_pulsing=0.0):
    return replace(BRIGHT, detectors=replace(BRIGHT.detectors, dead_time=dead_time, after_pulsing=after_pulsing))


@st.composite
def sequences(draw):
    gates = sorted(draw(st.sets(st.integers(0, 60), max_size=40)))
    masks = draw(st.lists(st.integers(1, 3), min_size=len(gates), max_size=len(gates)))
    follows = draw(st.lists(st.booleans(), min_size=len(gates), max_size=len(gates)))
    return gates, masks, follows, draw(st.integers(1, 8)), draw(st.integers(0, 61))


@given(sequences())
def test_one_stretch_or_two_see_what_a_loop_over_the_gates_sees(sequence):
    gates, masks, follows, blind, border = sequence
    g, m, f = np.array(gates, np.int64), np.array(masks, np.uint8), np.array(follows, bool)
    light, awake, seen = dict(zip(gates, masks, strict=True)), Awake(), []
    for part in (g < border, g >= border):
        happens, awake = detect(g[part], m[part], f[part], blind, awake)
        seen += zip(g[part][happens].tolist(), m[part][happens].tolist(), strict=True)
    after = zip(awake.due.tolist(), awake.masks.tolist(), strict=True)
    seen += [(gate, mask | light.get(gate, 0)) for gate, mask in after]
    assert sorted(seen) == rest(gates, masks, follows, blind)


class Given:
    """Pulses of which it is given which click; the photon number tells those that did not from those that did."""

    def __init__(self, gates, masks, stop):
        self.stop, self.clicks = stop, self.of(gates, masks, 2)

    def of(self, gates, masks, photons):
        zeros = np.zeros(len(gates), np.uint8)
        return Clicks(gates, *[zeros] * 4, masks, zeros + np.uint8(photons), zeros, zeros.astype(np.float32))

    def silent(self, pulses):
        assert not np.isin(pulses, self.clicks.pulse).any()
        return self.of(pulses, np.zeros(len(pulses), np.uint8), 1)

    def sent(self):
        return np.zeros((2, 1), np.int64)


@given(sequences())
def test_records_hold_what_a_loop_over_the_gates_sees_when_an_after_pulse_follows_every_click(sequence):
    gates, masks, _, blind, border = sequence
    g, m = np.array(gates, np.int64), np.array(masks, np.uint8)
    stretches = [Given(g[g < border], m[g < border], border), Given(g[g >= border], m[g >= border], 62)]
    link = resting(dead_time=(blind - 1) * 1e-6, after_pulsing=1 - 1e-12)
    sent = receive(stretches, link, 62, stream(1, "given"))
    seen = [(gate, mask) for gate, mask in rest(gates, masks, [True] * len(gates), blind) if gate < 62]
    assert sent.bob.pulse.tolist() == [gate for gate, _ in seen]
    assert sent.truth.double.tolist() == [mask == 3 for _, mask in seen]
    single = ~sent.truth.double
    assert sent.bob.bit[single].tolist() == [mask - 1 for _, mask in seen if mask != 3]
    assert sent.truth.photons.tolist() == [2 if gate in gates else 1 for gate, _ in seen]


def test_clicks_of_a_crowd_by_hand():
    gates = np.array([2, 3, 5, 6, 9, 20], np.int64)
    happens, awake = detect(gates, np.ones(6, np.uint8), np.zeros(6, bool), 3, Awake())
    assert gates[happens].tolist() == [2, 5, 9, 20]
    assert (awake.ready, awake.due.tolist()) == (23, [])
    follows = np.array([True, False, False, False, False, True])
    happens, awake = detect(gates, np.ones(6, np.uint8), follows, 3, Awake())
    assert gates[happens].tolist() == [2, 9, 20]  # the after-pulse at 5 hides the light at 5 and 6
    assert (awake.ready, awake.due.tolist()) == (26, [5, 23])


@pytest.mark.parametrize("dead_gates", [1, 10, 300])
def test_dead_time_leaves_the_rate_of_a_renewal_process(dead_gates):
    """2e6 pulses, 4.5 sigma; distances are dead_gates + geometric(p): mean rate 1/m, its variance s^2/m^3 per gate."""
    pulses, link = 2_000_000, resting(dead_time=dead_gates * 1e-6)
    sent = transmit(link, pulses, stream(5, "dead", dead_gates))
    p = np.dot(link.source.probabilities, link.gain(link.source.intensities))
    mean, variance = dead_gates + 1 / p, (1 - p) / p**2
    assert abs(sent.bob.pulse.size - pulses / mean) < 4.5 * np.sqrt(pulses * variance / mean**3) + 1
    assert np.diff(sent.bob.pulse).min() == dead_gates + 1
    assert sent.truth.blind > 0
    assert sent.bob.pulse.size / pulses == pytest.approx(p * link.live(p), rel=0.01)


def test_after_pulses_add_their_share_of_clicks_half_of_them_wrong_as_in_lim_2014(monkeypatch):
    """2e7 pulses at 22 % of a click per 100 gates, so that clicks seldom meet; 4.5 sigma of each count."""
    monkeypatch.setattr(clicks, "CLICKS_AT_ONCE", 5000)  # after-pulses must cross the borders of stretches
    link = resting(after_pulsing=0.2)
    link = replace(link, channel=Fibre(km=70.0), detectors=replace(link.detectors, dark_count=1e-5))
    pulses, p = 20_000_000, np.array(link.source.probabilities)
    sent = transmit(link, pulses, stream(5, "after"))
    with_after = np.dot(p, link.gain(link.source.intensities))
    alone = with_after / 1.2
    assert abs(sent.bob.pulse.size - with_after * pulses) < 4.5 * np.sqrt(1.44 * alone * pulses) + 0.01 * alone * pulses
    assert abs(sent.truth.after_pulses - 0.2 * alone * pulses) < 4.5 * np.sqrt(0.2 * alone * pulses)
    sifted = sent.alice.basis == sent.bob.basis
    wrong = np.dot(p, link.error_gain(link.source.intensities)) / with_after
    found = (sent.alice.bit != sent.bob.bit)[sifted].mean()
    assert abs(found - wrong) < 4.5 * np.sqrt(wrong * (1 - wrong) / sifted.sum())
    assert sent.alice.sent.sum() == pulses


def test_after_pulses_fall_on_every_intensity_alike():
    """Where Lim et al. give each intensity those of its own clicks. 2e7 pulses; 4.5 sigma of each count."""
    link = resting(after_pulsing=0.2)
    link = replace(link, channel=Fibre(km=70.0), detectors=replace(link.detectors, dark_count=1e-5))
    sent = transmit(link, 20_000_000, stream(6, "after"))
    alone = link.gain(link.source.intensities) / 1.2
    expected = alone + 0.2 * np.dot(link.source.probabilities, alone)
    sigma = np.sqrt(expected / sent.alice.sent.sum(0))
    assert np.all(np.abs(sent.gains() - expected) < 4.5 * sigma + 0.01 * alone)


def test_dead_time_does_not_make_a_bit_depend_on_the_one_before():
    """With one detector asleep and the other awake it would; 2e6 pulses, 4.5 sigma of a fair coin."""
    sent = transmit(resting(dead_time=10e-6), 2_000_000, stream(7, "dead"))
    near = np.diff(sent.bob.pulse) < 15
    same = (sent.bob.bit[1:] == sent.bob.bit[:-1])[near]
    assert abs(same.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(near.sum())
