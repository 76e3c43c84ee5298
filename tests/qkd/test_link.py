"""The channel model: consistent with itself, with the published one, and refusing what is no link."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.link import (
    Detectors,
    Fibre,
    Link,
    PulsedSource,
    SatellitePass,
    SinglePhotons,
    gys,
    lim,
    metro,
    satellite,
    textbook,
)

DETECTORS = st.builds(
    Detectors,
    efficiency=st.floats(0.01, 1),
    dark_count=st.floats(0, 0.1),
    after_pulsing=st.floats(0, 0.1),
    misalignment=st.floats(0, 0.3),
)
LINKS = st.builds(Link, channel=st.builds(Fibre, km=st.floats(0, 200)), detectors=DETECTORS)


def test_gys_gain_and_qber_at_50_km():
    link = gys(50.0)
    assert float(link.gain(0.48)) == pytest.approx(1.9250e-3, rel=1e-4)
    assert float(link.error_gain(0.48) / link.gain(0.48)) == pytest.approx(0.03341, abs=5e-6)


def test_gys_gain_and_qber_agree_with_the_oracle():
    from qkd import _core as oracle

    for km in (0.0, 40.0, 120.0):
        link = gys(km)
        gain, qber = oracle.decoy_gain(0.48, link.transmittance(), 1.7e-6, 0.033)
        assert float(link.gain(0.48)) == pytest.approx(gain, rel=1e-12)
        assert float(link.error_gain(0.48)) == pytest.approx(gain * qber, rel=1e-12)


@given(LINKS, st.floats(0.01, 2))
def test_gains_are_the_poisson_means_of_what_each_photon_number_gives(link, intensity):
    n = np.arange(60)
    weight = poisson.pmf(n, intensity)
    assert float(link.gain(intensity)) == pytest.approx(float(weight @ link.photon_yield(n)), rel=1e-9)
    assert float(link.error_gain(intensity)) == pytest.approx(float(weight @ link.photon_error(n)), rel=1e-9, abs=1e-15)


@given(LINKS, st.integers(0, 10))
def test_no_photon_number_is_worse_than_chance(link, n):
    assert 0 <= link.photon_error(n) <= link.photon_yield(n) / 2 + 1e-15


def test_a_textbook_link_clicks_always_and_never_errs():
    link = textbook()
    assert link.source == SinglePhotons()
    assert (float(link.photon_yield(1)), float(link.photon_error(1))) == (1.0, 0.0)
    assert float(link.photon_yield(0)) == 0.0


def test_loss_is_in_decibels():
    assert Fibre(km=50.0).transmittance() == pytest.approx(0.1)
    assert Fibre(km=0.0, fixed_db=3.0).transmittance() == pytest.approx(0.501187, rel=1e-6)
    assert lim(50.0).transmittance() == pytest.approx(0.01)
    assert lim(0.0).at(50) == lim(50.0)


def test_a_pass_is_the_mean_over_time_of_its_stretches():
    two = SatellitePass(((30.0, 10.0), (10.0, 20.0)))
    assert two.seconds == 40
    assert two.transmittance() == pytest.approx(0.75 * 0.1 + 0.25 * 0.01)
    link = replace(metro(1.0), channel=two)
    assert [(share, part.transmittance()) for share, part in link.moments()] == [
        (0.75, pytest.approx(0.06)),
        (0.25, pytest.approx(0.006)),
    ]


def test_a_pass_has_no_distance_and_no_single_gain():
    with pytest.raises(ConfigurationError, match="no fibre length"):
        satellite().at(10)
    with pytest.raises(ConfigurationError, match="moments"):
        satellite().gain(0.5)


def test_the_satellite_sifts_about_what_micius_did():
    # Liao et al. 2017: 1.67 Mbit of signal in 273 s at 1.1 % errors; the preset is approximate, hence a third
    link = satellite()
    signal = 273 * 1e8 * 0.5 * 0.5  # pulses, times the share of signals, times that of equal bases
    clicks = signal * sum(share * float(part.gain(0.8)) for share, part in link.moments())
    wrong = signal * sum(share * float(part.error_gain(0.8)) for share, part in link.moments())
    assert clicks == pytest.approx(1.67e6, rel=1 / 3)
    assert wrong / clicks == pytest.approx(0.011, rel=1 / 3)
    assert link.channel.seconds == pytest.approx(273)


def test_dead_time_blinds_whole_gates():
    link = replace(metro(0.0), detectors=Detectors(efficiency=0.5, dead_time=4e-9))
    assert link.dead_gates == 10
    assert link.live(0.1) == 0.5
    generator = np.random.default_rng(7)
    blind = live = clicks = 0
    for click in generator.random(200_000) < 0.1:
        if blind:
            blind -= 1
            continue
        live += 1
        if click:
            clicks, blind = clicks + 1, 10
    assert live / 200_000 == pytest.approx(0.5, abs=0.005)  # five sigmas of some 10,000 clicks


@pytest.mark.parametrize(
    ("intensities", "probabilities"),
    [
        ((), ()),
        ((0.1, 0.5), (0.5, 0.5)),
        ((0.5, 0.5), (0.5, 0.5)),
        ((0.0,), (1.0,)),
        ((0.5, 0.1), (1.0,)),
        ((0.5, 0.1), (0.5, 0.4)),
        ((0.5, 0.1), (1.0, 0.0)),
        ((float("nan"),), (1.0,)),
    ],
)
def test_a_source_that_cannot_be_is_refused(intensities, probabilities):
    with pytest.raises(ConfigurationError, match="PulsedSource"):
        PulsedSource(intensities, probabilities)


def test_detectors_that_err_more_than_chance_are_refused():
    with pytest.raises(ConfigurationError, match=r"at most 0\.5"):
        Detectors(efficiency=0.5, dark_count=0.3, misalignment=0.3)
    with pytest.raises(ConfigurationError, match="efficiency"):
        Detectors(efficiency=1.5)
    with pytest.raises(ConfigurationError, match="profile"):
        SatellitePass(())
