"""Seeds and scalars: directions against an independent Philox, and reconstruction."""

import numpy as np
import philox
import pytest
import torch

from qfedfm.codecs.seeds import Seeded, SeedScalar, direction, draw_seeds, reconstruct
from qfedfm.errors import ConfigurationError, SealError
from qfedfm.params import ParamSpec

SPECS = (ParamSpec("w", (5, 13)), ParamSpec("angle", (3,), "float64", "angular", period=6.25), ParamSpec("b", ()))
SIZE = 69


def by_hand(seed, size):
    """The signs of a direction from the bits of an independent Philox."""
    words = philox.words(seed, -(-size // 64))
    return [1.0 if words[i // 64] >> (i % 64) & 1 else -1.0 for i in range(size)]


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize("size", [0, 1, 64, 65, 600])
def test_directions_are_the_bits_of_philox(seed, size):
    assert direction(seed, size).tolist() == by_hand(seed, size)


def test_directions_are_balanced_and_uncorrelated():
    # 400 directions of 1,000 entries, seed 0. Means and products of two are sums of 1,000 signs: sigma sqrt(1,000)
    z = np.array([direction(int(seed), 1000) for seed in draw_seeds(400, np.random.default_rng(0))])
    products = (z @ z.T)[np.triu_indices(400, 1)] / 1000**0.5
    assert np.abs(products).max() < 6  # 79,800 normal deviates: 2e-4
    assert abs((products**2).mean() - 1) < 5 * (2 / 79_800) ** 0.5
    assert np.abs(z.sum(0)).max() < 6 * 20


def test_reconstruction_by_hand():
    made = Seeded(np.array([3, 9], dtype=np.uint64), np.array([0.5, -0.125]))
    expected = [0.5 * a - 0.125 * b for a, b in zip(by_hand(3, SIZE), by_hand(9, SIZE), strict=True)]
    tensors = reconstruct(made, SPECS)
    assert [(t.dtype, tuple(t.shape)) for t in tensors.values()] == [(s.torch_dtype, s.shape) for s in SPECS]
    assert torch.cat([tensor.double().reshape(-1) for tensor in tensors.values()]).tolist() == expected


def test_a_random_projection_leaves_out_what_the_formula_says():
    # E||r_K||^2 / ||x||^2 = (1 - 1/69)^20; 150 messages, seed 0: the mean is within 5 of its own standard errors
    x = {
        spec.name: torch.tensor(np.random.default_rng(4).normal(size=spec.shape)).to(spec.torch_dtype) for spec in SPECS
    }
    total = sum(float(t.double().square().sum()) for t in x.values())
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(150):
        _, _, state = SeedScalar(20).encode(x, SPECS, {}, generator)
        shares.append(sum(float(t.double().square().sum()) for t in state.values()) / total)
    assert abs(np.mean(shares) - (1 - 1 / SIZE) ** 20) < 5 * np.std(shares) / 150**0.5


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), 1e308])
def test_scalars_that_make_no_finite_update_are_refused(bad):
    data = np.array([1, 1], "<u8").tobytes() + np.array([bad, 1e308], "<f8").tobytes()
    _, meta = SeedScalar(2).encode_directions(Seeded(np.zeros(2, np.uint64), np.zeros(2)))
    with pytest.raises(SealError, match=r"NaN or infinite|too large"):
        SeedScalar(2).decode(data, meta, SPECS)


def test_more_directions_than_the_codec_takes_are_not_sent_and_not_read():
    three = Seeded(np.arange(3, dtype=np.uint64), np.ones(3))
    with pytest.raises(ConfigurationError, match="at most 2 seeds"):
        SeedScalar(2).encode_directions(three)
    data, meta = SeedScalar(3).encode_directions(three)
    with pytest.raises(SealError, match="from 0 to 2 directions"):
        SeedScalar(2).decode(data, meta, SPECS)


def test_fewer_directions_are_fine():
    one = Seeded(np.array([5], dtype=np.uint64), np.array([2.0]))
    data, meta = SeedScalar(100).encode_directions(one)
    assert len(data) == 16
    assert SeedScalar(100).decode(data, meta, SPECS)["b"].item() == 2 * by_hand(5, SIZE)[-1]
