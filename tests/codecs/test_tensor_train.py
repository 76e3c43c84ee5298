"""Tensor trains against published ranks, Eckart and Young, and dense arithmetic."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.codecs import TensorMeta
from qfedfm.codecs.tensor_train import TensorTrain, contract, modes, tt_svd
from qfedfm.errors import SealError
from qfedfm.params import ParamSpec

GRID = np.arange(1024) / 1024


@pytest.mark.parametrize(
    ("values", "rank"),
    [
        (np.exp(-3 * GRID), 1),
        (np.sin(20 * GRID), 2),
        (1 + 2 * GRID - 3 * GRID**2, 3),
        (GRID**3, 4),
        (np.exp(GRID) * np.cos(9 * GRID), 2),
    ],
    ids=["exponential", "sine", "quadratic", "cubic", "damped wave"],
)
def test_functions_on_a_binary_grid_have_the_ranks_of_khoromskij_2011_and_oseledets_2013(values, rank):
    # doi:10.1007/s00365-011-9131-1, doi:10.1007/s00365-012-9175-x: exp 1, sin 2, polynomial of degree p at most p + 1
    specs = (ParamSpec("w", (1024,), "float64"),)
    codec = TensorTrain(tolerance=1e-10, largest_mode=2)
    data, meta, state = codec.encode({"w": torch.tensor(values)}, specs, {}, np.random.default_rng(0))
    assert max(meta[0].shape) == rank
    assert len(meta[0].shape) == 9
    assert len(data) < 8 * 1024 / 4
    assert state["w"].norm() < 1e-10 * np.linalg.norm(values) * 1.001


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_train_of_a_matrix_is_its_best_approximation_of_that_rank_eckart_and_young_1936(rank):
    matrix = np.random.default_rng(0).normal(size=(30, 40))
    u, s, v = np.linalg.svd(matrix)
    train = tt_svd(matrix, rank)
    best = (u[:, :rank] * s[:rank]) @ v[:rank]
    np.testing.assert_allclose(contract(train.cores).reshape(30, 40), best, atol=1e-12)
    assert train.error == pytest.approx(math.sqrt((s[rank:] ** 2).sum()), rel=1e-12)


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


@settings(max_examples=100)
@given(shapes, st.integers(0, 2**32), st.one_of(st.none(), st.integers(1, 6)), st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_the_error_of_any_train_is_exactly_the_root_of_the_squares_dropped(shape, seed, rank, tolerance):
    tensor = np.random.default_rng(seed).normal(size=shape)
    cores, error = tt_svd(tensor, rank, tolerance)
    letters = "abcdefghijk"
    chain = ",".join(letters[k] + "uvwxyz"[k] + letters[k + 1] for k in range(len(shape)))
    dense = np.einsum(f"{chain}->a{'uvwxyz'[: len(shape)]}{letters[len(shape)]}", *cores).reshape(shape)
    np.testing.assert_allclose(contract(cores).reshape(shape), dense, atol=1e-12)
    assert error == pytest.approx(np.linalg.norm(tensor - dense), abs=1e-12)
    norm = np.linalg.norm(tensor)
    assert rank is not None or error <= tolerance * norm + 1e-12
    for core in cores[:-1]:
        unfolded = core.reshape(-1, core.shape[2])
        np.testing.assert_allclose(unfolded.T @ unfolded, np.eye(core.shape[2]), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_norms_that_would_overflow_or_vanish_do_not(scale):
    tensor = scale * np.random.default_rng(1).normal(size=(4, 5, 3))
    reference = tt_svd(tensor / scale, 2)
    assert tt_svd(tensor, 2).error == pytest.approx(scale * reference.error, rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "largest", "expected"),
    [
        ((768,), 64, (24, 32)),
        ((768,), 3, (2, 2, 2, 2, 2, 2, 2, 2, 3)),
        ((1000, 10), 64, (25, 40, 10)),
        ((1, 7, 1), 64, (7,)),
        ((769,), 64, (769,)),
        ((2 * 769,), 64, (2, 769)),
        ((), 64, (1,)),
        ((1024, 4), 1024, (1024, 4)),
    ],
)
def test_modes_by_hand(shape, largest, expected):
    assert modes(shape, largest) == expected


@given(st.integers(1, 5000), st.integers(2, 100))
def test_modes_multiply_to_the_dimension_and_exceed_the_largest_no_more_than_a_prime_must(size, largest):
    factors = modes((size,), largest)
    assert math.prod(factors) == size
    prime = [
        factor for factor in range(2, size + 1) if size % factor == 0 and all(factor % d for d in range(2, factor))
    ]
    assert max(factors) <= max([largest, *prime])


SPECS = (ParamSpec("w", (20, 30)), ParamSpec("b", (5,)))


def low_rank(rank, noise):
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(20, rank)) @ rng.normal(size=(rank, 30)) + noise * rng.normal(size=(20, 30))
    return {"w": torch.tensor(matrix, dtype=torch.float32), "b": torch.arange(5.0)}


@pytest.mark.parametrize("codec", [TensorTrain(rank=2), TensorTrain(tolerance=0.2)], ids=str)
def test_the_error_that_is_reported_is_the_one_that_is_made_and_kept(codec):
    tensors = low_rank(3, 0.1)
    told = codec.errors(tensors, SPECS, {})
    data, meta, state = codec.encode(tensors, SPECS, {}, np.random.default_rng(0))
    made = (tensors["w"] - codec.decode(data, meta, SPECS)["w"]).norm().item()
    assert told["w"] == pytest.approx(made, rel=1e-5)
    assert state["w"].norm().item() == pytest.approx(made, rel=1e-6)
    assert told["b"] == 0
    again = codec.errors(tensors, SPECS, state)
    assert again["w"] != pytest.approx(told["w"], rel=1e-3)  # the memory counts


def test_a_tolerance_finds_the_rank_and_a_tensor_without_one_travels_as_it_is():
    codec = TensorTrain(tolerance=0.05)
    _, meta, _ = codec.encode(low_rank(3, 1e-3), SPECS, {}, np.random.default_rng(0))
    assert meta == (TensorMeta("w", "float32", (3,), 4 * 3 * 50), TensorMeta("b", "float32", (), 20))
    _, meta, state = codec.encode(low_rank(3, 10), SPECS, {}, np.random.default_rng(0))
    assert meta[0] == TensorMeta("w", "float32", (), 4 * 600)
    assert not state["w"].any()


@pytest.mark.parametrize(
    ("codec", "ranks"),
    [
        (TensorTrain(tolerance=0.1), (0,)),
        (TensorTrain(tolerance=0.1), (12,)),  # 12 x 50 numbers are as many as the matrix has
        (TensorTrain(tolerance=0.1), (21,)),
        (TensorTrain(tolerance=0.1), (2**40,)),
        (TensorTrain(tolerance=0.1), (2, 2)),
        (TensorTrain(rank=2), (3,)),
    ],
    ids=str,
)
def test_ranks_that_no_encoder_makes_are_refused(codec, ranks):
    size = 4 * 50 * ranks[0]
    meta = (TensorMeta("w", "float32", ranks, size), TensorMeta("b", "float32", (), 20))
    with pytest.raises(SealError, match="'w'"):
        codec.decode(b"\0" * (min(size, 10**5) + 20), meta, SPECS)


def test_cores_whose_product_overflows_are_refused():
    codec = TensorTrain(rank=2)
    data = np.full(100, 3e38, "<f4").tobytes() + bytes(20)
    meta = (TensorMeta("w", "float32", (2,), 400), TensorMeta("b", "float32", (), 20))
    with pytest.raises(SealError, match="'w' too large for float32"):
        codec.decode(data, meta, SPECS)
