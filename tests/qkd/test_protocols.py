"""Single-photon BB84, six-state, SARG04, B92, BBM92, E91 and GG02: thresholds, independent routes, the oracle."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.optimize import brentq, minimize_scalar

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.b92 import B92, phase_errors
from qfedfm.qkd.entangled import E91, TSIRELSON, Bbm92, chsh_of_counts, chsh_of_qber, pair_clicks
from qfedfm.qkd.entropy import binary_entropy, shannon_entropy
from qfedfm.qkd.gg02 import Gg02, thermal_entropy
from qfedfm.qkd.link import Detectors, Fibre, Link, gys, metro, textbook
from qfedfm.qkd.protocol import secret_fraction
from qfedfm.qkd.sarg04 import Sarg04, conclusive, single_photon_cost, two_photon_phase_error
from qfedfm.qkd.single_photon import SinglePhotonBB84
from qfedfm.qkd.six_state import SixState, six_state_fraction


def noisy(qber):
    return replace(textbook(), detectors=Detectors(efficiency=1.0, misalignment=qber))


@given(st.floats(0, 1))
def test_binary_entropy_is_symmetric_between_0_and_1_bit(p):
    assert 0 <= binary_entropy(p) <= 1
    assert binary_entropy(p) == pytest.approx(float(binary_entropy(1 - p)), abs=1e-12)
    assert binary_entropy(p) == pytest.approx(float(shannon_entropy([p, 1 - p])))


def test_binary_entropy_by_hand_and_out_of_range():
    assert binary_entropy([0, 0.5, 1, 0.11]) == pytest.approx([0, 1, 0, 0.499916], abs=1e-6)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigurationError, match="between 0 and 1"):
            binary_entropy(wrong)


@pytest.mark.parametrize(("f_ec", "threshold"), [(1.0, 0.110028), (1.16, 0.09811), (1.22, 0.09424)])
def test_bb84_threshold_shor_preskill(f_ec, threshold):
    assert brentq(lambda q: secret_fraction(q, q, f_ec), 0.01, 0.2) == pytest.approx(threshold, abs=5e-6)
    assert SinglePhotonBB84(noisy(threshold - 1e-5), f_ec=f_ec).rate().bits_per_pulse > 0
    assert SinglePhotonBB84(noisy(threshold + 1e-5), f_ec=f_ec).rate().bits_per_pulse == 0


def test_six_state_threshold_and_its_entropy_from_the_bell_weights():
    assert brentq(six_state_fraction, 0.01, 0.2) == pytest.approx(0.126193, abs=1e-6)
    for q in (0.01, 0.07, 0.2):  # Eve purifies a Bell-diagonal state: I_E = H(weights) - h(q)
        eve = shannon_entropy([1 - 1.5 * q, q / 2, q / 2, q / 2]) - binary_entropy(q)
        assert six_state_fraction(q) == pytest.approx(float(1 - eve - binary_entropy(q)), abs=1e-12)
    assert SixState(textbook()).rate().bits_per_pulse == 0.25 + 0.125


def bell_weights(pauli):
    """Return the Bell weights (no error, phase, bit, both) after a Pauli channel (I, X, Y, Z) and SARG04's filter."""
    small, large = np.sin(np.pi / 8), np.cos(np.pi / 8)
    plus, minus = np.array([1, 1]) / sqrt(2), np.array([1, -1]) / sqrt(2)
    zero, one = np.eye(2)
    shared = (np.kron(zero, large * plus + small * minus) + np.kron(one, large * plus - small * minus)) / sqrt(2)
    keep = small * np.outer(plus, plus) + large * np.outer(minus, minus)
    bell = [np.kron(zero, zero), np.kron(one, one), np.kron(zero, one), np.kron(one, zero)]
    bell = [bell[0] + bell[1], bell[0] - bell[1], bell[2] + bell[3], bell[2] - bell[3]]
    errors = [np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1], [1, 0]]), np.diag([1, -1])]
    seen = np.array([[(b @ np.kron(np.eye(2), keep @ error) @ shared) ** 2 for error in errors] for b in bell])
    weights = seen @ pauli
    return weights / weights.sum()


