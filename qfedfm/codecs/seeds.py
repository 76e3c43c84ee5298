"""Updates as seeds and scalars: x = sum_j s_j z_j, where z_j is made of the j-th seed by whoever knows it.

FedKSeed, Qin et al. 2024, arXiv:2312.06353: a client that trains along random directions need not send where it came
to, only how far it went along each. 16 bytes for each direction, however many parameters there are. Departure from the
paper: its directions are Gaussian, these are plus and minus one (as in SPSA, Spall 1992, doi:10.1109/9.119632), read
from the bits of Philox4x64-10. Nothing in them is rounded, so `reconstruct` makes the same bits on every machine.

There are two ways to a message:

- `SeedScalar.encode_directions` sends what `training.SeededDescent` did: what is decoded is its update bit for bit.
- `SeedScalar.encode`, as every codec, is given any update. It draws K directions and goes along each as far as brings
  it nearest: a random projection in K steps, s_j = z_j.r_j / n and r_{j+1} = r_j - s_j z_j, with
  E||r_K||^2 = (1 - 1/n)^K ||x||^2. What is not reached is kept and added to the next update (error feedback). Of n
  entries it says K numbers: it is no substitute for training along the directions.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError, SealError
from ..params import Params, Specs
from .dense import TensorMeta
from .flat import cut, left_out, owed, restore

Vector = NDArray[np.float64]

_BYTES = np.arange(256, dtype=np.uint8)[:, None]
_SIGNS = np.where(np.unpackbits(_BYTES, axis=1, bitorder="little"), 1.0, -1.0)
"""The eight signs of each byte, (256, 8): ten times as fast as telling bits one by one."""


class Seeded(NamedTuple):
    """Directions and how far to go along each: seeds (K,) uint64, scalars (K,) float64."""

    seeds: NDArray[np.uint64]
    scalars: Vector


@declared
class SeedScalar:
    """At most `directions` seeds and scalars, 16 bytes each, in place of all parameters together."""

    directions: int = 64
    name: ClassVar[str] = "seed-scalar"

    def __post_init__(self) -> None:
        if self.directions < 1:
            raise ConfigurationError(f"SeedScalar.directions: expected at least 1; got {self.directions}")

    def encode(
        self, tensors: Params, specs: Specs, state: Params, generator: np.random.Generator
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return bytes, meaning and what `directions` random directions did not reach; see `Codec.encode`."""
        wanted = owed(tensors, specs, state)
        rest = np.concatenate([np.zeros(0), *wanted.values()])
        seeds = draw_seeds(self.directions, generator)
        scalars = np.zeros(self.directions)
        for j, seed in enumerate(seeds):
            z = direction(int(seed), len(rest))
            scalars[j] = z @ rest / max(1, len(rest))
            rest -= scalars[j] * z
        made = Seeded(seeds, scalars)
        data, meta = self.encode_directions(made)
        return data, meta, left_out(wanted, reconstruct(made, specs), specs)

    def encode_directions(self, made: Seeded) -> tuple[bytes, tuple[TensorMeta, ...]]:
        """Return bytes and meaning of seeds and scalars as they are; they decode to `reconstruct(made, specs)`.

        More than `directions`, or scalars that are not finite, raise `ConfigurationError`.
        """
        count = len(made.seeds)
        if count > self.directions or len(made.scalars) != count or not np.isfinite(made.scalars).all():
            raise ConfigurationError(
                f"expected at most {self.directions} seeds with as many finite scalars; got {count} seeds and "
                f"{len(made.scalars)} scalars: raise SeedScalar.directions, or lower the learning rate"
            )
        return made.seeds.astype("<u8").tobytes() + made.scalars.astype("<f8").tobytes(), _layout(count)

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return the tensors that seeds and scalars stand for; see `Codec.decode`. Costs a pass for each direction."""
        count = meta[0].bytes // 8 if meta else -1
        if not 0 <= count <= self.directions:
            raise SealError(f"the message should hold from 0 to {self.directions} directions, got {tuple(meta)!r:.300}")
        seeds, scalars = cut(data, meta, _layout(count))
        made = Seeded(np.frombuffer(seeds, "<u8"), np.frombuffer(scalars, "<f8"))
        if not np.isfinite(made.scalars).all():
            raise SealError("the message holds scalars that are NaN or infinite")
        return reconstruct(made, specs)


def direction(seed: int, size: int) -> Vector:
    """Return `(size,)` entries: +1 where the bit of the Philox4x64-10 stream with key `seed` is set, -1 elsewhere.

    seed: below 2^64. Bits are counted from the lowest of each 64-bit word.
    """
    words = np.random.Philox(key=seed).random_raw(-(-size // 64)).astype("<u8", copy=False)
    return _SIGNS.take(words.view(np.uint8), axis=0).reshape(-1)[:size]


def draw_seeds(count: int, generator: np.random.Generator) -> NDArray[np.uint64]:
    """Return `(count,)` seeds, uniform below 2^64."""
    return generator.integers(2**64 - 1, size=count, endpoint=True, dtype=np.uint64)


def reconstruct(made: Seeded, specs: Specs) -> Params:
    """Return sum_j s_j z_j as tensors in spec order.

    A direction runs through all tensors. Summed in float64 in the order of `made`, rounded once to the type of each
    spec; a sum that is not finite raises `SealError`.
    """
    total = np.zeros(sum(spec.size for spec in specs))
    with np.errstate(over="ignore", invalid="ignore"):
        for seed, scalar in zip(made.seeds, made.scalars, strict=True):
            total += scalar * direction(int(seed), len(total))
    return divide(total, specs)


def divide(vector: Vector, specs: Specs) -> Params:
    """Return a vector of all parameters as tensors, each rounded to the type of its spec."""
    ends = np.cumsum([spec.size for spec in specs])
    return restore(np.split(vector, ends[:-1]) if specs else [], specs)


def _layout(count: int) -> tuple[TensorMeta, TensorMeta]:
    return TensorMeta("seeds", "uint64", (count,), 8 * count), TensorMeta("scalars", "float64", (count,), 8 * count)
