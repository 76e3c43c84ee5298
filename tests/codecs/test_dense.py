import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.codecs import Codec, Dense, TensorMeta
from qfedfm.errors import ConfigurationError, SealError
from qfedfm.params import ParamSpec

SPECS = (ParamSpec("w", (2, 2)), ParamSpec("angle", (), "float64", "angular", period=6.25))
META = (TensorMeta("w", "float32", (2, 2), 16), TensorMeta("angle", "float64", (), 8))
TENSORS = {"angle": torch.tensor(0.1, dtype=torch.float64), "w": torch.tensor([[1.0, -2.0], [0.5, 1e-3]])}
BYTES = struct.pack("<ffff", 1.0, -2.0, 0.5, 1e-3) + struct.pack("<d", 0.1)


def encode(tensors, specs=SPECS):
    return Dense().encode(tensors, specs, {}, np.random.default_rng(0))


def test_bytes_are_little_endian_c_order_in_spec_order_worked_by_hand():
    assert encode(TENSORS) == (BYTES, META, {})
    decoded = Dense().decode(BYTES, META, SPECS)
    assert list(decoded) == ["w", "angle"]
    assert all(torch.equal(decoded[name], TENSORS[name]) for name in TENSORS)


def test_memory_layout_autograd_and_unspecified_tensors_do_not_reach_the_wire():
    strided = {name: tensor.clone().requires_grad_() for name, tensor in TENSORS.items()}
    strided["w"] = TENSORS["w"].T.contiguous().T
    strided["frozen"] = torch.zeros(3)
    assert not strided["w"].is_contiguous()
    assert encode(strided)[0] == BYTES


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@settings(derandomize=True, max_examples=100)
@given(st.lists(st.tuples(shapes, st.sampled_from(["float32", "float64"])), max_size=5), st.integers(0, 2**32))
def test_what_was_encoded_is_decoded_bit_for_bit(layout, seed):
    specs = tuple(ParamSpec(f"p{i}", shape, dtype) for i, (shape, dtype) in enumerate(layout))
    rng = np.random.default_rng(seed)
    raw = {s.name: rng.bytes(s.size * (4 if s.dtype == "float32" else 8)) for s in specs}  # NaN and infinities too
    tensors = {s.name: torch.tensor(np.frombuffer(raw[s.name], s.dtype).reshape(s.shape)) for s in specs}
    data, meta, _ = encode(tensors, specs)
    assert data == b"".join(raw.values())
    decoded = Dense().decode(data, meta, specs)
    assert {name: tensor.numpy().tobytes() for name, tensor in decoded.items()} == raw
    assert [tensor.shape for tensor in decoded.values()] == [spec.shape for spec in specs]
    assert [tensor.dtype for tensor in decoded.values()] == [spec.torch_dtype for spec in specs]


def test_decoded_tensors_can_be_written_to_and_are_independent():
    first, second = (Dense().decode(BYTES, META, SPECS) for _ in range(2))
    first["w"] += 1
    assert torch.equal(second["w"], TENSORS["w"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"w": TENSORS["w"]},
        TENSORS | {"w": TENSORS["w"].double()},
        TENSORS | {"w": TENSORS["w"].reshape(4)},
        TENSORS | {"w": TENSORS["w"].expand(3, 2, 2)},
    ],
    ids=["missing", "dtype", "shape", "client axis"],
)
def test_tensors_that_are_not_what_the_spec_says_are_not_sent(wrong):
    with pytest.raises(ConfigurationError, match=r"tensor '(w|angle)' should be torch\.float"):
        encode(wrong)


@pytest.mark.parametrize(
    "meta",
    [
        META[:1],
        META[::-1],
        (*META, META[0]),
        (META[0]._replace(name="v"), META[1]),
        (META[0]._replace(dtype="float64"), META[1]),
        (META[0]._replace(shape=(4,)), META[1]),
        (META[0]._replace(shape=(2**40, 2**10)), META[1]),
        (META[0]._replace(bytes=15), META[1]),
    ],
)
def test_meta_that_does_not_fit_the_specs_is_refused(meta):
    with pytest.raises(SealError, match="the specs say"):
        Dense().decode(BYTES, meta, SPECS)


@pytest.mark.parametrize("data", [b"", BYTES[:-1], BYTES + b"\0"])
def test_bytes_of_another_length_are_refused(data):
    with pytest.raises(SealError, match=f"24 bytes of tensors, got {len(data)}"):
        Dense().decode(data, META, SPECS)


def test_dense_is_a_codec():
    assert isinstance(Dense(), Codec)
    assert Dense.name == "dense"
