"""Rates of all protocols together: none passes PLOB, curves and frames hold what the protocols say."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.b92 import B92
from qfedfm.qkd.decoy_bb84 import DecoyBB84, FiniteDecoyBB84, InfiniteDecoyBB84, NoDecoyBB84
from qfedfm.qkd.entangled import E91, Bbm92
from qfedfm.qkd.entropy import plob
from qfedfm.qkd.gg02 import Gg02
from qfedfm.qkd.link import Detectors, Fibre, Link, PulsedSource, gys, metro, satellite
from qfedfm.qkd.protocol import QkdProtocol
from qfedfm.qkd.rates import rate_curve
from qfedfm.qkd.sarg04 import Sarg04
from qfedfm.qkd.single_photon import SinglePhotonBB84
from qfedfm.qkd.six_state import SixState

LINKS = st.builds(
    Link,
    channel=st.builds(Fibre, km=st.floats(0, 200), db_per_km=st.floats(0.1, 0.5), fixed_db=st.floats(0, 5)),
    detectors=st.builds(
        Detectors,
        efficiency=st.floats(0.02, 1),
        dark_count=st.floats(0, 1e-3),
        dead_time=st.sampled_from([0, 1e-8]),
        after_pulsing=st.floats(0, 0.1),
        misalignment=st.floats(0, 0.1),
    ),
    source=st.builds(
        lambda weak, more: PulsedSource((weak + more, weak, 0.0), (0.7, 0.2, 0.1)),
        st.floats(0.01, 0.3),
        st.floats(0.01, 1),
    ),
    basis_probability=st.floats(0.01, 0.99),
)
OVER_LINKS = [
    SinglePhotonBB84,
    SixState,
    DecoyBB84,
    InfiniteDecoyBB84,
    NoDecoyBB84,
    Sarg04,
    lambda link, f_ec: B92(link, overlap=0.8, f_ec=f_ec),
    lambda link, f_ec: Bbm92(link, pairs=0.2, f_ec=f_ec),
    lambda link, f_ec: E91(link, pairs=0.05, f_ec=f_ec),
    lambda link, f_ec: FiniteDecoyBB84(DecoyBB84(link, f_ec=f_ec, block=10**9)),
]


@settings(max_examples=40)
@given(LINKS, st.sampled_from([1.0, 1.16]))
def test_no_rate_passes_plob(link, f_ec):
    for make in OVER_LINKS:
        rate, protocol = make(link, f_ec=f_ec).rate(), make(link, f_ec=f_ec)
        assert 0 <= rate.bits_per_pulse <= float(plob(protocol.transmittance()))
        if not isinstance(protocol, Bbm92 | E91):  # detectors are part of the channel that light has to pass
            eta = 1 - (1 - link.transmittance()) * (1 - 2 * link.detectors.dark_count)
            assert rate.bits_per_pulse <= float(plob(eta))
        assert 0 <= rate.qber <= 0.5 + 1e-12


@given(st.floats(0, 200), st.floats(0.1, 100), st.floats(0, 0.1), st.floats(0.1, 1), st.floats(0, 0.2), st.floats(0, 1))
def test_no_gaussian_rate_passes_plob(km, modulation, noise, efficiency, electronic, beta):
    protocol = Gg02(Fibre(km=km), modulation, noise, efficiency, electronic, beta)
    assert 0 <= protocol.rate().bits_per_pulse <= float(plob(protocol.transmittance())) + 1e-9


def test_plob_at_published_points():
    assert plob([0.1, 0.01, 1e-4]) == pytest.approx([0.15200, 0.014500, 1.4428e-4], rel=4e-5)
    assert np.isinf(plob(1.0))


@pytest.mark.parametrize("km", [0.0, 10.0])
def test_more_bases_stand_more_noise_and_ideal_sources_give_more(km):
    link = metro(km)
    assert InfiniteDecoyBB84(link).rate().bits_per_pulse < SinglePhotonBB84(link).rate().bits_per_pulse
    noisy = replace(link, detectors=replace(link.detectors, misalignment=0.115))
    assert SinglePhotonBB84(noisy, f_ec=1.0).rate().bits_per_pulse == 0
    assert SixState(noisy, f_ec=1.0).rate().bits_per_pulse > 0


def protocols():
    return {"decoy": DecoyBB84(gys(0.0), f_ec=1.22), "gaussian": Gg02(Fibre(km=0.0)), "pairs": Bbm92(gys(0.0))}


def test_a_curve_holds_the_rates_of_the_protocols():
    km = np.array([10.0, 50.0, 150.0])
    curve = rate_curve(protocols(), km)
    frame = curve.to_frame()
    assert list(frame.columns) == ["protocol", "km", "bits_per_pulse", "bits_per_second", "gain", "qber", "plob"]
    assert len(frame) == 9
    there = DecoyBB84(gys(50.0), f_ec=1.22).rate()
    row = frame[(frame.protocol == "decoy") & (frame.km == 50)].iloc[0]
    assert row.bits_per_pulse == there.bits_per_pulse
    assert row.bits_per_second == there.bits_per_pulse * 2e6
    assert row.qber == there.qber
    assert isnan(frame[frame.protocol == "gaussian"].qber.iloc[0])
    assert np.allclose(curve.plob, plob(10 ** (-0.02 * km)))  # the fibre with the least loss
    assert (frame.bits_per_pulse <= frame.plob).all()


def test_a_plot_shows_each_protocol_and_the_bound_and_ends_where_the_rate_does():
    ax = rate_curve(protocols(), [10.0, 50.0, 150.0]).plot(Figure().subplots())
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    assert list(lines) == ["decoy", "gaussian", "pairs", "PLOB bound"]
    assert lines["decoy"][0] == DecoyBB84(gys(10.0), f_ec=1.22).rate().bits_per_pulse
    assert np.isnan(lines["decoy"][2])
    assert ax.get_yscale() == "log"


def test_a_plot_makes_its_own_axes_and_survives_zero_loss():
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    ax = rate_curve([DecoyBB84(gys(0.0))], 0.0).plot()
    ax.figure.canvas.draw()
    plt.close(ax.figure)


def test_two_of_one_class_need_names_and_a_pass_has_no_curve():
    with pytest.raises(ConfigurationError, match="names for two"):
        rate_curve([DecoyBB84(gys(0.0)), DecoyBB84(metro(0.0))], [1.0])
    with pytest.raises(ConfigurationError, match="one or more"):
        rate_curve({}, [1.0])
    with pytest.raises(ConfigurationError, match="no fibre length"):
        rate_curve([DecoyBB84(satellite())], [1.0])


def test_every_protocol_offers_the_same():
    every: list[QkdProtocol] = [make(metro(5.0), f_ec=1.1) for make in OVER_LINKS] + [Gg02(Fibre(km=5.0))]
    for protocol in every:
        assert protocol.at(7.0).at(5.0) == protocol
        assert protocol.at(7.0).transmittance() == pytest.approx(10**-0.14)
        assert protocol.rate().bits_per_second == protocol.rate().bits_per_pulse * protocol.rate().repetition_hz
