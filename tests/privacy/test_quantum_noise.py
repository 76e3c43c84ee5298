"""Quantum noise as privacy: the published bound, outcome probabilities of density matrices, and why shots give none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError
from qfedfm.privacy import depolarising_epsilon, shot_noise_epsilon


def test_zhou_and_ying_2017_give_3_66_for_one_shot_at_five_percent_and_3664_for_a_thousand() -> None:
    assert depolarising_epsilon(0.05) == pytest.approx(math.log(39))  # 1 + .95 * 2 * 1 / .05
    assert round(depolarising_epsilon(0.05), 2) == 3.66
    assert round(depolarising_epsilon(0.05, shots=1000)) == 3664


def outcomes(state: np.ndarray, p: float, basis: np.ndarray) -> np.ndarray:
    """Return the probabilities of measuring a depolarised state vector in an orthonormal basis (columns)."""
    d = len(state)
    rho = (1 - p) * np.outer(state, state.conj()) + p * np.eye(d) / d
    return np.einsum("ik,ij,jk->k", basis.conj(), rho, basis).real


@given(st.floats(0.01, 0.99), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_no_measurement_of_depolarised_states_tells_more_than_the_bound(p: float, qubits: int, seed: int) -> None:
    rng, d = np.random.default_rng(seed), 2**qubits
    first, second = (v / np.linalg.norm(v) for v in rng.normal(size=(2, d)) + 1j * rng.normal(size=(2, d)))
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)) + 1j * rng.normal(size=(d, d)))
    distance = math.sqrt(max(0.0, 1 - abs(np.vdot(first, second)) ** 2))
    seen = shot_noise_epsilon(outcomes(first, p, basis), outcomes(second, p, basis))
    assert seen <= depolarising_epsilon(p, d, distance) + 1e-9
    assert depolarising_epsilon(p, d, distance) <= depolarising_epsilon(p, d)


def test_orthogonal_states_of_a_qubit_reach_the_bound() -> None:
    basis = np.eye(2)
    seen = shot_noise_epsilon(outcomes(basis[0], 0.05, basis), outcomes(basis[1], 0.05, basis))
    assert seen == pytest.approx(depolarising_epsilon(0.05))


def test_shots_of_an_angle_encoded_qubit_have_no_worst_case_eps() -> None:
    def turned(x: float) -> list[float]:
        return [math.cos(x / 2) ** 2, math.sin(x / 2) ** 2]

    assert shot_noise_epsilon(turned(0.0), turned(0.01)) == math.inf  # one seen 1 and x was not 0
    losses = [shot_noise_epsilon(turned(x), turned(0.5)) for x in (0.1, 0.01, 0.001, 1e-6)]
    assert losses == sorted(losses)
    assert losses[-1] > 20  # grows without bound as x goes to 0, whatever the number of shots
    assert shot_noise_epsilon([0.25, 0.75], [0.5, 0.5], shots=10) == pytest.approx(10 * math.log(2))


def test_without_noise_there_is_no_bound() -> None:
    assert depolarising_epsilon(0.0) == math.inf
    assert depolarising_epsilon(1.0) == 0
    assert depolarising_epsilon(0.5, distance=0.0) == 0


@pytest.mark.parametrize("wrong", [{"p": 1.5}, {"p": 0.1, "distance": 2}, {"p": 0.1, "dimension": 1}])
def test_impossible_noise_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="depolarising noise: expected"):
        depolarising_epsilon(**wrong)  # type: ignore[arg-type]


def test_what_is_no_distribution_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="summing to one"):
        shot_noise_epsilon([0.5, 0.6], [0.5, 0.5])