@settings(max_examples=40)
@given(st.floats(0.001, 0.3), st.floats(0, 1))
def test_sarg04_cost_is_the_worst_over_channels_that_look_alike(e, share):
    def channel(total):  # turning all by a quarter circle makes X and Z alike; Y is free
        return np.array([1 - total, (1 - share) * total / 2, share * total, (1 - share) * total / 2])

    def error(total):
        return bell_weights(channel(total))[2:].sum() - e

    if error(1.0) < 0:
        return
    weights = bell_weights(channel(brentq(error, 0, 1)))
    assert weights[[1, 3]].sum() == pytest.approx(1.5 * e)
    assert float(shannon_entropy(weights) - binary_entropy(e)) <= single_photon_cost(e) + 1e-9
    if share == 0:
        assert float(shannon_entropy(weights) - binary_entropy(e)) == pytest.approx(single_photon_cost(e), abs=1e-9)


@pytest.mark.parametrize("e", [0.0, 0.005, 0.0271, 0.1, 0.16])
def test_sarg04_two_photon_phase_error_is_the_published_minimum(e):
    def published(x):
        return x * e + (3 - 2 * x + np.sqrt(6 - 6 * sqrt(2) * x + 4 * x**2)) / 6

    found = minimize_scalar(published, bounds=(0, 1e4), method="bounded", options={"xatol": 1e-10})
    assert two_photon_phase_error(e) == pytest.approx(found.fun, abs=1e-5)


def test_sarg04_thresholds_tamaki_lo_2006():
    assert brentq(lambda e: 1 - binary_entropy(e) - single_photon_cost(e), 0.01, 0.2) == pytest.approx(0.0968, abs=1e-4)
    two = brentq(lambda e: 1 - binary_entropy(e) - binary_entropy(two_photon_phase_error(e)), 1e-4, 0.1)
    assert two == pytest.approx(0.0271, abs=1e-4)
    assert (single_photon_cost(0.4), two_photon_phase_error(0.2)) == (1.0, 0.5)


@pytest.mark.parametrize("km", [0.0, 30.0, 60.0])
def test_sarg04_agrees_with_the_oracle(km):
    from qkd import _core as oracle

    link, mu = gys(km), 0.48
    eta = link.transmittance()
    gain, qber = oracle.sarg_gain(mu, eta, 1.7e-6, 0.033)
    (y1, e1), (y2, e2) = (oracle.sarg_yield(eta, 1.7e-6, 0.033, n) for n in (1, 2))
    assert conclusive(link, (1 - eta) ** 2) == pytest.approx((y2, y2 * e2), rel=1e-12)
    q1, q2 = y1 * mu * np.exp(-mu), y2 * mu**2 / 2 * np.exp(-mu)
    rate = Sarg04(link, f_ec=1.22).rate()
    assert rate.gain == pytest.approx(gain, rel=1e-12)
    assert rate.bits_per_pulse == pytest.approx(oracle.sarg_rate(gain, qber, q1, e1, q2, e2, 1.22), rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("overlap", [0.5, 0.68125, 0.9])
@pytest.mark.parametrize(("loss", "noise"), [(0.0, 0.0), (0.0, 0.01), (0.2, 0.001), (0.5, 0.01), (0.4, 0.0)])
def test_b92_phase_error_agrees_with_the_oracle(overlap, loss, noise):
    from qkd import _core as oracle

    gain, qber, phase, _ = oracle.b92_plain(overlap, loss, noise, 1.0)
    ours = phase_errors(overlap, loss, gain, gain * qber) / gain
    assert min(0.5, ours) == pytest.approx(phase, abs=2e-6)
    assert ours >= phase - 1e-9  # never on the unsafe side


def test_b92_threshold_tamaki_lutkenhaus_2004():
    # depolarising 3.4 % without loss: as BB84 QBER it is two thirds of that
    def rate(depolarising):
        return B92(noisy(2 / 3 * depolarising), overlap=0.68125, f_ec=1.0).rate().bits_per_pulse

    assert rate(0.0335) > 0
    assert rate(0.0345) == 0


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.95))
def test_b92_no_state_has_more_phase_errors_than_the_bound(seed, overlap):
    generator = np.random.default_rng(seed)
    a2, b2 = (1 - overlap) / 2, (1 + overlap) / 2
    # Eve: a random channel from the qubit to qubit or nothing, as Kraus operators in the x basis
    kraus = generator.normal(size=(3, 3, 2)) + 1j * generator.normal(size=(3, 3, 2))
    kraus[0, :2] += 3 * np.eye(2)
    kraus = kraus @ np.linalg.inv(np.linalg.cholesky(np.einsum("kij,kil->jl", kraus.conj(), kraus)).conj().T)
    shared = np.diag([sqrt(b2), sqrt(a2)])  # rows Alice's x, columns Bob's
    keep = np.diag([sqrt(a2), sqrt(b2)])
    states = [shared @ k[:2].T @ keep for k in kraus]
    loss = sum(float(np.sum(np.abs(shared @ k[2]) ** 2)) for k in kraus)
    conclusive_, phase = (
        sum(float(np.sum(np.abs(s * m) ** 2)) for s in states) for m in (1, np.array([[0, 1], [1, 0]]))
    )
    turn = np.array([[1, 1], [1, -1]]) / sqrt(2)
    wrong = sum(float(np.sum(np.abs((turn @ s @ turn) * np.array([[0, 1], [1, 0]])) ** 2)) for s in states)
    assert phase <= phase_errors(overlap, loss, conclusive_, wrong) + 1e-9


