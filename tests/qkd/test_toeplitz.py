import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError
from qfedfm.qkd import toeplitz
from qfedfm.qkd.toeplitz import Toeplitz, amplify


def random_bits(seed, *counts):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 2, count, dtype=np.uint8) for count in counts]


def naive(bits, rows, seed):
    """Row i by definition: sum over j of seed[n - 1 + i - j] bits[j], mod 2."""
    backwards, n = bits[::-1], len(bits)
    return np.array([np.count_nonzero(seed[i : i + n] & backwards) % 2 for i in rows], np.uint8)


def without_float64(monkeypatch):
    made = toeplitz._Tile.of

    def of(seed, inputs, outputs, dtype):
        assert dtype is np.float32
        return made(seed, inputs, outputs, dtype)

    monkeypatch.setattr(toeplitz._Tile, "of", of)


def test_all_3_by_7_matrices_collide_with_probability_one_eighth_as_krawczyk_1994_proves():
    collisions = np.zeros(127, int)
    inputs = np.array(list(itertools.product((0, 1), repeat=7)))[1:]
    for seed in itertools.product((0, 1), repeat=9):
        product = Toeplitz(np.array(seed, np.uint8), 7, 3)
        matrix = np.array([product(unit) for unit in np.eye(7, dtype=np.uint8)]).T
        assert (matrix == np.array([[seed[6 + i - j] for j in range(7)] for i in range(3)])).all()
        collisions += ((inputs @ matrix.T) % 2 == 0).all(axis=1)
    assert (collisions == 2**9 // 8).all()


@settings(max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32), st.sampled_from(["random", "zeros", "ones"]))
def test_equals_the_naive_product_bit_for_bit(n, m, seed, kind):
    bits, chosen = random_bits(seed, n, n + m - 1)
    bits = {"random": bits, "zeros": np.zeros_like(bits), "ones": np.ones_like(bits)}[kind]
    assert (amplify(bits, m, chosen) == naive(bits, range(m), chosen)).all()


@pytest.mark.parametrize(
    ("n", "m"), [(16_384, 16_384), (16_385, 16_383), (100_000, 7), (7, 100_000), (200_000, 90_001)]
)
def test_equals_the_naive_product_across_blocks(n, m):
    bits, seed = random_bits(1, n, n + m - 1)
    rows = np.unique(np.linspace(0, m - 1, 600).astype(int))
    assert (amplify(bits, m, seed)[rows] == naive(bits, rows, seed)).all()


def test_equals_the_product_of_polynomials_over_gf2():
    bits, seed = random_bits(2, 5000, 7499)
    shifted = 0
    for place in np.flatnonzero(bits).tolist():  # carry-less multiplication of Python's integers
        shifted ^= int.from_bytes(np.packbits(seed, bitorder="little").tobytes(), "little") << place
    expected = [(shifted >> (4999 + i)) & 1 for i in range(2500)]
    assert amplify(bits, 2500, seed).tolist() == expected


def test_a_million_random_bits_stay_within_a_hundredth_of_the_margin_in_float32(monkeypatch):
    without_float64(monkeypatch)
    monkeypatch.setattr(toeplitz, "TOLERANCE", 0.02)  # an error of 2 would be wrong
    n, m = 1_000_000, 500_000
    bits, seed = random_bits(3, n, n + m - 1)
    product = Toeplitz(seed, n, m)(bits)
    rows = np.random.default_rng(4).integers(0, m, 300)
    assert (product[rows] == naive(bits, rows, seed)).all()


@pytest.mark.parametrize("kind", ["ones", "zeros", "peak", "antipeak", "period"])
def test_inputs_chosen_against_float32_are_exact_too(kind):
    n, m = 1 << 21, 2000
    (seed,) = random_bits(5, n + m - 1)
    bits = seed[700 : 700 + n][::-1].copy()
    if kind == "antipeak":
        bits ^= 1
    elif kind != "peak":
        seed[:] = bits[:] = kind == "ones"
        if kind == "period":
            seed[::2] = bits[1::2] = 1
    rows = [0, 1, 699, 700, 701, 1998, 1999]
    assert (amplify(bits, m, seed)[rows] == naive(bits, rows, seed)).all()


def test_a_value_that_float32_may_round_is_computed_again_in_float64(monkeypatch):
    dtypes, made = [], toeplitz._Tile.of
    monkeypatch.setattr(toeplitz._Tile, "of", lambda *a: (dtypes.append(a[3]), made(*a))[1])
    n = 1 << 21
    (seed,) = random_bits(6, n + 9)
    amplify(seed[5 : 5 + n][::-1].copy(), 10, seed)
    assert dtypes == [np.float32, np.float64]


def test_float64_gives_the_same(monkeypatch):
    bits, seed = random_bits(7, 40_000, 59_999)
    expected = amplify(bits, 20_000, seed)
    monkeypatch.setattr(toeplitz, "LARGEST", 0.0)
    assert (amplify(bits, 20_000, seed) == expected).all()


@pytest.mark.parametrize(("n", "m"), [(1000, 999), (128, 64), (129, 65), (63, 300), (640, 1)])
def test_tiles_make_the_same_product(monkeypatch, n, m):
    bits, seed = random_bits(8, n, n + m - 1)
    monkeypatch.setattr(toeplitz, "TILE", 64)
    monkeypatch.setattr(toeplitz, "BLOCK", 16)
    assert (amplify(bits, m, seed) == naive(bits, range(m), seed)).all()


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_is_linear_over_gf2(n, m, seed):
    chosen, one, other = random_bits(seed, n + m - 1, n, n)
    product = Toeplitz(chosen, n, m)
    assert (product(one) ^ product(other) == product(one ^ other)).all()


def test_nothing_in_or_out_is_allowed():
    assert amplify(np.zeros(5, np.uint8), 0, np.zeros(4, np.uint8)).tolist() == []
    assert amplify(np.zeros(0, np.uint8), 3, np.zeros(2, np.uint8)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("bits", "length", "seed"),
    [
        (np.zeros(8, np.uint8), 4, np.zeros(12, np.uint8)),
        (np.zeros(8, np.uint8), 4, np.zeros(10, np.uint8)),
        (np.zeros(8, np.int64), 4, np.zeros(11, np.uint8)),
        (np.full(8, 2, np.uint8), 4, np.zeros(11, np.uint8)),
        (np.zeros((2, 4), np.uint8), 4, np.zeros(5, np.uint8)),
        (np.zeros(8, np.uint8), -1, np.zeros(6, np.uint8)),
    ],
)
def test_anything_but_bits_of_the_right_number_is_refused(bits, length, seed):
    with pytest.raises(ConfigurationError):
        amplify(bits, length, seed)
