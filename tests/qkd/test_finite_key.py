"""The finite key from counts: Lim's numbers, the oracle, exact sampling, and no input that yields an unsafe key."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from qfedfm.qkd.finite_key import (
    FiniteKey,
    exact_sampling,
    finite_length,
    phase_error,
    sampling_deviation,
    single_photon_counts,
    single_photon_errors,
)

MU, P, SHARE = (0.5, 0.15, 2e-4), (0.6, 0.25, 0.15), 1e-10 / 21
N, M = (8.5e6, 1.4e6, 9e4), (1.4e5, 3e4, 1.2e4)
N_TEST, M_TEST = (2.6e5, 4.4e4, 2.8e3), (4.3e3, 9e2, 370)


def length(**change):
    values = {
        "n_key": N,
        "m_key": M,
        "n_test": N_TEST,
        "m_test": M_TEST,
        "intensities": MU,
        "probabilities": P,
        "leaked_bits": 1.5e6,
        "eps_sec": 1e-10,
        "eps_cor": 1e-15,
    }
    return finite_length(**(values | change))


def test_counts_errors_phase_and_length_agree_with_the_oracle():
    from qkd import _core as oracle

    s0, s1 = oracle.decoy_counts(*MU, P, N, SHARE)
    assert single_photon_counts(np.array(N), np.array(MU), np.array(P), SHARE) == pytest.approx((s0, s1), rel=1e-12)
    v1 = oracle.decoy_errors(*MU, P, M_TEST, SHARE)
    assert single_photon_errors(np.array(M_TEST), np.array(MU), np.array(P), SHARE) == pytest.approx(v1, rel=1e-12)
    s1_test = oracle.decoy_counts(*MU, P, N_TEST, SHARE)[1]
    phi = oracle.bb84_phase(v1, s1_test, s1, 1e-10)
    assert phase_error(v1, s1_test, s1, SHARE) == pytest.approx(phi, rel=1e-12)
    leak = 1.16 * 1e7 * -(0.02 * math.log2(0.02) + 0.98 * math.log2(0.98))
    expected = oracle.bb84_length(s0, s1, phi, 1e7, 0.02, 1.16, 1e-10, 1e-15)
    assert length(leaked_bits=leak).length == pytest.approx(expected, abs=1)
    assert expected > 1e5


@pytest.mark.parametrize(
    ("seen", "test", "key", "share"), [(0, 1000, 1000, 1e-6), (3, 500, 5000, 1e-9), (20, 2000, 900, 1e-4)]
)
def test_exact_sampling_against_the_exact_hypergeometric_tail(seen, test, key, share):
    k = round(exact_sampling(seen, test, key, share) * key)
    assert hypergeom.cdf(seen, test + key, seen + k, test) <= share
    assert hypergeom.cdf(seen, test + key, seen + round(0.85 * k), test) > share  # and not far from the least


def test_without_errors_lim_would_prove_a_perfect_key_from_a_small_test():
    assert sampling_deviation(0.0, 300, 1e6, SHARE) == 0
    exact = exact_sampling(0, 300, 10**6, SHARE)
    assert exact == pytest.approx(1 - SHARE ** (1 / 300), rel=0.01)  # 300 draws that find nothing: (1 - e)^300 = share
    assert phase_error(0.0, 300, 1e6, SHARE) == exact


@given(st.integers(1, 10**4), st.integers(100, 10**6), st.integers(100, 10**6))
def test_more_errors_never_lower_the_phase_error(errors, test, key):
    fewer, more = (phase_error(e, float(test), float(key), SHARE) for e in (errors - 1, errors))
    assert 0 < fewer <= more + 1e-12
    assert more <= 0.5


ANY = st.one_of(st.floats(), st.integers(-(10**30), 10**30), st.sampled_from([0, 1, 1e7, 1e12, 5e-324, 1.7e308]))
THREE = st.one_of(st.lists(ANY, min_size=3, max_size=3), st.lists(ANY, max_size=4), st.none(), st.text(max_size=3))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "n_key": THREE,
            "m_key": THREE,
            "n_test": THREE,
            "m_test": THREE,
            "intensities": THREE,
            "probabilities": THREE,
            "leaked_bits": ANY,
            "eps_sec": ANY,
            "eps_cor": ANY,
        },
    )
)
def test_any_input_whatever_yields_a_safe_answer(change):
    key = length(**change)
    assert type(key.length) is int
    assert 0 <= key.length <= 1e13
    assert bool(key.reason) == (key.length == 0)
    assert not any(math.isnan(x) for x in (key.s0, key.s1, key.phase_error, key.leaked, key.sifted, key.surplus))
    assert key.length <= max(0, key.sifted - key.leaked)


COUNTS = st.lists(st.integers(0, 10**8), min_size=3, max_size=3)


@given(COUNTS, COUNTS, st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(0, 10**8), st.integers(0, 2))
def test_worse_counts_never_give_a_longer_key(n_key, n_test, error, leak, k):
    m_test = [int(n * e) for n, e in zip(n_test, error, strict=True)]
    before = length(n_key=n_key, m_key=(0, 0, 0), n_test=n_test, m_test=m_test, leaked_bits=leak)
    assert before.length <= max(0, sum(n_key) - leak)
    leaked = length(n_key=n_key, m_key=(0, 0, 0), n_test=n_test, m_test=m_test, leaked_bits=leak + 1000)
    assert leaked.length <= max(0, before.length - 999)
    # the weak decoy's errors are what bounds e1 from above
    m_test[1] = min(n_test[1], m_test[1] + 10**k)
    worse = length(n_key=n_key, m_key=(0, 0, 0), n_test=n_test, m_test=m_test, leaked_bits=leak)
    assert worse.phase_error >= before.phase_error - 1e-9
    assert worse.length <= before.length + 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_key": (0, 0, 0), "m_key": (0, 0, 0)}, "too few clicks"),
        ({"n_test": (0, 0, 0), "m_test": (0, 0, 0)}, "too few clicks"),
        ({"m_test": N_TEST}, "no phase error below"),
        ({"leaked_bits": 1e7}, "leaked"),
        ({"m_test": (3e5, 0, 0)}, "more errors than clicks"),
        ({"n_key": (float("nan"), 1, 1)}, "between 0 and 1e12"),
        ({"n_key": (-1, 1, 1)}, "between 0 and 1e12"),
        ({"intensities": (0.5, 0.4, 0.2)}, r"mu1 > mu2 \+ mu3"),
        ({"intensities": (0.5, 0.1)}, "three numbers"),
        ({"probabilities": (0.5, 0.5, 0.5)}, "with sum 1"),
        ({"leaked_bits": -1}, "leaked bits"),
        ({"eps_sec": 0}, "probabilities"),
        ({"n_key": "many"}, "three numbers"),
    ],
)
def test_zero_comes_with_its_reason(change, reason):
    import re

    key = length(**change)
    assert key.length == 0
    assert re.search(reason, key.reason)


def test_a_few_hundred_bits_hold_no_key():
    # a peer reported a 100-bit "secure" key from 173 sifted bits
    key = length(n_key=(150, 20, 3), m_key=(0, 0, 0), n_test=(5, 1, 0), m_test=(0, 0, 0), leaked_bits=0)
    assert isinstance(key, FiniteKey)
    assert key.length == 0
