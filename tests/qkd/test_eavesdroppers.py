"""Attacks against published error rates, what Eve knows, and whether Alice and Bob can tell."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.eavesdroppers import BeamSplitting, Eavesdropper, InterceptResend, PhotonNumberSplitting
from qfedfm.qkd.link import Detectors, Fibre, Link, PulsedSource, SinglePhotons, gys, textbook
from qfedfm.qkd.outcomes import outcomes
from qfedfm.qkd.photons import most_photons
from qfedfm.qkd.pulses import transmit
from qfedfm.seeds import stream

ALL = (InterceptResend(0.7), InterceptResend(basis="breidbart"), BeamSplitting(), PhotonNumberSplitting())
NO_DECOYS = replace(gys(50), source=PulsedSource(intensities=(0.48,), probabilities=(1.0,), repetition_hz=2e6))
DECOYS = replace(gys(50), source=PulsedSource(intensities=(0.48, 0.05, 0.0), probabilities=(0.5, 0.4, 0.1)))


def sifted(sent):
    return sent.alice.basis == sent.bob.basis


def errors(sent):
    """Return the wrong sifted bits and their share."""
    wrong = (sent.alice.bit != sent.bob.bit)[sifted(sent)]
    return wrong, wrong.mean()


def noisy(misalignment):
    return replace(textbook(), detectors=replace(textbook().detectors, misalignment=misalignment))


@pytest.mark.parametrize("basis", ["random", "breidbart"])
@pytest.mark.parametrize(("fraction", "intrinsic"), [(1.0, 0.0), (0.4, 0.0), (0.1, 0.0), (1.0, 0.04), (1.0, 0.2)])
def test_intercept_resend_errs_on_a_quarter_of_bennett_brassard_1984(fraction, intrinsic, basis):
    """1e6 single photons, 4.5 sigma: fraction / 4 without noise, and 1/4 + e/2 with it."""
    eve = InterceptResend(fraction=fraction, basis=basis)
    expected = intrinsic + fraction * (1 - 2 * intrinsic) / 4
    wrong, found = errors(transmit(noisy(intrinsic), 1_000_000, stream(1, basis), eve))
    assert abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / wrong.size)


def test_intercept_resend_on_weak_pulses_of_gys_at_50_km():
    """2e8 pulses, 4.5 sigma; 1/4 + e/2 for light, 1/2 for darkness, and no intensity's gain is changed."""
    sent = transmit(gys(50), 200_000_000, stream(2, "weak"), InterceptResend())
    wrong, found = errors(sent)
    gain = gys(50).gain(gys(50).source.intensities)
    dark = 1.7e-6 / np.dot(gys(50).source.probabilities, gain)
    expected = (1 - dark) * (0.25 + 0.033 / 2) + dark / 2
    assert abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / wrong.size)
    assert np.all(np.abs(sent.gains() - gain) < 4.5 * np.sqrt(gain / sent.alice.sent.sum(0)))


