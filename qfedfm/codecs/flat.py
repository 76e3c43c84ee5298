"""What the lossy codecs share: tensors as flat arrays, and a message that is checked before it is read.

Angles are treated as the numbers they are: a codec gets differences, wrapped to the shorter way round and mostly small.
What is decoded may lie half a period away or more; it then means the same angle as its remainder.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigurationError, SealError
from ..params import Params, ParamSpec, Specs, misfit
from .dense import WIRE_DTYPES, TensorMeta

Flat = NDArray[Any]


def flatten(tensors: Params, specs: Specs) -> dict[str, Flat]:
    """Return `(size,)` arrays of the tensors that `specs` name; those without a spec stay at home.

    What is missing, of another shape or dtype, NaN or infinite raises `ConfigurationError`: a lossy codec would spread
    one bad value over many.
    """
    reason = misfit({spec.name: tensors[spec.name] for spec in specs if spec.name in tensors}, specs)
    if reason:
        raise ConfigurationError(f"{reason}; a codec sends finite tensors as the specs say: try a lower learning rate")
    return {spec.name: tensors[spec.name].detach().cpu().numpy().reshape(-1) for spec in specs}


def restore(arrays: Sequence[Flat], specs: Specs) -> Params:
    """Return decoded `(size,)` arrays as tensors in spec order, in the specs' shapes and types, in their own memory.

    A value that is too large for that type raises `SealError`.
    """
    tensors: Params = {}
    for spec, array in zip(specs, arrays, strict=True):
        with np.errstate(over="ignore"):
            values = array.astype(spec.dtype)
        if not np.isfinite(values).all():
            raise SealError(f"the message makes values of '{spec.name}' too large for {spec.dtype}: it was not decoded")
        tensors[spec.name] = torch.from_numpy(values.reshape(spec.shape))
    return tensors


def cut(data: bytes, meta: Sequence[TensorMeta], layout: Sequence[TensorMeta]) -> list[memoryview]:
    """Return the bytes of each item of `layout`; what is not laid out like that raises `SealError`.

    Only lengths are looked at and nothing is copied, so no claim of the message can cost memory.
    """
    if tuple(meta) != tuple(layout):
        raise SealError(f"the message holds {tuple(meta)!r:.300}, but the specs say {tuple(layout)!r:.300}")
    total = sum(item.bytes for item in layout)
    if len(data) != total:
        raise SealError(f"the message should hold {total} bytes of tensors, got {len(data)}")
    ends = np.cumsum([item.bytes for item in layout], dtype=np.int64).tolist()
    return [memoryview(data)[end - item.bytes : end] for item, end in zip(layout, ends, strict=True)]


def read(part: memoryview, spec: ParamSpec) -> Flat:
    """Return the numbers that `part` holds in the type of `spec`, little-endian; NaN or infinity raise `SealError`."""
    numbers = np.frombuffer(part, WIRE_DTYPES[spec.dtype])
    if not np.isfinite(numbers).all():
        raise SealError(f"the message holds numbers for '{spec.name}' that are NaN or infinite: it was not decoded")
    return numbers


def read_scale(part: memoryview, spec: ParamSpec) -> float:
    """Return the one number that `part` holds, as `read`; a negative scale raises `SealError`."""
    scale = float(read(part, spec)[0])
    if scale < 0:
        raise SealError(f"the scale of '{spec.name}' should not be negative, got {scale}")
    return scale


def write(values: Flat, spec: ParamSpec) -> bytes:
    """Return `values` as bytes in the type of `spec`, little-endian; too large ones raise `ConfigurationError`."""
    with np.errstate(over="ignore"):
        numbers = values.astype(WIRE_DTYPES[spec.dtype])
    if not np.isfinite(numbers).all():
        raise ConfigurationError(f"'{spec.name}' is too large to be sent in {spec.dtype}: try a lower learning rate")
    return numbers.tobytes()


def itemsize(spec: ParamSpec) -> int:
    """Return the bytes of one number of `spec`."""
    return WIRE_DTYPES[spec.dtype].itemsize


def pack(values: Flat, width: int) -> bytes:
    """Return whole numbers below 2^width (at most 32) one after another in `width` bits each, lowest bit first."""
    words = values.astype("<u1" if width <= 8 else "<u4")
    bits = np.unpackbits(words.view(np.uint8).reshape(len(values), words.itemsize), axis=1, bitorder="little")
    return np.packbits(bits[:, :width], bitorder="little").tobytes()


def unpack(part: memoryview, count: int, width: int) -> Flat:
    """Return the `(count,)` numbers that `pack` wrote; bits set behind the last of them raise `SealError`."""
    bits = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little")
    if bits[count * width :].any():
        raise SealError("the bits that fill up a message's last byte should be zero")
    dtype = np.dtype("<u1" if width <= 8 else "<u4")
    words = np.zeros((count, 8 * dtype.itemsize), np.uint8)
    words[:, :width] = bits[: count * width].reshape(count, width)
    return np.packbits(words, axis=1, bitorder="little").reshape(-1).view(dtype)


def packed_bytes(count: int, width: int) -> int:
    """Return the length of `pack` of `count` numbers: ceil(count width / 8)."""
    return -(-count * width // 8)


def kept(fraction: float, spec: ParamSpec) -> int:
    """Return how many entries a fraction of a tensor is, rounded up."""
    return math.ceil(round(fraction * spec.size, 9))


def check_fraction(owner: str, fraction: float) -> None:
    """Refuse fractions outside (0, 1]."""
    if not 0 < fraction <= 1:
        raise ConfigurationError(f"{owner}.fraction: expected more than 0 and at most 1; got {fraction}")


def largest(values: Flat, count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` largest values, rising; of equal ones the first: the same on any machine."""
    if count in (0, len(values)):
        return np.arange(count)
    least = np.partition(values, len(values) - count)[len(values) - count]
    above = values > least
    above[np.flatnonzero(values == least)[: count - np.count_nonzero(above)]] = True
    return np.flatnonzero(above)


def owed(tensors: Params, specs: Specs, state: Mapping[str, torch.Tensor]) -> dict[str, Flat]:
    """Return `(size,)` arrays of what a sender owes: its update and what earlier messages left out.

    A memory of the biased codecs (error feedback): what was sent in all differs from the sum of all updates by nothing
    but the last state. An update like those that `flatten` refuses raises `ConfigurationError`.
    """
    wanted = flatten(tensors, specs)
    for name in wanted.keys() & state.keys():
        wanted[name] = wanted[name] + state[name].numpy().reshape(-1)
    return wanted


def left_out(wanted: Mapping[str, Flat], sent: Params, specs: Specs) -> Params:
    """Return the state for the next message: what was owed minus what the receiver decodes."""
    return {spec.name: torch.from_numpy(wanted[spec.name].reshape(spec.shape)) - sent[spec.name] for spec in specs}
