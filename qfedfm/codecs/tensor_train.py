"""Tensor trains (matrix product states): a tensor as a chain of small cores, cut where its singular values are small.

TT-SVD of Oseledets 2011, doi:10.1137/090752286, "quantum-inspired" in that the same format holds the state of a chain
of qubits with little entanglement. A(i_1 ... i_d) = G_1[i_1] ... G_d[i_d] with G_k of shape (r_{k-1}, n_k, r_k) and
r_0 = r_d = 1.
The cores but the last have orthonormal columns, and so ||A - TT(A)||^2 is the sum of the squares of all singular values
that were dropped: equal to it, not only bounded by it. Cores are computed in float64 and rounded to the tensor's own
type when they are sent, which adds an error of that type's precision.

Dimensions can be split into modes first (`modes`; Novikov et al. 2015, arXiv:1509.06569). Rows stay before columns, so
a matrix of rank r, as few gradients make one, is a train whose middle rank is r. For updates of a dense layer short
modes do not pay: at equal bytes the plain matrix factors of unsplit dimensions come nearer. They do for a long vector,
which has no other cut, and for functions on a grid. A tensor whose train would take as much room as itself travels as
it is, as one core.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError, SealError
from ..params import Params, ParamSpec, Specs
from .dense import TensorMeta
from .flat import Flat, cut, itemsize, left_out, owed, read, restore, write

Cores = list[NDArray[np.float64]]
Shapes = list[tuple[int, int, int]]


class Train(NamedTuple):
    """Cores (r_{k-1}, n_k, r_k) in float64, and the Euclidean distance of what they make to what they were made of."""

    cores: Cores
    error: float


@declared
class TensorTrain:
    """Trains of ranks at most `rank`, or with an error of at most `tolerance` times the norm; one of them is given.

    rank: with it the length of a message is known beforehand. tolerance: between 0 and 1; ranks and length follow from
    the update, and ranks stand in the header, in clear. largest_mode: dimensions above it are split as `modes` says.
    What is cut off stays in the sender's state and is added to its next update (error feedback).

    Bytes of a tensor: 4 or 8 times sum_k r_{k-1} n_k r_k, at most those of the tensor itself.
    """

    rank: int | None = None
    tolerance: float | None = None
    largest_mode: int = 1024
    name: ClassVar[str] = "tensor-train"

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.tolerance is None):
            raise ConfigurationError("TensorTrain: give one of rank (such as 8) and tolerance (such as 0.1)")
        if self.rank is not None and self.rank < 1:
            raise ConfigurationError(f"TensorTrain.rank: expected at least 1; got {self.rank}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ConfigurationError(f"TensorTrain.tolerance: expected between 0 and 1; got {self.tolerance}")
        if self.largest_mode < 2:
            raise ConfigurationError(f"TensorTrain.largest_mode: expected at least 2; got {self.largest_mode}")

    def encode(
        self,
        tensors: Params,
        specs: Specs,
        state: Params,
        generator: np.random.Generator,  # noqa: ARG002  (part of the contract; nothing here is random)
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return bytes, meaning and what was cut off; see `Codec.encode`."""
        wanted = owed(tensors, specs, state)
        parts, items = [], []
        for spec in specs:
            cores = self._compress(wanted[spec.name], spec).cores
            part = b"".join(write(core, spec) for core in cores)
            parts.append(part)
            items.append(TensorMeta(spec.name, spec.dtype, tuple(core.shape[2] for core in cores[:-1]), len(part)))
        data, meta = b"".join(parts), tuple(items)
        return data, meta, left_out(wanted, self.decode(data, meta, specs), specs)

    def errors(self, tensors: Params, specs: Specs, state: Params) -> dict[str, float]:
        """Return for each tensor the Euclidean norm of what `encode` cuts off, from the singular values dropped."""
        wanted = owed(tensors, specs, state)
        return {spec.name: self._compress(wanted[spec.name], spec).error for spec in specs}

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return the tensors that the trains make, after their ranks were checked; see `Codec.decode`.

        A contraction never holds more numbers than the tensor has.
        """
        ranks = [item.shape for item in meta]
        if len(ranks) != len(specs):
            raise SealError(f"the message holds {len(ranks)} tensors, but the specs say {len(specs)}")
        plans = [self._shapes(spec, inner) for spec, inner in zip(specs, ranks, strict=True)]
        layout = [
            TensorMeta(spec.name, spec.dtype, inner, itemsize(spec) * _entries(shapes))
            for spec, inner, shapes in zip(specs, ranks, plans, strict=True)
        ]
        arrays = []
        for part, spec, shapes in zip(cut(data, meta, layout), specs, plans, strict=True):
            numbers = read(part, spec).astype(np.float64)
            ends = np.cumsum([math.prod(shape) for shape in shapes])
            pieces = np.split(numbers, ends[:-1])
            with np.errstate(over="ignore", invalid="ignore"):
                arrays.append(contract([piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]))
        return restore(arrays, specs)

    def _compress(self, values: Flat, spec: ParamSpec) -> Train:
        """Return the train of a tensor, or the tensor as one core where a train is no shorter."""
        whole = Train([values.astype(np.float64).reshape(1, -1, 1)], 0.0)
        sizes = modes(spec.shape, self.largest_mode)
        if not self._worth(spec, _ranks(sizes, self.rank or 1)):
            return whole
        train = tt_svd(values.reshape(sizes), self.rank, self.tolerance or 0.0)
        return train if self._worth(spec, [core.shape[2] for core in train.cores[:-1]]) else whole

    def _worth(self, spec: ParamSpec, ranks: Sequence[int]) -> bool:
        return _entries(_cores(modes(spec.shape, self.largest_mode), ranks)) < spec.size

    def _shapes(self, spec: ParamSpec, ranks: Sequence[int]) -> Shapes:
        """Return the shapes of the cores with these inner ranks; ranks that no encoder makes raise `SealError`."""
        if not ranks:
            return [(1, spec.size, 1)]
        sizes = modes(spec.shape, self.largest_mode)
        most = _ranks(sizes, self.rank)
        if len(ranks) != len(most) or not all(1 <= rank <= top for rank, top in zip(ranks, most, strict=True)):
            raise SealError(f"the ranks of '{spec.name}' should be from 1 to {most}, got {tuple(ranks)!r:.100}")
        if not self._worth(spec, ranks):
            raise SealError(f"'{spec.name}' is longer as a train of ranks {tuple(ranks)} than as it is")
        return _cores(sizes, ranks)


def modes(shape: Sequence[int], largest: int) -> tuple[int, ...]:
    """Return the sizes of the modes that a tensor of `shape` is read as, in C order.

    Each dimension is split into as few whole factors as do not exceed `largest`, as even as its primes allow; a prime
    above `largest` stays. Dimensions of one entry are left out. 768 is (24, 32) with 64, and eight 2's and a 3 with 3.
    """
    return tuple(factor for size in shape if size != 1 for factor in _factors(size, largest)) or (1,)


def _factors(size: int, largest: int) -> list[int]:
    primes: list[int] = []
    rest, divisor = size, 2
    while divisor * divisor <= rest:
        while rest % divisor == 0:
            primes.insert(0, divisor)
            rest //= divisor
        divisor += 1
    if rest > 1:
        primes.insert(0, rest)
    for count in range(1, len(primes) + 1):
        bins = [1] * count
        for prime in primes:
            bins[bins.index(min(bins))] *= prime
        if max(bins) <= max(largest, primes[0]):
            return sorted(bins)
    return [size]  # no prime factor: 0 entries


def tt_svd(tensor: NDArray[np.floating], rank: int | None = None, tolerance: float = 0.0) -> Train:
    """Return the train of a tensor that is not empty.

    rank: no rank is larger; None for as large as `tolerance` takes. tolerance: the error is at most that times the
    norm, if no `rank` is in the way: every cut may spend an equal share of what those before it left over. Ranks are
    min(rank, rows, columns) of each cut where tolerance is 0. Cost: one singular value decomposition of
    (r_{k-1} n_k, n_{k+1} ... n_d) for each cut.
    """
    peak = float(np.abs(tensor).max())
    rest = tensor.astype(np.float64) / (peak or 1.0)  # so that no square overflows
    allowed = tolerance**2 * float(np.square(rest).sum())
    cores: Cores = []
    left, error = 1, 0.0
    for k, size in enumerate(tensor.shape[:-1]):
        u, s, v = np.linalg.svd(rest.reshape(left * size, -1), full_matrices=False)
        tails = np.append(np.cumsum(np.square(s[::-1]))[::-1], 0.0)  # tails[r]: what keeping r leaves out
        share = max(0.0, allowed - error) / (tensor.ndim - 1 - k)
        keep = max(1, int(np.argmax(tails <= share))) if tolerance else len(s)
        keep = min(keep, rank or keep)
        error += float(tails[keep])
        cores.append(u[:, :keep].reshape(left, size, keep))
        rest, left = s[:keep, None] * v[:keep], keep
    return Train([*cores, peak * rest.reshape(left, tensor.shape[-1], 1)], peak * math.sqrt(error))


def contract(cores: Cores) -> NDArray[np.float64]:
    """Return the `(n_1 ... n_d,)` entries of a train, in C order, multiplied from the left."""
    product = cores[0].reshape(-1, cores[0].shape[2])
    for core in cores[1:]:
        product = (product @ core.reshape(core.shape[0], -1)).reshape(-1, core.shape[2])
    return product.reshape(-1)


def _ranks(sizes: Sequence[int], rank: int | None) -> list[int]:
    """Return the inner ranks that `tt_svd` makes of modes `sizes` with tolerance 0: the largest there can be."""
    ranks: list[int] = []
    for k in range(1, len(sizes)):
        most = min((ranks[-1] if ranks else 1) * sizes[k - 1], math.prod(sizes[k:]))
        ranks.append(min(most, rank or most))
    return ranks


def _cores(sizes: Sequence[int], ranks: Sequence[int]) -> Shapes:
    return list(zip([1, *ranks], sizes, [*ranks, 1], strict=True))


def _entries(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes)
