"""Random sparsification: entries chosen by chance, enlarged so that the mean is right; their positions cost one seed.

Random masks of Konecny et al. 2016, arXiv:1610.05492, whose seed travels in place of positions; uniform case of Wangni
et al. 2018, arXiv:1710.09854. Of n entries k = ceil(fraction n) are sent times n / k, and so E[C(x)] = x and
E||C(x) - x||^2 = (n / k - 1) ||x||^2. Nothing is remembered: feedback of an error larger than the update would diverge.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..declaration import declared
from ..params import Params, Specs
from .dense import TensorMeta
from .flat import check_fraction, cut, flatten, itemsize, kept, largest, read, restore, write

SEED_BYTES = 8


@declared
class RandomSparsification:
    """k = ceil(fraction n) random entries of each tensor, times n / k: unbiased.

    Bytes of a tensor: 8 for the seed of its positions and 4 or 8 k for the values.
    """

    fraction: float = 0.01
    name: ClassVar[str] = "random-sparsification"

    def __post_init__(self) -> None:
        check_fraction("RandomSparsification", self.fraction)

    def encode(
        self, tensors: Params, specs: Specs, state: Params, generator: np.random.Generator
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return bytes, meaning and `state` untouched; see `Codec.encode`."""
        update = flatten(tensors, specs)
        parts = []
        for spec in specs:
            seed = int(generator.integers(2**64 - 1, endpoint=True, dtype=np.uint64))
            count = kept(self.fraction, spec)
            chosen = update[spec.name][positions(seed, spec.size, count)].astype(np.float64)
            parts += [seed.to_bytes(SEED_BYTES, "little"), write(chosen * (spec.size / max(1, count)), spec)]
        return b"".join(parts), self.layout(specs), state

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return the tensors, zero where nothing was sent; see `Codec.decode`."""
        arrays = []
        for part, spec in zip(cut(data, meta, self.layout(specs)), specs, strict=True):
            seed = int.from_bytes(part[:SEED_BYTES], "little")
            values = np.zeros(spec.size, spec.dtype)
            values[positions(seed, spec.size, kept(self.fraction, spec))] = read(part[SEED_BYTES:], spec)
            arrays.append(values)
        return restore(arrays, specs)

    def layout(self, specs: Specs) -> tuple[TensorMeta, ...]:
        """Return what a message for `specs` holds: of each tensor the k values that are sent."""
        counts = [kept(self.fraction, spec) for spec in specs]
        return tuple(
            TensorMeta(spec.name, spec.dtype, (count,), SEED_BYTES + count * itemsize(spec))
            for spec, count in zip(specs, counts, strict=True)
        )


def positions(seed: int, size: int, count: int) -> NDArray[np.intp]:
    """Return `count` of the positions below `size`, every subset as likely, rising.

    Those of the `count` largest among `size` words of Philox4x64-10 with key `seed`: raw words, unlike what NumPy makes
    of them, are the same in every version.
    """
    return largest(np.random.Philox(key=seed).random_raw(size), count)