def test_b92_chooses_an_overlap_above_the_loss():
    link = replace(textbook(), detectors=Detectors(efficiency=0.7, misalignment=0.001))
    best = B92(link).rate().bits_per_pulse
    assert best >= max(B92(link, overlap=c).rate().bits_per_pulse for c in (0.4, 0.7, 0.8)) - 1e-6 > 0
    assert B92(link, overlap=0.25).rate().bits_per_pulse == 0


def test_bbm92_clicks_from_the_fock_sum():
    # pairs per pulse with n of them: (n + 1) lam^n / (1 + lam)^(n + 2), shared out over two modes, m and n - m
    link = Link(Fibre(km=0.0, fixed_db=6.0), Detectors(efficiency=0.8, dark_count=0.01))
    lam, eta, dark = 0.15, 10**-0.3 * 0.8, 0.01
    gain = wrong = 0.0
    quiet = 1 - 2 * dark  # of both detectors: each party's darkness is Y0 = 2 p_dc
    for n in range(40):
        weight = lam**n / (1 + lam) ** (n + 2)
        for m in range(n + 1):
            none = (1 - eta) ** n * quiet
            only = [(1 - eta) ** (n - k) * sqrt(quiet) - none for k in (m, n - m)]  # clicks in one detector alone
            lean = only[0] - only[1]
            gain += weight * (1 - none) ** 2
            wrong += weight * ((1 - none) ** 2 - lean**2) / 2
    ours = pair_clicks(link, 2 * lam)
    assert ours[0] == pytest.approx(gain, rel=1e-9)
    assert 0 < wrong - ours[1] < 1.05 * dark * gain  # darkness beside a photon, which Ma, Fung and Lo neglect


def test_bbm92_without_darkness_is_exact_in_its_errors():
    link, lam, eta = Link(Fibre(km=0.0, fixed_db=6.0), Detectors(efficiency=0.8)), 0.3, 10**-0.3 * 0.8
    gain = wrong = 0.0
    for n in range(80):
        weight = lam**n / (1 + lam) ** (n + 2)
        for m in range(n + 1):
            lean = (1 - eta) ** m - (1 - eta) ** (n - m)  # P(one detector alone) less P(the other alone)
            both = (1 - (1 - eta) ** n) ** 2
            gain, wrong = gain + weight * both, wrong + weight * (both - lean**2) / 2
    assert pair_clicks(link, 2 * lam)[:2] == pytest.approx((gain, wrong), rel=1e-9)


def test_bbm92_has_a_best_number_of_pairs():
    best = Bbm92(metro(20.0)).optimised()
    others = [replace(best, pairs=best.pairs * x).rate().bits_per_pulse for x in (0.8, 1.25)]
    assert best.rate().bits_per_pulse > max(others) > 0


def test_e91_has_the_fraction_of_bbm92_and_not_a_fault_of_peers():
    # a peer wrote q (1 - h) in place of 1 - 2 h
    link = replace(metro(20.0), basis_probability=0.5)
    e91, bbm92 = E91(link, f_ec=1.0), Bbm92(link, f_ec=1.0)
    rate = e91.rate()
    assert rate.bits_per_pulse / bbm92.rate().bits_per_pulse == pytest.approx((2 / 9) / (1 / 2))
    assert rate.bits_per_pulse / rate.gain == pytest.approx(2 / 9 * (1 - 2 * float(binary_entropy(rate.qber))))
    assert e91.chsh() == pytest.approx(TSIRELSON * (1 - 2 * rate.qber))


def test_chsh_reaches_2_at_qber_0_146447():
    assert chsh_of_qber(0.0) == pytest.approx(2 * sqrt(2))
    assert chsh_of_qber(0.146447) == pytest.approx(2, abs=5e-6)