def test_eve_is_missed_with_probability_three_quarters_to_the_number_of_tested_bits():
    """1e6 single photons in groups of 8 sifted bits, 4.5 sigma: .75^8 = .1001."""
    wrong, _ = errors(transmit(textbook(), 1_000_000, stream(3, "missed"), InterceptResend()))
    groups = wrong[: wrong.size // 8 * 8].reshape(-1, 8)
    missed = ~groups.any(1)
    assert abs(missed.mean() - 0.75**8) < 4.5 * np.sqrt(0.75**8 * (1 - 0.75**8) / missed.size)


def test_the_same_errors_buy_less_certainty_but_more_right_guesses_in_the_breidbart_basis():
    """1e6 single photons, 4.5 sigma: random bases know 1/2 of the bits and guess 3/4, Breidbart knows none, .8536."""
    known, right = {}, {}
    for basis in ("random", "breidbart"):
        sent = transmit(textbook(), 1_000_000, stream(4, basis), InterceptResend(basis=basis))
        kept = sifted(sent)
        known[basis] = (sent.truth.certainty == 1)[kept].mean()
        right[basis] = (sent.truth.guess == sent.alice.bit)[kept].mean()
    sigma = 0.5 / np.sqrt(500_000)
    assert abs(known["random"] - 0.5) < 4.5 * sigma
    assert abs(right["random"] - 0.75) < 4.5 * sigma
    assert known["breidbart"] == 0
    assert abs(right["breidbart"] - np.cos(np.pi / 8) ** 2) < 4.5 * sigma


@pytest.mark.parametrize("eve", ALL, ids=lambda eve: eve.summary)
def test_a_guess_is_right_as_often_as_its_certainty_says(eve):
    """3e6 pulses, 4.5 sigma for every certainty that occurs; a guess of certainty 1 is never wrong."""
    detectors = Detectors(efficiency=0.5, dark_count=0.01, misalignment=0.03)
    link = Link(Fibre(km=20.0), detectors, PulsedSource(intensities=(0.9, 0.2), probabilities=(0.6, 0.4)))
    truth = (sent := transmit(link, 3_000_000, stream(5, "guess"), eve)).truth
    for certainty in np.unique(truth.certainty).tolist():
        right = (truth.guess == sent.alice.bit)[truth.certainty == np.float32(certainty)]
        assert abs(right.mean() - certainty) <= 4.5 * np.sqrt(certainty * (1 - certainty) / right.size) + 1e-7


def test_photon_number_splitting_wins_without_decoys():
    """1e9 pulses at 50 km, where Alice and Bob see gain 1.9250e-3 and QBER .03341 (4.5 sigma) and Eve has the key."""
    sent = transmit(NO_DECOYS, 1_000_000_000, stream(6, "pns"), PhotonNumberSplitting())
    wrong, found = errors(sent)
    assert abs(sent.gains()[0] - 1.9250e-3) < 4.5 * 1.4e-6
    assert abs(found - 0.03341) < 4.5 * np.sqrt(0.0334 / wrong.size)
    known = (sent.truth.certainty == 1)[sifted(sent)]
    assert known.mean() > 0.998  # all but dark counts
    assert np.array_equal(sent.truth.guess[sent.truth.certainty == 1], sent.alice.bit[sent.truth.certainty == 1])


def vacuum_and_weak(sent):
    """Return the bound on the single-photon yield of Ma et al. 2005 from what Alice and Bob count."""
    (mu, nu, _), (q_mu, q_nu, y0) = DECOYS.source.intensities, sent.gains()
    weak, signal = q_nu * np.exp(nu), q_mu * np.exp(mu) * nu**2 / mu**2
    return mu / (mu * nu - nu**2) * (weak - signal - (mu**2 - nu**2) / mu**2 * y0)


def test_photon_number_splitting_loses_with_decoys():
    """1e9 pulses at 50 km: the decoy bound finds the single photons when there is no Eve, and none when there is."""
    honest = transmit(DECOYS, 1_000_000_000, stream(7, "honest"))
    split = transmit(DECOYS, 1_000_000_000, stream(7, "split"), PhotonNumberSplitting())
    single = float(DECOYS.photon_yield(1))
    assert 0.9 * single < vacuum_and_weak(honest) < single
    assert vacuum_and_weak(split) < 0.001 * single
    assert split.gains()[1] < 0.2 * honest.gains()[1]
    assert split.bob.pulse.size == pytest.approx(honest.bob.pulse.size, rel=0.01)  # the counts alone do not tell


def test_no_decoy_bound_exceeds_the_truth_about_single_photons():
    """1e9 pulses, the bound against the clicks that really came of one photon; Eve or none, 4.5 sigma of the gains."""
    for eve in (None, BeamSplitting(), PhotonNumberSplitting(), InterceptResend(0.2)):
        sent = transmit(DECOYS, 1_000_000_000, stream(8, "truth"), eve)
        of_signal = sent.alice.intensity == 0
        singles = sent.alice.sent.sum(0)[0] * 0.48 * np.exp(-0.48)
        true = (sent.truth.photons[of_signal] == 1).sum() / singles
        noise = 0.48 / (0.48 * 0.05 - 0.05**2) * np.sqrt(sent.gains()[1] / sent.alice.sent.sum(0)[1])
        assert vacuum_and_weak(sent) < true + 4.5 * noise


def marginals(table):
    """Return P(intensity, bases, bit, mask) of a table."""
    index = np.ravel_multi_index(
        (table.intensity, table.alice_basis, table.bob_basis, table.alice_bit, table.mask), (4, 2, 2, 2, 4)
    )
    return np.bincount(index, table.probability, minlength=4 * 2 * 2 * 2 * 4)


@given(km=st.floats(0, 150), signal=st.floats(0.05, 2), weak=st.floats(0.01, 0.9))
def test_beam_splitting_cannot_be_seen_and_leaves_the_single_photons(km, signal, weak):
    source = PulsedSource(intensities=(signal, weak * signal, 0.0), probabilities=(0.5, 0.3, 0.2))
    link = replace(gys(km), source=source)
    table = outcomes(link, BeamSplitting())
    assert marginals(table) == pytest.approx(marginals(outcomes(link)), abs=1e-14)
    known = table.certainty == 1
    of_signal = known & (table.intensity == 0)
    lone = table.probability[of_signal & (table.photons == 1) & (table.mask > 0)].sum()
    hers = 0.5 * signal * np.exp(-signal) * (1 - link.channel.transmittance())
    assert lone == pytest.approx(hers * (1 - (1 - 0.85e-6) ** 2), abs=1e-15)  # she has it, so Bob's click was darkness
    stored = table.probability[of_signal].sum() / 0.5
    assert stored == pytest.approx(1 - np.exp(-signal * (1 - link.channel.transmittance())), abs=1e-12)


@given(km=st.floats(0, 200), signal=st.floats(0.05, 2), decoys=st.booleans(), single=st.booleans())
def test_photon_number_splitting_keeps_the_click_rate_at_any_loss(km, signal, decoys, single):
    source = PulsedSource(intensities=(signal,), probabilities=(1.0,))
    if decoys:
        source = PulsedSource(intensities=(signal, 0.3 * signal, 0.0), probabilities=(0.5, 0.3, 0.2))
    link = replace(gys(km), source=SinglePhotons() if single else source)
    usual, split = outcomes(link), outcomes(link, PhotonNumberSplitting())
    clicks = [table.probability[table.mask > 0].sum() for table in (usual, split)]
    assert clicks[1] == pytest.approx(clicks[0], rel=1e-9)
    if single:
        assert not (split.certainty == 1).any()


@given(km=st.floats(0, 150), signal=st.floats(0.05, 3), fraction=st.floats(0, 1))
def test_whatever_eve_does_she_does_something_with_every_pulse(km, signal, fraction):
    link = replace(gys(km), source=PulsedSource(intensities=(signal,), probabilities=(1.0,)))
    for eve in (*ALL, InterceptResend(fraction)):
        assert isinstance(eve, Eavesdropper)
        branches = eve.branches(link, most_photons(link.source))
        assert all((branch.passing >= -1e-15).all() for branch in branches)
        assert sum(branch.passing.sum(1) for branch in branches) == pytest.approx(1)
        assert outcomes(link, eve).probability.sum() == pytest.approx(1)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), "half"])
def test_a_fraction_is_between_zero_and_one(fraction):
    with pytest.raises(ConfigurationError, match=r"InterceptResend\.fraction"):
        InterceptResend(fraction=fraction)


def test_summaries_say_what_eve_does():
    assert [eve.summary for eve in ALL] == [
        "intercept-resend on 70 % of the pulses in random bases",
        "intercept-resend on 100 % of the pulses in the Breidbart basis",
        "beam splitting of all that the fibre would have lost",
        "photon-number splitting at an unchanged click rate",
    ]
