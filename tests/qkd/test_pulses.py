"""The event-driven simulation against published figures, theory, a photon-by-photon simulation and the dense one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import send
from scipy.stats import chi2, kstest

from qfedfm.errors import ConfigurationError
from qfedfm.qkd import clicks
from qfedfm.qkd.clicks import click_positions
from qfedfm.qkd.dense import tally, transmit_densely
from qfedfm.qkd.eavesdroppers import BeamSplitting, InterceptResend, PhotonNumberSplitting
from qfedfm.qkd.link import Detectors, Fibre, Link, PulsedSource, SatellitePass, SinglePhotons, gys, lim, textbook
from qfedfm.qkd.outcomes import outcomes
from qfedfm.qkd.pulses import transmit
from qfedfm.seeds import stream

ONE_INTENSITY = PulsedSource(intensities=(0.48,), probabilities=(1.0,), repetition_hz=2e6)
NOISY = Detectors(efficiency=0.6, dark_count=0.02, misalignment=0.05)
DECOYS = PulsedSource(intensities=(0.9, 0.3, 0.0), probabilities=(0.5, 0.3, 0.2))
BRIGHT = Link(channel=Fibre(km=10.0), detectors=NOISY, source=DECOYS, basis_probability=0.7)
SINGLE = replace(BRIGHT, source=SinglePhotons())
LOSSY = Link(Fibre(km=60.0), NOISY, PulsedSource(intensities=(0.9,), probabilities=(1.0,)), 0.7)

ATTACKS = {
    "nobody": (BRIGHT, None),
    "nobody, single photons": (SINGLE, None),
    "intercept-resend": (BRIGHT, InterceptResend()),
    "intercept-resend, a part": (BRIGHT, InterceptResend(fraction=0.3)),
    "breidbart": (BRIGHT, InterceptResend(fraction=0.8, basis="breidbart")),
    "intercept-resend, single photons": (SINGLE, InterceptResend(fraction=0.5)),
    "beam splitting": (BRIGHT, BeamSplitting()),
    "photon-number splitting": (LOSSY, PhotonNumberSplitting()),
}


def chi_square(found, probability):
    """Return the p-value of counts `found` of which each has expectation sum(found) * probability; rare ones merged."""
    expected = probability / probability.sum() * found.sum()
    rare = expected < 10
    found, expected = (np.append(part[~rare], part[rare].sum()) for part in (found, expected))
    met = expected > 0
    assert not found[~met].any()
    return chi2.sf((((found - expected) ** 2)[met] / expected[met]).sum(), met.sum() - 1)


def cells(mask, intensity, alice_basis, alice_bit, bob_basis, photons=0, known=0, weights=None):
    index = np.ravel_multi_index(
        np.broadcast_arrays(intensity, alice_basis, alice_bit, bob_basis, mask, photons, np.asarray(known, int)),
        (3, 2, 2, 2, 4, 3, 2),
    )
    return np.bincount(index, weights, minlength=3 * 2 * 2 * 2 * 4 * 3 * 2)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_table_is_what_pulses_do_photon_by_photon(name):
    """1e6 pulses; chi-square over all classes, refused below 1e-4."""
    link, eve = ATTACKS[name]
    one = send(link, 1_000_000, stream(1, "one by one", name), eve)
    table = outcomes(link, eve)
    assert table.probability.sum() == pytest.approx(1, abs=1e-12)
    found = cells(one.mask, one.intensity, one.alice_basis, one.alice_bit, one.bob_basis, one.photons, one.known)
    expected = cells(
        table.mask,
        table.intensity,
        table.alice_basis,
        table.alice_bit,
        table.bob_basis,
        table.photons,
        table.certainty == 1,
        weights=table.probability,
    )
    assert chi_square(found, expected) > 1e-4


@pytest.mark.parametrize("name", ATTACKS)
def test_clicks_have_the_distribution_of_the_table(name, monkeypatch):
    """2e6 pulses in some forty stretches; chi-square over all classes, refused below 1e-4."""
    monkeypatch.setattr(clicks, "CLICKS_AT_ONCE", 20_000)
    link, eve = ATTACKS[name]
    sent = transmit(link, 2_000_000, stream(2, name), eve)
    alice, bob, truth = sent.alice, sent.bob, sent.truth
    mask = np.where(truth.double, 3, 1 + bob.bit)
    found = cells(
        mask, alice.intensity, alice.basis, alice.bit, bob.basis, truth.photons, truth.certainty == np.float32(1)
    )
    table = outcomes(link, eve)
    loud = table.where(table.mask > 0)
    expected = cells(
        loud.mask,
        loud.intensity,
        loud.alice_basis,
        loud.alice_bit,
        loud.bob_basis,
        loud.photons,
        loud.certainty == 1,
        weights=loud.probability,
    )
    assert chi_square(found, expected) > 1e-4
    chance = loud.probability.sum()
    assert abs(bob.pulse.size - 2e6 * chance) < 4.5 * np.sqrt(2e6 * chance * (1 - chance))
    of_sent = np.outer([link.basis_probability, 1 - link.basis_probability], getattr(link.source, "probabilities", [1]))
    assert chi_square(alice.sent.ravel(), of_sent.ravel()) > 1e-4
    assert np.diff(bob.pulse).min() > 0
    assert bob.pulse is alice.pulse or np.array_equal(bob.pulse, alice.pulse)


@pytest.mark.parametrize("link", [BRIGHT, SINGLE, gys(0)], ids=["bright", "single photons", "gys"])
def test_every_pulse_drawn_agrees_with_the_table(link):
    """3e6 pulses, 64 to a word, the last word not full; chi-square, refused below 1e-4."""
    sent = transmit_densely(link, 3_000_017, stream(3, "dense"))
    alice, bob = sent.alice, sent.bob
    table = outcomes(link)
    loud = table.where(table.mask > 0)
    found = cells(np.where(sent.truth.double, 3, 1 + bob.bit), alice.intensity, alice.basis, alice.bit, bob.basis)
    expected = cells(
        loud.mask, loud.intensity, loud.alice_basis, loud.alice_bit, loud.bob_basis, weights=loud.probability
    )
    assert chi_square(found, expected) > 1e-4
    chance = loud.probability.sum()
    assert abs(bob.pulse.size - 3_000_017 * chance) < 4.5 * np.sqrt(3e6 * chance * (1 - chance))
    assert alice.sent.sum() == 3_000_017
    assert bob.pulse.max() < 3_000_017


def test_counts_of_planes_are_those_of_the_records():
    counted = tally(BRIGHT, 300_000, stream(4, "dense"))
    sent = transmit_densely(BRIGHT, 300_000, stream(4, "dense"))
    alice, bob = sent.alice, sent.bob
    sifted, wrong = alice.basis == bob.basis, (alice.bit != bob.bit) & ~sent.truth.double

    def count(which):
        return np.bincount(3 * alice.basis[which].astype(int) + alice.intensity[which], minlength=6).reshape(2, 3)

    assert np.array_equal(counted.sent, alice.sent)
    assert np.array_equal(counted.clicks, count(sifted | ~sifted))
    assert np.array_equal(counted.sifted, count(sifted))
    assert np.array_equal(counted.wrong, count(sifted & wrong))
    assert np.array_equal(counted.double, count(sifted & sent.truth.double))


@pytest.mark.parametrize("transmission", [transmit, transmit_densely])
def test_dead_time_and_after_pulses_act_alike_on_both_simulations(transmission):
    """1e6 pulses against a fifth of 5e6, 4.5 sigma of counts without dead time, which vary more."""
    link = replace(BRIGHT, detectors=replace(NOISY, dead_time=3e-9, after_pulsing=0.1))
    other = transmit(link, 5_000_000, stream(8, "other"))
    sent = transmission(link, 1_000_000, stream(8, "acting"))
    assert abs(sent.bob.pulse.size - other.bob.pulse.size / 5) < 4.5 * np.sqrt(1.2 * sent.bob.pulse.size)
    assert abs(sent.truth.after_pulses - other.truth.after_pulses / 5) < 4.5 * np.sqrt(1.2 * sent.truth.after_pulses)
    assert np.diff(sent.bob.pulse).min() == 4
    assert sent.alice.sent.sum() == 1_000_000


def test_gys_at_50_km_has_the_gain_and_error_rate_of_ma_2005():
    """1e9 pulses, 4 sigma: gain 1.9250e-3 (sigma 1.4e-6) and QBER .03341 (sigma 1.8e-4)."""
    sent = transmit(replace(gys(50), source=ONE_INTENSITY), 1_000_000_000, stream(1, "gys"))
    assert abs(sent.gains()[0] - 1.9250e-3) < 4 * 1.4e-6
    sifted = sent.alice.basis == sent.bob.basis
    assert abs((sent.alice.bit != sent.bob.bit)[sifted].mean() - 0.03341) < 4 * 1.8e-4


@pytest.mark.parametrize("link", [gys(50), replace(lim(50), detectors=replace(lim(50).detectors, after_pulsing=0.0))])
def test_each_intensity_has_the_gain_of_theory(link):
    """1e9 pulses, 4.5 sigma."""
    sent = transmit(link, 1_000_000_000, stream(2, "gains"))
    gain = link.gain(link.source.intensities)
    assert np.all(np.abs(sent.gains() - gain) < 4.5 * np.sqrt(gain / sent.alice.sent.sum(0)))
    wrong = (sent.alice.basis == sent.bob.basis) & (sent.alice.bit != sent.bob.bit)
    found = np.bincount(sent.alice.intensity[wrong], minlength=3)
    p = link.basis_probability
    expected = link.error_gain(link.source.intensities) * sent.alice.sent.sum(0) * (p**2 + (1 - p) ** 2)
    assert np.all(np.abs(found - expected) < 4.5 * np.sqrt(expected) + 1)


@given(
    km=st.floats(0, 200),
    efficiency=st.floats(0.01, 1),
    dark=st.floats(0, 1e-3),
    misalignment=st.floats(0, 0.2),
    intensity=st.floats(0.01, 5),
    p=st.floats(0.05, 0.95),
)
def test_the_table_is_the_theory_but_for_darkness_that_meets_light(km, efficiency, dark, misalignment, intensity, p):
    detectors = Detectors(efficiency=efficiency, dark_count=dark, misalignment=misalignment)
    link = Link(Fibre(km), detectors, PulsedSource(intensities=(intensity,), probabilities=(1.0,)), p)
    table = outcomes(link)
    sifted = table.alice_basis == table.bob_basis
    click = table.probability[sifted & (table.mask > 0)].sum() / (p**2 + (1 - p) ** 2)
    share = np.where(table.mask == 3, 0.5, table.mask == 2 - table.alice_bit) * (table.mask > 0)
    error = (table.probability * share)[sifted].sum() / (p**2 + (1 - p) ** 2)
    assert click == pytest.approx(float(link.gain(intensity)), abs=dark**2 + 1e-12)
    assert error == pytest.approx(float(link.error_gain(intensity)), abs=dark * (click + dark) + 1e-12)
    for photons in (0, 1):
        of_number = table.photons == photons
        clicks = table.probability[of_number & (table.mask > 0)].sum() / table.probability[of_number].sum()
        assert clicks == pytest.approx(float(link.photon_yield(photons)), abs=dark**2 + 1e-9)


def test_a_pass_is_the_sum_of_its_stretches():
    """4e6 pulses, 4.5 sigma; the loss changes at 1/4 of the pass."""
    link = replace(BRIGHT, channel=SatellitePass(profile=((10.0, 3.0), (30.0, 10.0))))
    sent = transmit(link, 4_000_000, stream(9, "pass"))
    for (share, part), inside in zip(
        link.moments(), (sent.bob.pulse < 1_000_000, sent.bob.pulse >= 1_000_000), strict=True
    ):
        chance = np.dot(DECOYS.probabilities, part.gain(DECOYS.intensities)) - 0.02**2 / 2
        expected = share * 4_000_000 * chance
        assert abs(inside.sum() - expected) < 4.5 * np.sqrt(expected) + share * 4_000_000 * 0.02**2
    assert sent.alice.sent.sum() == 4_000_000


def test_the_textbook_link_loses_and_errs_nothing():
    sent = transmit(textbook(), 10_000, stream(1, "textbook"))
    assert np.array_equal(sent.bob.pulse, np.arange(10_000))
    assert sent.qber(0) == sent.qber(1) == 0
    assert sent.alice.sent.sum() == 10_000


def test_a_dark_link_clicks_never_and_has_no_error_rate():
    link = Link(Fibre(km=20_000.0), Detectors(efficiency=0.1))
    sent = transmit(link, 1_000_000_000, stream(1, "dark"))
    assert sent.bob.pulse.size == 0
    assert sent.alice.sent.sum() == 1_000_000_000
    assert np.isnan(sent.qber(0))
    assert sent.gains().tolist() == [0, 0, 0]


@pytest.mark.parametrize("pulses", [0, -5])
def test_no_pulses_are_refused(pulses):
    with pytest.raises(ConfigurationError, match=f"at least one pulse, got {pulses}"):
        transmit(textbook(), pulses, stream(1, "none"))


def test_a_seed_gives_one_transmission():
    first, again, other = (transmit(BRIGHT, 10_000, stream(seed, "seed")) for seed in (1, 1, 2))
    assert np.array_equal(first.bob.pulse, again.bob.pulse)
    assert np.array_equal(first.bob.bit, again.bob.bit)
    assert not np.array_equal(first.bob.pulse, other.bob.pulse)


@given(start=st.integers(0, 10**12), length=st.integers(1, 5000), chance=st.floats(0, 1), seed=st.integers(0, 99))
def test_positions_are_pulses_of_the_stretch_each_once(start, length, chance, seed):
    found = click_positions(start, start + length, chance, stream(seed, "positions"))
    assert found.dtype == np.int64
    assert np.all((found >= start) & (found < start + length))
    assert np.all(np.diff(found) > 0)
    if chance > 1 - 1e-15:
        assert found.size == length


@pytest.mark.parametrize("chance", [1e-7, 1e-3, 0.3, 0.97])
def test_positions_are_uniform_and_their_number_is_binomial(chance):
    """About 2e5 clicks, 4.5 sigma; Kolmogorov-Smirnov refused below 1e-4; distances against the geometric law."""
    pulses = int(2e5 / chance)
    found = click_positions(0, pulses, chance, stream(3, "uniform"))
    assert abs(found.size - pulses * chance) < 4.5 * np.sqrt(pulses * chance * (1 - chance))
    assert kstest(found / pulses, "uniform").pvalue > 1e-4
    gaps = np.minimum(np.diff(found), 20)
    law = np.append(chance * (1 - chance) ** np.arange(19), (1 - chance) ** 19)
    assert chi_square(np.bincount(gaps, minlength=21)[1:], law) > 1e-4