def test_chsh_of_counts_by_hand_and_its_interval_covers():
    found = chsh_of_counts([85, 15, 85, 85], [15, 85, 15, 15])
    assert found.value == pytest.approx(2.8)
    assert found.high - found.value == pytest.approx(1.959964 * sqrt(4 * (1 - 0.49) / 100))
    generator, truth = np.random.default_rng(3), 0.7 * np.array([1, -1, 1, 1])
    draws = generator.binomial(400, (1 + truth) / 2, size=(2000, 4))
    inside = [c.low <= 2.8 <= c.high for c in (chsh_of_counts(d, 400 - d) for d in draws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)  # four sigmas of 2000 draws


@pytest.mark.parametrize(
    ("same", "different"), [([1, 1, 1], [1, 1, 1]), ([0, 1, 1, 1], [0, 1, 1, 1]), ([-1, 1, 1, 1], [3, 1, 1, 1])]
)
def test_chsh_without_counts_is_refused(same, different):
    with pytest.raises(ConfigurationError, match="four pairs of directions"):
        chsh_of_counts(same, different)
    with pytest.raises(ConfigurationError, match="confidence"):
        chsh_of_counts([1] * 4, [1] * 4, confidence=1.0)


LODEWYCK = Gg02(Fibre(km=0.0, fixed_db=float(-10 * np.log10(0.302))))


def test_gg02_lodewyck_2007():
    found = LODEWYCK.information()
    assert (found.i_ab, found.chi_be, found.key) == pytest.approx((1.04365, 0.90204, 0.03515), abs=5e-6)
    assert LODEWYCK.rate().bits_per_pulse == found.key


@pytest.mark.parametrize("km", [0.0, 5.0, 25.0, 80.0])
def test_gg02_agrees_with_the_oracle(km):
    from qkd import _core as oracle

    found = LODEWYCK.at(km).information()
    t = LODEWYCK.at(km).transmittance()
    expected = oracle.cv_rate(18.5, t, 0.005, 0.606, 0.041, 0.898, True, True)
    assert (found.i_ab, found.chi_be, found.key) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("t", [0.302, 0.05])
def test_gg02_holevo_information_from_covariance_matrices(t):
    # A and B of a two-mode squeezed state, B through the line, then mixed with one half of the detector's own EPR pair
    v, xi, eta, noise = 19.5, 0.005, 0.606, 0.041
    identity, z = np.eye(2), np.diag([1, -1])
    b = t * (v + 1 / t - 1 + xi)
    ab = np.block([[v * identity, sqrt(t * (v**2 - 1)) * z], [sqrt(t * (v**2 - 1)) * z, b * identity]])
    w = 1 + noise / (1 - eta)
    fg = np.block([[w * identity, sqrt(w**2 - 1) * z], [sqrt(w**2 - 1) * z, w * identity]])
    mix = np.eye(8)  # modes A, B, F, G
    mix[2:4, 2:4] = mix[4:6, 4:6] = sqrt(eta) * identity
    mix[2:4, 4:6], mix[4:6, 2:4] = sqrt(1 - eta) * identity, -sqrt(1 - eta) * identity
    whole = mix @ block_diag(ab, fg) @ mix.T
    rest = [0, 1, 4, 5, 6, 7]
    given_x = whole[np.ix_(rest, rest)] - np.outer(whole[rest, 2], whole[rest, 2]) / whole[2, 2]

    def entropy(covariance):
        omega = block_diag(*[np.array([[0, 1], [-1, 0]])] * (len(covariance) // 2))
        return float(np.sum(thermal_entropy(np.abs(np.linalg.eigvals(1j * omega @ covariance)))) / 2)

    protocol = replace(LODEWYCK, channel=Fibre(km=0.0, fixed_db=float(-10 * np.log10(t))))
    assert protocol.information().chi_be == pytest.approx(entropy(ab) - entropy(given_x), abs=1e-6)


def test_after_pulses_add_clicks_that_are_right_by_chance():
    quiet, loud = (replace(gys(20.0), detectors=replace(gys(20.0).detectors, after_pulsing=p)) for p in (0.0, 0.04))
    more = 0.04 * float(quiet.photon_yield(1))
    before, after = (conclusive(link, 1 - link.transmittance()) for link in (quiet, loud))
    assert np.subtract(after, before) == pytest.approx((more / 2, more / 4))
    before, after = (pair_clicks(link, 0.1) for link in (quiet, loud))
    assert np.subtract(after, before) == pytest.approx((0.08 * before[0], 0.04 * before[0], 0.04 * before[2]))
