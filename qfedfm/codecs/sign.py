"""Signs with error feedback: one bit for each value, and their mean absolute value for each tensor.

signSGD of Bernstein et al. 2018, arXiv:1802.04434, made to converge by the feedback and the scale of Karimireddy et al.
2019, arXiv:1901.09847: C(x) = mean|x| sign(x), whose error is ||x||^2 - ||x||_1^2 / n exactly. Of the papers' two kinds
of feedback this is the memory of what was left out, not EF21's difference to the last message (arXiv:2106.05203).
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..declaration import declared
from ..params import Params, Specs
from .dense import TensorMeta
from .flat import cut, itemsize, left_out, owed, pack, packed_bytes, read_scale, restore, unpack, write


@declared
class Sign:
    """mean|x| times the sign of each value, that of zero being plus.

    Bytes of a tensor: 4 or 8 for the scale and ceil(n / 8) for the signs, 1 for minus.
    """

    name: ClassVar[str] = "sign"

    def encode(
        self,
        tensors: Params,
        specs: Specs,
        state: Params,
        generator: np.random.Generator,  # noqa: ARG002  (part of the contract; nothing here is random)
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return bytes, meaning and what signs and scale did not say; see `Codec.encode`."""
        wanted = owed(tensors, specs, state)
        parts = []
        for spec in specs:
            values = wanted[spec.name]
            scale = np.abs(values).sum(dtype=np.float64) / max(1, spec.size)
            parts += [write(np.array([scale]), spec), pack(values < 0, 1)]
        data, meta = b"".join(parts), self.layout(specs)
        return data, meta, left_out(wanted, self.decode(data, meta, specs), specs)

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return tensors of plus and minus the scale; see `Codec.decode`."""
        arrays = []
        for part, spec in zip(cut(data, meta, self.layout(specs)), specs, strict=True):
            scale = read_scale(part[: itemsize(spec)], spec)
            minus = unpack(part[itemsize(spec) :], spec.size, 1)
            arrays.append(np.where(minus, -scale, scale))
        return restore(arrays, specs)

    def layout(self, specs: Specs) -> tuple[TensorMeta, ...]:
        """Return what a message for `specs` holds: of each tensor its signs, behind their scale."""
        return tuple(
            TensorMeta(spec.name, "bool", spec.shape, itemsize(spec) + packed_bytes(spec.size, 1)) for spec in specs
        )
