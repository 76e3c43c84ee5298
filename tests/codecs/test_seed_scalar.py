"""Seeds and scalars: directions against an independent Philox, reconstruction bit for bit, zeroth-order training."""

import numpy as np
import philox
import pytest
import torch
from torch.nn.functional import cross_entropy

from qfedfm.codecs.seeds import Seeded, SeedScalar, direction, draw_seeds, reconstruct
from qfedfm.codecs.zeroth_order import descend
from qfedfm.errors import ConfigurationError, SealError
from qfedfm.heads import Linear
from qfedfm.params import ParamSpec, stack

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


def bowl(params):
    """A quadratic with its minimum at 1, steeper in later tensors."""
    return sum((k + 1) * float((p - 1).double().square().sum()) for k, p in enumerate(params.values()))


def zeros():
    return {spec.name: torch.zeros(spec.shape, dtype=spec.torch_dtype) for spec in SPECS}


def dense_descent(loss, params, specs, seeded, rate, spacing):
    """The same training with the whole update at hand, in plain loops, directions from the independent Philox."""
    size = sum(spec.size for spec in specs)
    moved = [0.0] * size
    ends = np.cumsum([spec.size for spec in specs])[:-1]

    def tensors(vector):
        parts = np.split(np.array(vector), ends)
        return {
            spec.name: torch.tensor(part.reshape(spec.shape)).to(spec.torch_dtype)
            for spec, part in zip(specs, parts, strict=True)
        }

    for seed in seeded.seeds:
        z = by_hand(int(seed), size)
        values = []
        for side in (spacing, -spacing):
            shift = tensors([m + side * sign for m, sign in zip(moved, z, strict=True)])
            values.append(loss({name: params[name] + shift[name] for name in shift}))
        step = -rate * (values[0] - values[1]) / (2 * spacing)
        moved = [m + step * sign for m, sign in zip(moved, z, strict=True)]
    return tensors(moved)


def test_what_is_decoded_is_the_dense_update_of_the_training_bit_for_bit():
    seeded = descend(bowl, zeros(), SPECS, steps=40, rate=1e-3, spacing=1e-3, generator=np.random.default_rng(1))
    codec = SeedScalar(40)
    data, meta = codec.encode_directions(seeded)
    assert len(data) == 16 * 40
    decoded = codec.decode(data, meta, SPECS)
    dense = dense_descent(bowl, zeros(), SPECS, seeded, 1e-3, 1e-3)
    assert all(torch.equal(decoded[name], dense[name]) for name in dense)
    assert bowl({name: zeros()[name] + decoded[name] for name in decoded}) < 0.95 * bowl(zeros())


def test_the_scalars_are_directional_derivatives():
    # central differences are exact on a quadratic: s = -rate z . grad, each at where the steps before it led
    seeded = descend(bowl, zeros(), SPECS, steps=5, rate=0.01, spacing=0.5, generator=np.random.default_rng(2))
    weights = np.repeat([1, 2, 3], [65, 3, 1])
    at = np.zeros(SIZE)
    for seed, scalar in zip(seeded.seeds, seeded.scalars, strict=True):
        z = np.array(by_hand(int(seed), SIZE))
        assert scalar == pytest.approx(-0.01 * z @ (2 * weights * (at - 1)), rel=1e-5)
        at += scalar * z


def test_a_head_is_trained_and_frozen_parameters_stay():
    rng = np.random.default_rng(3)
    labels = torch.tensor(np.arange(80) % 2)
    rows = torch.tensor(rng.normal(size=(80, 4)) + 1.5 * (np.arange(80) % 2)[:, None], dtype=torch.float32)
    model = Linear().bind(4, 2)
    params = model.init(0)
    trained = tuple(spec for spec in model.specs if "weight" in spec.name)

    def loss(some):
        assert some.keys() == params.keys()
        return float(cross_entropy(model.apply(stack([some]), rows[None])[0], labels))

    seeded = descend(loss, params, trained, steps=150, rate=0.1, spacing=1e-2, generator=rng)
    update = reconstruct(seeded, trained)
    assert update.keys() == {spec.name for spec in trained}
    assert loss(params | {name: params[name] + move for name, move in update.items()}) < 0.8 * loss(params)


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(ConfigurationError, match="step 1: the loss is nan"):
        descend(lambda _: float("nan"), zeros(), SPECS, steps=3, rate=1, spacing=1, generator=np.random.default_rng(0))


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
