"""Renyi accounting against Opacus, against numerical integration, and by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from qfedfm.errors import ConfigurationError
from qfedfm.privacy import ORDERS, epsilon, subsampled_gaussian

TENTHS = (*(1 + tenth / 10 for tenth in range(1, 100)), *range(12, 64))
WHOLE = tuple(range(2, 64))

# q, sigma, steps, delta; eps and best order of Opacus 1.6.0 (compute_rdp, get_privacy_spent) with its fractional
# orders, eps with whole orders 2 to 63
OPACUS = [
    (0.01, 1.1, 1000, 1e-5, 1.7117700912203435, 9.6, 1.725290818044953),
    (0.05, 0.8, 300, 1e-5, 10.439686376769522, 2.7, 10.730101312738118),
    (0.2, 2.0, 100, 1e-6, 6.122819312036482, 4.8, 6.1308215638439725),
    (1.0, 4.0, 50, 1e-5, 9.234958991683898, 3.6, 9.337861628831664),
    (0.001, 0.6, 5000, 1e-6, 3.6273947493060903, 4.6, 4.062455005805476),
    (0.5, 1.0, 10, 1e-5, 11.537106668879563, 2.7, 11.770582666023337),
    (0.3, 10.0, 20, 1e-5, 0.5340458098389216, 29.0, 0.5340458098389216),
]


@pytest.mark.parametrize(("q", "sigma", "steps", "delta", "fractional", "order", "whole"), OPACUS)
def test_eps_is_that_of_opacus_1_6_with_its_fractional_and_with_whole_orders(
    q: float, sigma: float, steps: int, delta: float, fractional: float, order: float, whole: float
) -> None:
    for orders in (TENTHS, ORDERS):
        found = epsilon(steps * subsampled_gaussian(q, sigma, orders), delta, orders)
        assert found.eps == pytest.approx(fractional, abs=1e-8)
        assert found.order == order
        assert found.delta == delta
    assert epsilon(steps * subsampled_gaussian(q, sigma, WHOLE), delta, WHOLE).eps == pytest.approx(whole, abs=1e-10)


@pytest.mark.parametrize(
    ("q", "sigma", "expected"),
    [
        (0.01, 1.1, [6.958851489149683e-05, 0.00012851008160514807, 0.0007460544321903009, 21.353610726767897]),
        (0.2, 2.0, [0.005966332620532215, 0.011296964989239926, 0.09008803545193382, 6.239604165690358]),
        (0.5, 0.7, [0.3520705178580249, 0.9836586661667281, 9.022172704055116, 63.581387311919514]),
    ],
)
def test_rdp_of_one_step_is_that_of_opacus_1_6(q: float, sigma: float, expected: list[float]) -> None:
    assert subsampled_gaussian(q, sigma, [1.1, 2, 9.6, 63]).tolist() == pytest.approx(expected, rel=1e-7)


def integrated(q: float, sigma: float, alpha: float) -> float:
    """Return the divergence from its definition: ln E_{N(0, sigma^2)} (density ratio)^alpha / (alpha - 1)."""

    def integrand(z: float) -> float:
        ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * z - 1) / (2 * sigma**2))
        return math.exp(alpha * ratio - z * z / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi)))

    middle = sigma**2 * math.log(1 / q - 1) + 0.5
    edges = sorted([-12 * sigma, 0.0, middle, alpha, alpha + 12 * sigma])
    total = sum(quad(integrand, a, b, epsabs=0, epsrel=1e-11, limit=400)[0] for a, b in pairwise(edges))
    return math.log(total) / (alpha - 1)


@settings(max_examples=25)
@given(st.floats(0.01, 0.95), st.floats(0.5, 5), st.floats(1.2, 12) | st.integers(2, 12))
def test_rdp_is_the_integral_that_it_stands_for(q: float, sigma: float, alpha: float) -> None:
    # the series for fractional orders is cut and its remainder bounded, which is felt most near order one
    assert subsampled_gaussian(q, sigma, [alpha])[0] == pytest.approx(integrated(q, sigma, alpha), rel=1e-6, abs=1e-8)


@settings(max_examples=12)
@given(st.floats(0.001, 0.9), st.floats(0.5, 8))
def test_losses_grow_with_the_order_and_the_sample_and_shrink_with_noise(q: float, sigma: float) -> None:
    rho = subsampled_gaussian(q, sigma)
    assert (np.diff(rho) > -1e-7).all()
    assert (subsampled_gaussian(min(1.0, 1.1 * q), sigma) >= rho - 1e-9).all()
    assert (subsampled_gaussian(q, 1.1 * sigma) <= rho + 1e-9).all()
    assert (rho <= subsampled_gaussian(1.0, sigma) + 1e-9).all()


@given(st.floats(0.3, 10), st.floats(1e-9, 0.1))
def test_eps_of_a_gaussian_mechanism_bounds_its_exact_one(sigma: float, delta: float) -> None:
    # Balle and Wang 2018: delta(eps) = Phi(1/(2 s) - eps s) - e^eps Phi(-1/(2 s) - eps s)
    from scipy.special import log_ndtr, ndtr

    eps = epsilon(subsampled_gaussian(1.0, sigma), delta).eps
    exact = ndtr(0.5 / sigma - eps * sigma) - math.exp(eps + log_ndtr(-0.5 / sigma - eps * sigma))
    assert exact <= delta * (1 + 1e-9)


def test_the_ends_of_the_range() -> None:
    assert subsampled_gaussian(0, 1.0, [2, 3]).tolist() == [0, 0]
    assert subsampled_gaussian(1, 2.0, [2, 3]).tolist() == [0.25, 0.375]  # alpha / (2 sigma^2)
    assert subsampled_gaussian(0.5, 0.0, [2]).tolist() == [math.inf]
    assert epsilon(np.zeros(len(ORDERS)), 0.5).eps == 0


@pytest.mark.parametrize(("q", "sigma", "orders"), [(-0.1, 1, [2]), (1.1, 1, [2]), (0.5, -1, [2]), (0.5, 1, [1])])
def test_what_has_no_loss_is_refused(q: float, sigma: float, orders: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="expected q in"):
        subsampled_gaussian(q, sigma, orders)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_delta_is_a_probability(delta: float) -> None:
    with pytest.raises(ConfigurationError, match="delta is a probability"):
        epsilon(subsampled_gaussian(1, 1), delta)
