"""What lies in the bytes of each codec, worked by hand or by an independent route, and what is refused in them."""

import struct

import numpy as np
import philox
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.codecs.flat import largest, pack, packed_bytes, unpack
from qfedfm.codecs.quantized import Quantized
from qfedfm.codecs.random_sparsification import RandomSparsification, positions
from qfedfm.codecs.sign import Sign
from qfedfm.codecs.topk import TopK
from qfedfm.errors import ConfigurationError, SealError
from qfedfm.params import ParamSpec


def specs(n, dtype="float32"):
    return (ParamSpec("w", (n,), dtype),)


def encode(codec, values, generator=None, dtype="float32"):
    tensors = {"w": torch.tensor(values, dtype=torch.float32 if dtype == "float32" else torch.float64)}
    generator = generator or np.random.default_rng(0)
    data, meta, state = codec.encode(tensors, specs(len(values), dtype), {}, generator)
    return data, meta, codec.decode(data, meta, specs(len(values), dtype))["w"].tolist(), state


def refused(codec, data, n):
    meta = codec.layout(specs(n))
    with pytest.raises(SealError) as error:
        codec.decode(data, meta, specs(n))
    return str(error.value)


def test_top_k_by_hand():
    # positions 1 and 2 in two bits each, lowest bit first: 10 01; then the values
    data, meta, decoded, state = encode(TopK(0.5), [0.5, -2.0, 1.0])
    assert data == b"\x09" + struct.pack("<ff", -2, 1)
    assert meta == (("w", "float32", (2,), 9),)
    assert decoded == [0, -2, 1]
    assert state["w"].tolist() == [0.5, 0, 0]


def test_of_equal_entries_top_k_sends_the_first():
    assert encode(TopK(0.5), [1.0, -3.0, 1.0, -1.0, 3.0, 1.0])[2] == [1, -3, 0, 0, 3, 0]


@pytest.mark.parametrize("fraction", [0.01, 0.07, 0.5, 1.0])
def test_top_k_leaves_out_at_most_the_share_of_stich_et_al_2018(fraction):
    # their definition 2.1 with k / d at least the fraction, and what is left out is the smallest: checked by sorting
    x = np.random.default_rng(1).normal(size=100)
    _, _, decoded, state = encode(TopK(fraction), x, dtype="float64")
    left = float(state["w"].square().sum())
    assert left <= (1 - fraction) * (x**2).sum() + 1e-12
    assert left == pytest.approx((np.sort(x**2)[: 100 - round(100 * fraction)]).sum(), abs=1e-12)
    assert np.count_nonzero(decoded) == round(100 * fraction)


@pytest.mark.parametrize(("places", "why"), [((2, 1), "rise"), ((1, 1), "rise"), ((0, 3), "below 3"), ((3, 3), "rise")])
def test_positions_of_top_k_that_repeat_fall_or_lie_outside_are_refused(places, why):
    data = bytes([places[0] | places[1] << 2]) + struct.pack("<ff", 1, 1)
    assert why in refused(TopK(0.5), data, 3)


def test_filling_bits_that_are_set_are_refused():
    assert "last byte" in refused(TopK(0.5), b"\x19" + struct.pack("<ff", 1, 1), 3)
    assert "last byte" in refused(Sign(), struct.pack("<f", 1) + b"\x08", 3)
    assert "last byte" in refused(Quantized(4), struct.pack("<f", 1) + b"\x11\x17", 3)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(("codec", "rest"), [(Sign(), 1), (Quantized(4), 2), (Quantized(8), 3)], ids=str)
def test_scales_that_are_not_finite_or_negative_are_refused(codec, rest, scale):
    assert "'w'" in refused(codec, struct.pack("<f", scale) + bytes(rest), 3)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value):
    assert "NaN or infinite" in refused(TopK(0.5), b"\x09" + struct.pack("<ff", 1, value), 3)
    assert "NaN or infinite" in refused(RandomSparsification(0.5), bytes(8) + struct.pack("<ff", value, 1), 3)


def test_values_that_would_be_sent_as_infinity_are_refused_before_they_are():
    with pytest.raises(ConfigurationError, match="'w' is too large to be sent in float32"):
        encode(RandomSparsification(0.01), [3e38] * 100)


def test_four_and_eight_bits_by_hand():
    # values on the grid are not rounded; codes count from -7 or -127, the lower half of a byte first
    data, meta, decoded, state = encode(Quantized(4), [7.0, -7.0, 3.0, 0.0, 1.0])
    assert data == struct.pack("<f", 7) + bytes([0x0E, 0x7A, 0x08])
    assert meta == (("w", "uint4", (5,), 7),)
    assert decoded == [7, -7, 3, 0, 1]
    assert state == {}
    data, meta, decoded, _ = encode(Quantized(8), [-127.0, 0.0, 127.0, 64.0])
    assert data == struct.pack("<f", 127) + bytes([0, 127, 254, 191])
    assert decoded == [-127, 0, 127, 64]


