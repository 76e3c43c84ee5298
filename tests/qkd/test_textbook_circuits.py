"""BB84 as circuits, on PennyLane and on Aer, against the simulation of pulses."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from qfedfm.errors import ConfigurationError
from qfedfm.qkd.eavesdroppers import InterceptResend
from qfedfm.qkd.link import gys, textbook
from qfedfm.qkd.pulses import transmit
from qfedfm.qkd.textbook_circuits import transmit_with_aer, transmit_with_pennylane
from qfedfm.seeds import stream

BACKENDS = pytest.mark.parametrize("circuits", [transmit_with_pennylane, transmit_with_aer])
NOISY = replace(textbook(), detectors=replace(textbook().detectors, misalignment=0.06), basis_probability=0.6)


def cells(sent):
    """Return how often each of Alice's basis and bit, Bob's basis and bit, and Eve's certain knowledge occurred."""
    index = np.ravel_multi_index(
        (sent.alice.basis, sent.alice.bit, sent.bob.basis, sent.bob.bit, (sent.truth.certainty > 0.6).astype(int)),
        (2, 2, 2, 2, 2),
    )
    return np.bincount(index, minlength=32)


@BACKENDS
@pytest.mark.parametrize(
    "eve", [None, InterceptResend(fraction=0.5), InterceptResend(basis="breidbart")], ids=["none", "half", "breidbart"]
)
def test_circuits_agree_with_the_simulation_of_pulses(circuits, eve):
    """2000 qubits against 1e6 simulated pulses; chi-square over all classes, refused below 1e-4."""
    found = cells(circuits(NOISY, 2000, stream(1, "circuits"), eve))
    expected = cells(transmit(NOISY, 1_000_000, stream(1, "pulses"), eve))
    seen = expected > 0
    assert not found[~seen].any()
    assert chi2_contingency(np.stack([found, expected])[:, seen]).pvalue > 1e-4


@BACKENDS
def test_without_noise_equal_bases_give_equal_bits(circuits):
    sent = circuits(textbook(), 450, stream(2, "circuits"))  # not a whole number of Aer's blocks
    assert sent.qber(0) == sent.qber(1) == 0
    assert sent.alice.sent.sum() == sent.bob.pulse.size == 450


@BACKENDS
def test_eve_in_the_right_basis_knows_the_bit(circuits):
    sent = circuits(NOISY, 400, stream(3, "circuits"), InterceptResend())
    known = sent.truth.certainty == 1
    assert 100 < known.sum() < 300
    assert np.array_equal(sent.truth.guess[known], sent.alice.bit[known])


@BACKENDS
def test_a_seed_gives_one_transmission(circuits):
    first, again = (circuits(NOISY, 50, stream(4, "circuits"), InterceptResend()) for _ in range(2))
    assert np.array_equal(first.bob.bit, again.bob.bit)
    assert np.array_equal(first.truth.guess, again.truth.guess)


@BACKENDS
@pytest.mark.parametrize(("link", "pulses"), [(gys(1), 10), (textbook(), 0)])
def test_a_link_that_is_no_textbook_is_refused(circuits, link, pulses):
    with pytest.raises(ConfigurationError, match=r"textbook\(\)|at least one pulse, got 0"):
        circuits(link, pulses, stream(5, "circuits"))
