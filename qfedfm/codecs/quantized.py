"""Stochastic uniform quantisation: 8 or 4 bits for each value and one scale for each tensor, unbiased.

QSGD, Alistarh et al. 2017, arXiv:1610.02132, with the largest absolute value as the scale in place of the Euclidean
norm (as in the authors' experiments) and codes of fixed width in place of Elias codes. With L = 2^(bits - 1) - 1 levels
and step = max|x| / L, a value goes to one of the two multiples of the step beside it, the nearer the likelier:
E[C(x)] = x and E(C(x) - x)^2 = step^2 f (1 - f) <= step^2 / 4, with f its place between the two.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from ..declaration import declared
from ..errors import SealError
from ..params import Params, Specs
from .dense import TensorMeta
from .flat import cut, flatten, itemsize, pack, packed_bytes, read_scale, restore, unpack, write


@declared
class Quantized:
    """Values rounded at random to -L ... L times max|x| / L, with L = 127 (8 bits) or 7 (4 bits): unbiased.

    Bytes of a tensor: 4 or 8 for the scale and ceil(n bits / 8) for the codes, which count from -L upwards.
    """

    bits: Literal[4, 8] = 8
    name: ClassVar[str] = "quantized"

    def encode(
        self, tensors: Params, specs: Specs, state: Params, generator: np.random.Generator
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return bytes, meaning and `state` untouched; see `Codec.encode`."""
        update = flatten(tensors, specs)
        parts = []
        for spec in specs:
            values = update[spec.name].astype(np.float64)
            scale = np.abs(values).max(initial=0)
            steps = values / (scale or 1.0) * self._levels
            codes = np.floor(steps + generator.random(spec.size)) + self._levels
            codes = codes.clip(max=2 * self._levels)  # L + .999... can be rounded up to L + 1
            parts += [write(np.array([scale]), spec), pack(codes, self.bits)]
        return b"".join(parts), self.layout(specs), state

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return the tensors as rounded; see `Codec.decode`."""
        arrays = []
        for part, spec in zip(cut(data, meta, self.layout(specs)), specs, strict=True):
            scale = read_scale(part[: itemsize(spec)], spec)
            codes = unpack(part[itemsize(spec) :], spec.size, self.bits)
            if codes.max(initial=0) > 2 * self._levels:
                raise SealError(f"the codes of '{spec.name}' should be at most {2 * self._levels}")
            arrays.append((codes.astype(np.float64) - self._levels) / self._levels * scale)
        return restore(arrays, specs)

    def layout(self, specs: Specs) -> tuple[TensorMeta, ...]:
        """Return what a message for `specs` holds: of each tensor its codes, behind their scale."""
        return tuple(
            TensorMeta(spec.name, f"uint{self.bits}", spec.shape, itemsize(spec) + packed_bytes(spec.size, self.bits))
            for spec in specs
        )

    @property
    def _levels(self) -> int:
        return int(2 ** (self.bits - 1) - 1)