def test_a_code_above_all_levels_is_refused():
    assert "at most 14" in refused(Quantized(4), struct.pack("<f", 1) + b"\xf0", 2)
    assert "at most 254" in refused(Quantized(8), struct.pack("<f", 1) + b"\xff\x00", 2)


class Last:
    """The largest number that NumPy's `random` returns, every time."""

    def random(self, size):
        return np.full(size, np.nextafter(1, 0))


def test_the_largest_random_number_does_not_push_a_value_over_the_scale():
    assert encode(Quantized(8), [1.0, 0.5, -1.0], Last())[2][0] == 1.0


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_goes_to_a_neighbour_on_the_grid(bits):
    x = np.random.default_rng(2).normal(size=1000)
    step = np.abs(x).max() / (2 ** (bits - 1) - 1)
    decoded = np.array(encode(Quantized(bits), x, dtype="float64")[2])
    assert np.abs(decoded - x).max() < step * (1 + 1e-12)
    assert np.allclose(decoded / step, np.round(decoded / step), atol=1e-9)


def test_signs_by_hand():
    data, meta, decoded, state = encode(Sign(), [1.0, -3.0, 0.0, 4.0])
    assert data == struct.pack("<f", 2) + b"\x02"
    assert meta == (("w", "bool", (4,), 5),)
    assert decoded == [2, -2, 2, 2]
    assert state["w"].tolist() == [-1, -1, -2, 2]


def test_the_error_of_signs_is_that_of_karimireddy_et_al_2019():
    # ||x - C(x)||^2 = (1 - ||x||_1^2 / (d ||x||_2^2)) ||x||^2, their phi(x)
    x = np.random.default_rng(3).normal(size=500)
    left = encode(Sign(), x, dtype="float64")[3]["w"].numpy()
    assert (left**2).sum() == pytest.approx((x**2).sum() - np.abs(x).sum() ** 2 / 500, rel=1e-12)


def test_our_philox_is_that_of_the_published_known_answers():
    # Random123 1.14, kat_vectors, philox4x64 10 rounds: all zeros, all ones
    assert philox.block((0, 0, 0, 0), (0, 0)) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]
    assert philox.block((philox.MASK,) * 4, (philox.MASK,) * 2) == [
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 12345, 2**64 - 1])
@pytest.mark.parametrize(("size", "count"), [(1, 1), (10, 3), (257, 40)])
def test_random_positions_are_those_of_the_largest_philox_words(seed, size, count):
    keys = philox.words(seed, size)
    by_hand = sorted(sorted(range(size), key=lambda i: -keys[i])[:count])
    assert positions(seed, size, count).tolist() == by_hand


def test_random_sparsification_sends_a_seed_and_enlarged_values():
    x = np.random.default_rng(4).normal(size=10)
    data, _, decoded, _ = encode(RandomSparsification(0.3), x, dtype="float64")
    seed, *values = struct.unpack("<Qddd", data)
    places = sorted(sorted(range(10), key=lambda i: -philox.words(seed, 10)[i])[:3])
    assert values == pytest.approx((x[places] * 10 / 3).tolist(), rel=1e-15)
    assert [i for i, value in enumerate(decoded) if value] == places


def test_every_position_is_as_likely():
    # 10,000 draws of 3 of 10 with seed 0: sigma of a count is sqrt(10,000 x .3 x .7) = 46; 5 sigma. Pairs: .0667, 25.
    generator = np.random.default_rng(0)
    drawn = np.zeros((10_000, 10))
    for row in drawn:
        row[positions(int(generator.integers(2**63)), 10, 3)] = 1
    assert np.abs(drawn.sum(0) - 3000).max() < 230
    pairs = (drawn.T @ drawn)[np.triu_indices(10, 1)]
    assert np.abs(pairs - 10_000 / 15).max() < 125


@given(st.integers(0, 32), st.integers(0, 50), st.integers(0, 2**32))
def test_packed_numbers_are_unpacked(width, count, seed):
    values = np.random.default_rng(seed).integers(2**width, size=count, dtype=np.uint64)
    data = pack(values, width)
    assert len(data) == packed_bytes(count, width)
    assert int.from_bytes(data, "little") == sum(int(value) << (width * i) for i, value in enumerate(values))
    assert unpack(memoryview(data), count, width).tolist() == values.tolist()


@given(st.lists(st.integers(0, 5), max_size=20), st.data())
def test_the_largest_are_found_like_by_a_stable_sort(values, data):
    count = data.draw(st.integers(0, len(values)))
    by_sort = sorted(np.argsort(-np.array(values, dtype=int), kind="stable")[:count].tolist())
    assert largest(np.array(values, dtype=int), count).tolist() == by_sort
