"""Decoy-state BB84: the published GYS numbers, bounds that hold whatever Eve does, and the oracle."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.decoy_bb84 import (
    DecoyBB84,
    FiniteDecoyBB84,
    InfiniteDecoyBB84,
    NoDecoyBB84,
    best_signal,
    single_photon_bounds,
)
from qfedfm.qkd.link import PulsedSource, gys, lim, satellite, textbook
from qfedfm.qkd.single_photon import SinglePhotonBB84


def vacuum_weak(km, nu):
    source = PulsedSource((0.48, nu, 0.0), (0.8, 0.1, 0.1), 2e6)
    return DecoyBB84(replace(gys(km), source=source), f_ec=1.22)


def cut_off(rate, low, high):
    """Return where the rate ends, to a metre."""
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > 0 else (low, middle)
    return low


@pytest.mark.parametrize(("km", "rate"), [(0.0, 2.5546e-3), (50.0, 2.2260e-4), (100.0, 1.7184e-5), (140.0, 2.465e-7)])
def test_infinite_decoy_rate_of_gys_lo_ma_chen_2005(km, rate):
    assert InfiniteDecoyBB84(gys(km), f_ec=1.22).rate().bits_per_pulse == pytest.approx(rate, rel=2e-4)


def test_infinite_decoy_cut_off_of_gys_lo_ma_chen_2005():
    protocol = InfiniteDecoyBB84(gys(0.0), f_ec=1.22)
    assert cut_off(lambda km: protocol.at(km).rate().bits_per_pulse, 100, 160) == pytest.approx(142.01, abs=0.01)


@pytest.mark.parametrize(("nu", "km"), [(0.05, 140.62), (0.1, 139.10)])
def test_vacuum_weak_cut_off_of_gys_ma_2005(nu, km):
    assert cut_off(lambda x: vacuum_weak(x, nu).rate().bits_per_pulse, 100, 160) == pytest.approx(km, abs=0.01)


def test_no_decoy_cut_off_of_gys_gllp():
    protocol = NoDecoyBB84(gys(0.0), f_ec=1.22)
    assert cut_off(lambda km: protocol.at(km).optimised().rate().bits_per_pulse, 30, 50) == pytest.approx(40.2, abs=0.1)


@pytest.mark.parametrize(("f_ec", "mu"), [(1.22, 0.479), (1.0, 0.544)])
def test_best_signal_of_gys_ma_2005(f_ec, mu):
    assert best_signal(f_ec, 0.033) == pytest.approx(mu, abs=5e-4)


def test_best_signal_is_where_the_optimiser_goes():
    found = InfiniteDecoyBB84(gys(50.0), f_ec=1.22).optimised().link.source.intensities[0]
    assert found == pytest.approx(best_signal(1.22, 0.033), rel=0.02)  # the formula neglects darkness and eta mu
    assert best_signal(1.22, 0.25) == 0


def test_deficit_of_y1_and_excess_of_e1_at_40_km_ma_2005():
    bound, truth = vacuum_weak(40.0, 0.12).rate(), InfiniteDecoyBB84(gys(40.0)).rate()
    assert 1 - bound.single_yield / truth.single_yield == pytest.approx(0.0351, abs=5e-5)
    assert bound.single_error / truth.single_error - 1 == pytest.approx(0.1678, abs=5e-5)


@pytest.mark.parametrize("decoys", [(0.05, 0.0), (0.12, 0.0), (0.2, 0.05)])
@pytest.mark.parametrize("km", [0.0, 60.0, 130.0])
def test_bounds_and_rate_agree_with_the_oracle(km, decoys):
    from qkd import _core as oracle

    mu = (0.48, *decoys)
    link = replace(gys(km), source=PulsedSource(mu, (0.8, 0.1, 0.1)))
    gain, wrong = link.gain(mu), link.error_gain(mu)
    pairs = [float(x) for pair in zip(gain, wrong / gain, strict=True) for x in pair]
    y1, e1, q1 = oracle.decoy_bounds(*mu, *pairs)
    _, ours, error = single_photon_bounds(mu, gain, wrong)
    assert ours == pytest.approx(y1, rel=1e-9)
    assert error == pytest.approx(e1, rel=1e-9)
    rate = oracle.bb84_rate(0.5, pairs[0], pairs[1], q1, e1, 1.22)
    assert DecoyBB84(link, f_ec=1.22).rate().bits_per_pulse == pytest.approx(max(0, rate), rel=1e-9, abs=1e-18)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=12, max_size=12),
    st.floats(0.0, 0.2),
    st.floats(0.01, 0.3),
    st.floats(0.01, 0.5),
)
def test_bounds_hold_whatever_eve_does_to_each_photon_number(channel, lowest, gap, signal):
    yields, errors = np.array(channel).T
    weak = lowest + gap
    mu = np.array([weak + lowest + signal, weak, lowest])
    weight = poisson.pmf(np.arange(12), mu[:, None])  # the source never sends more photons: Eve may have that too
    q, eq = weight @ yields, weight @ (yields * errors)
    y0, y1, e1 = single_photon_bounds(mu, q, eq)
    assert y0 <= yields[0] + 1e-7
    assert y1 <= yields[1] + 1e-6
    assert (min(0.5, errors[1]) - e1) * y1 <= 1e-6


@given(st.floats(0, 150), st.floats(0.02, 0.2), st.floats(0.3, 0.8))
def test_fewer_decoys_never_give_more(km, nu, mu):
    link = replace(gys(km), source=PulsedSource((mu, nu, 0.0), (0.8, 0.1, 0.1)))
    rates = [P(link, f_ec=1.22).rate().bits_per_pulse for P in (NoDecoyBB84, DecoyBB84, InfiniteDecoyBB84)]
    assert rates == sorted(rates)


@pytest.mark.parametrize(("km", "length"), [(0.0, 1670912), (50.0, 1518857)])
def test_finite_length_lim_2014(km, length):
    assert DecoyBB84(lim(km)).finite().length == length


def test_a_finite_rate_is_the_length_over_the_pulses_it_takes():
    protocol = DecoyBB84(lim(50.0))
    link = protocol.link
    n = sum(p * float(link.gain(mu)) for p, mu in zip((0.6, 0.25, 0.15), (0.5, 0.15, 2e-4), strict=True))
    rate = FiniteDecoyBB84(protocol).rate()
    assert protocol.pulses() == pytest.approx(1e7 / (0.85**2 * n))
    assert rate.bits_per_pulse == pytest.approx(1518857 * 0.85**2 * n / 1e7)
    assert rate.gain == pytest.approx(n)


def test_a_longer_block_comes_nearer_to_the_endless_one():
    blocks = [FiniteDecoyBB84(DecoyBB84(lim(50.0), block=10**k)).rate().bits_per_pulse for k in range(4, 13)]
    assert blocks == sorted(blocks)
    assert blocks[0] == 0
    assert blocks[-1] < InfiniteDecoyBB84(lim(50.0)).rate().bits_per_pulse


@given(st.floats(0, 120), st.integers(3, 12))
def test_a_finite_key_is_no_more_than_the_channel_truly_holds(km, digits):
    protocol = DecoyBB84(lim(km), block=10**digits)
    key, link = protocol.finite(), protocol.link
    mu, p = np.array(link.source.intensities), np.array(link.source.probabilities)
    weight = protocol.pulses() * link.basis_probability**2 * poisson.pmf(np.arange(2)[:, None], mu) @ p
    s0, s1 = weight * link.photon_yield([0, 1])
    assert key.s0 <= s0 * (1 + 1e-9)
    assert key.s1 <= s1 * (1 + 1e-9)
    assert key.phase_error >= min(0.5, float(link.photon_error(1) / link.photon_yield(1)))


def test_optimising_a_finite_key_pays():
    before = FiniteDecoyBB84(DecoyBB84(lim(50.0)))
    after = before.optimised()
    assert after.rate().bits_per_pulse > 1.25 * before.rate().bits_per_pulse
    assert after.protocol.link.source.intensities[2] == 2e-4
    assert after.protocol.block == before.protocol.block


def test_optimising_from_nowhere_stays_there():
    dark = FiniteDecoyBB84(DecoyBB84(lim(250.0)))
    assert dark.optimised().rate().bits_per_pulse == dark.rate().bits_per_pulse == 0
    assert DecoyBB84(gys(200.0)).optimised() == DecoyBB84(gys(200.0))


def test_a_pass_is_the_time_average_of_its_rates():
    protocol = DecoyBB84(satellite())
    parts = [(share, DecoyBB84(link).rate()) for share, link in protocol.link.moments()]
    rate = protocol.rate()
    assert rate.bits_per_pulse == pytest.approx(sum(share * part.bits_per_pulse for share, part in parts))
    assert rate.gain == pytest.approx(sum(share * part.gain for share, part in parts))
    assert min(part.qber for _, part in parts) < rate.qber < max(part.qber for _, part in parts)


def test_dead_time_takes_its_share_of_the_rate():
    blind = replace(gys(0.0), detectors=replace(gys(0.0).detectors, dead_time=1e-5))
    fast, slow = InfiniteDecoyBB84(gys(0.0)).rate(), InfiniteDecoyBB84(blind).rate()
    assert slow.bits_per_pulse / fast.bits_per_pulse == pytest.approx(1 / (1 + 20 * fast.gain))
    assert slow.qber == fast.qber
    fast, slow = DecoyBB84(gys(0.0)), DecoyBB84(blind)
    clicks = float(np.dot((0.8, 0.1, 0.1), gys(0.0).gain((0.48, 0.05, 0.0))))
    assert slow.pulses() / fast.pulses() == pytest.approx(1 + 20 * clicks)
    assert slow.finite().surplus == pytest.approx(fast.finite().surplus)


@pytest.mark.parametrize("intensities", [(0.5,), (0.5, 0.1), (0.5, 0.4, 0.2), (0.5, 0.3, 0.1, 0.0)])
def test_intensities_for_which_the_bounds_do_not_hold_are_refused(intensities):
    source = PulsedSource(intensities, (1 / len(intensities),) * len(intensities))
    with pytest.raises(ConfigurationError, match="three intensities"):
        DecoyBB84(replace(gys(0.0), source=source))


@pytest.mark.parametrize("protocol", [DecoyBB84, InfiniteDecoyBB84, NoDecoyBB84])
def test_single_photons_have_no_decoys(protocol):
    with pytest.raises(ConfigurationError, match="weak coherent pulses"):
        protocol(textbook())


def test_perfect_single_photons_keep_what_is_sifted():
    assert SinglePhotonBB84(textbook()).rate().bits_per_pulse == 0.5
