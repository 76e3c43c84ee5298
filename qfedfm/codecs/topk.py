"""Top-k sparsification with error feedback: the largest entries travel, the others wait for a later message.

Stich, Cordonnier and Jaggi 2018, "Sparsified SGD with memory", arXiv:1809.07599. A tensor of n entries sends
k = ceil(fraction n), so that ||x - C(x)||^2 <= (1 - fraction) ||x||^2. The paper takes the k largest of all parameters
together, here it is those of each tensor: the bound is the same, no small tensor starves beside a large one, and the
length of a message is known beforehand.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..declaration import declared
from ..errors import SealError
from ..params import Params, ParamSpec, Specs
from .dense import TensorMeta
from .flat import (
    check_fraction,
    cut,
    itemsize,
    kept,
    largest,
    left_out,
    owed,
    pack,
    packed_bytes,
    read,
    restore,
    unpack,
    write,
)


@declared
class TopK:
    """The k = ceil(fraction n) entries of each tensor that are largest in absolute value; of equal ones the first.

    Bytes of a tensor: ceil(k ceil(log2 n) / 8) for the positions, rising, and 4 or 8 k for the values, exact.
    """

    fraction: float = 0.01
    name: ClassVar[str] = "top-k"

    def __post_init__(self) -> None:
        check_fraction("TopK", self.fraction)

    def encode(
        self,
        tensors: Params,
        specs: Specs,
        state: Params,
        generator: np.random.Generator,  # noqa: ARG002  (part of the contract; nothing here is random)
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return bytes, meaning and the entries that were not sent; see `Codec.encode`."""
        wanted = owed(tensors, specs, state)
        parts = []
        for spec in specs:
            values = wanted[spec.name]
            positions = largest(np.abs(values), kept(self.fraction, spec))
            parts += [pack(positions, _width(spec)), write(values[positions], spec)]
        data, meta = b"".join(parts), self.layout(specs)
        return data, meta, left_out(wanted, self.decode(data, meta, specs), specs)

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return the tensors, zero where nothing was sent; see `Codec.decode`."""
        arrays = []
        for part, spec in zip(cut(data, meta, self.layout(specs)), specs, strict=True):
            count = kept(self.fraction, spec)
            split = packed_bytes(count, _width(spec))
            positions = unpack(part[:split], count, _width(spec)).astype(np.int64)
            if count and (positions[-1] >= spec.size or (np.diff(positions) <= 0).any()):
                raise SealError(f"the positions in '{spec.name}' should rise and stay below {spec.size}")
            values = np.zeros(spec.size, spec.dtype)
            values[positions] = read(part[split:], spec)
            arrays.append(values)
        return restore(arrays, specs)

    def layout(self, specs: Specs) -> tuple[TensorMeta, ...]:
        """Return what a message for `specs` holds: of each tensor the k values that are sent."""
        items = []
        for spec in specs:
            count = kept(self.fraction, spec)
            size = packed_bytes(count, _width(spec)) + count * itemsize(spec)
            items.append(TensorMeta(spec.name, spec.dtype, (count,), size))
        return tuple(items)


def _width(spec: ParamSpec) -> int:
    """Return the bits of a position: ceil(log2 n), none where there is one entry."""
    return max(0, spec.size - 1).bit_length()
