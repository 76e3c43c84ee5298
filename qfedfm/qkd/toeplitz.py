"""Privacy amplification: a Toeplitz matrix times the reconciled key, over GF(2).

Row i of the matrix is y_i = sum_j t_(n-1+i-j) x_j mod 2; a seed t of n + m - 1 uniformly random bits chooses it. Two
different keys x then give the same y with probability exactly 2^-m, so the leftover hash lemma makes y secret up to
eps = 1/2 2^(-(Hmin - m)/2) when x has min-entropy Hmin given all that was said aloud (Krawczyk 1994,
doi:10.1007/3-540-48658-5_15; Tomamichel et al. 2011, doi:10.1109/TIT.2011.2158473). The seed is public, must be drawn
independently of x, and may serve more than one key: the lemma makes (y, t) random together, and the eps of each add up.

How: bits become +-1, so that the integers c_i = sum_j T_(n-1+i-j) X_j are a cyclic convolution of length N >= n + m - 1
(what wraps around falls on values that are not used), computed by fast Fourier transforms. With a = sum of the seed
bits in the window of row i and s = sum_j x_j, c_i = n - 2a - 2s + 4 sum_j t x; the parity sought is therefore that of
(c_i + 2a + 2s - n) / 4. A transform of N = K B is cut into K-point ones across blocks of B bits, a phase for each
value, and B-point ones within (Bailey 1990, doi:10.1007/BF00162341): they fit the caches where a long one would not.

Exactness: neighbouring admissible values of c_i lie 4 apart, so that an error below 2 is harmless. In float32 the
errors of random bits are .0015 at 1e6 bits and .006 at 1e7, growing as sqrt(n). No bound in float32 holds for bits
chosen by an enemy, so every call measures: it is accepted only if all values lie within .5 of an admissible one and
none is so large that a float32 rounds it by more than .1 (|c| < 2^20). That is a measurement, not a proof; but a random
seed makes every error a sum of independent signs, and .5 is then some hundred sigma. Otherwise the call is repeated in
float64. There the worst case over all inputs is below 1e-4: by Higham 2002, theorem 24.2, a transform of N points has
relative error at most 8 u log2 N in the 2-norm (u = 1.1e-16; 20 u to be generous to factors 3 to 11 and to phases),
three transforms follow each other, and by Cauchy and Schwarz |error| <= 3 (20 u log2 N) |T| |X|, with |T| |X| <= 2^25
and N <= 2^26. Larger problems are cut into tiles of at most 2^24 by 2^24 bits, whose outputs are added mod 2, exactly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, ifft, irfft, next_fast_len, rfft

from ..errors import ConfigurationError, QfedfmError

Bits = NDArray[np.uint8]

TILE = 2**24
BLOCK = 2**13
ROWS = 4
COLUMNS = 256
"""Transforms within blocks and across blocks that are made at once: SIMD works across them, and they fit the cache."""
TOLERANCE = 0.5
LARGEST = 2.0**20


def amplify(bits: Bits, length: int, seed: Bits) -> Bits:
    """Return the `length` bits of the Toeplitz product of `bits`.

    bits: (n,), 0 and 1. seed: (n + length - 1,), uniformly random, public and independent of `bits`. Raises
    `ConfigurationError` for other shapes or values. Peak memory besides bits and seed is 20 to 30 bytes for each
    bit of input up to 2^24, and about 700 MB for more.
    """
    return Toeplitz(seed, len(bits), length)(bits)


class Toeplitz:
    """The matrix that `seed` chooses, (outputs, inputs); up to 2^24 either way its transform is made once and kept."""

    def __init__(self, seed: Bits, inputs: int, outputs: int) -> None:
        if inputs < 0 or outputs < 0:
            raise ConfigurationError(f"a Toeplitz matrix has sizes of 0 or more, got {outputs} x {inputs}")
        self._seed = _checked(seed, max(inputs + outputs - 1, 0), "seed")
        self.inputs, self.outputs = inputs, outputs
        whole = 0 < inputs <= TILE and 0 < outputs <= TILE
        self._kept = _Tile.of(self._seed, inputs, outputs, np.float32) if whole else None

    def __call__(self, bits: Bits) -> Bits:
        """Return the product of the matrix and `bits`, (outputs,); bits: (inputs,)."""
        bits = _checked(bits, self.inputs, "input")
        result = np.zeros(self.outputs, np.uint8)
        for first in range(0, self.outputs, TILE):
            rows = min(TILE, self.outputs - first)
            for start in range(0, self.inputs, TILE):
                part = bits[start : start + TILE]
                offset = self.inputs - start - len(part) + first
                seed = self._seed[offset : offset + len(part) + rows - 1]
                result[first : first + rows] ^= self._tile(seed, part, rows)
        return result

    def _tile(self, seed: Bits, bits: Bits, rows: int) -> Bits:
        single = self._kept or _Tile.of(seed, len(bits), rows, np.float32)
        product = single(bits)
        if product is None:
            product = _Tile.of(seed, len(bits), rows, np.float64)(bits)
        if product is None:  # the bound says never
            raise QfedfmError("a Toeplitz product was not exact in float64: the processor or its FFT library is faulty")
        return product


@dataclass(frozen=True, eq=False)
class _Tile:
    """A Toeplitz matrix of at most TILE x TILE in the form that multiplies fast.

    transform: (K / 2 + 1, B), of the seed. windows: (m,), half the number of ones in the window of each row, mod 4.
    """

    inputs: int
    phases: "_Phases"
    transform: NDArray[np.complexfloating]
    windows: NDArray[np.floating]

    @classmethod
    def of(cls, seed: Bits, inputs: int, outputs: int, dtype: type[np.floating]) -> "_Tile":
        block = min(BLOCK, 1 << max(len(seed).bit_length() - 3, 0))
        phases = _Phases(2 * next_fast_len(-(-len(seed) // (2 * block))), block, dtype)
        transform = _across(seed, phases)
        for rows in phases.rows():
            transform[rows] = fft(transform[rows] * phases.of(rows), axis=1, overwrite_x=True)
        ones = np.zeros(len(seed) + 1, np.uint8)  # sums mod 256 are enough: differences are wanted mod 8
        np.cumsum(seed, dtype=np.uint8, out=ones[1:])
        half = ((ones[inputs:] - ones[:outputs]) & 7).astype(dtype)
        half /= 2
        return cls(inputs, phases, transform, half)

    def __call__(self, bits: Bits) -> Bits | None:
        """Return the product, (m,), or None where a value is too far from any admissible one to be trusted."""
        dtype, block = self.windows.dtype.type, self.phases.block
        spectrum = _across(bits, self.phases)
        for rows in self.phases.rows():
            phase = self.phases.of(rows)
            part = fft(spectrum[rows] * phase, axis=1, overwrite_x=True)
            part *= self.transform[rows]
            np.multiply(ifft(part, axis=1, overwrite_x=True), np.conj(phase, out=phase), out=spectrum[rows])
        first, last = (self.inputs - 1) // block, (self.inputs + len(self.windows) - 2) // block
        blocks = np.empty((last - first + 1, block), dtype)
        for columns in self.phases.columns():
            blocks[:, columns] = irfft(spectrum[:, columns], self.phases.across, axis=0)[first : last + 1]
        start = self.inputs - 1 - first * block
        values = blocks.reshape(-1)[start : start + len(self.windows)]
        values /= 4
        values += self.windows
        values += dtype((2 * int(np.count_nonzero(bits)) - self.inputs) % 8 / 4)
        nearest = np.rint(values)
        values -= nearest
        if not _small(values, TOLERANCE / 4) or not (dtype is np.float64 or _small(nearest, LARGEST / 4)):
            return None
        return np.asarray(nearest.astype(np.int32).astype(np.uint8) & 1)


class _Phases:
    """exp(-2 pi i k b / N) for frequency k across the blocks and place b within: the product of two small tables."""

    def __init__(self, across: int, block: int, dtype: type[np.floating]) -> None:
        self.across, self.block, self.dtype = across, block, dtype
        fine = 1 << block.bit_length() // 2
        step = -2j * np.pi / (across * block) * np.arange(across // 2 + 1)[:, None]
        kind = np.complex64 if dtype is np.float32 else np.complex128
        self._coarse = np.exp(step * np.arange(0, block, fine)).astype(kind)
        self._fine = np.exp(step * np.arange(min(fine, block))).astype(kind)

    def of(self, rows: slice) -> NDArray[np.complexfloating]:
        """Return the phases of some frequencies, (rows, B)."""
        product: NDArray[np.complexfloating] = self._coarse[rows, :, None] * self._fine[rows, None, :]
        return product.reshape(-1, self.block)

    def rows(self) -> list[slice]:
        return [slice(first, first + ROWS) for first in range(0, self.across // 2 + 1, ROWS)]

    def columns(self) -> list[slice]:
        return [slice(first, first + COLUMNS) for first in range(0, self.block, COLUMNS)]


def _across(bits: Bits, phases: _Phases) -> NDArray[np.complexfloating]:
    """Return the transform across blocks of the signs of `bits`, zeros behind them: (K / 2 + 1, B)."""
    signs = np.zeros((-(-len(bits) // phases.block), phases.block), phases.dtype)
    _to_signs(bits, signs.reshape(-1)[: len(bits)])
    kind = np.complex64 if phases.dtype is np.float32 else np.complex128
    transform = np.empty((phases.across // 2 + 1, phases.block), kind)
    for columns in phases.columns():
        transform[:, columns] = rfft(signs[:, columns], phases.across, axis=0)
    return transform


def _to_signs(bits: Bits, out: NDArray[np.floating]) -> None:
    """Write 1 - 2 bits into `out`."""
    np.multiply(bits, out.dtype.type(-2), out=out)
    out += 1


def _small(values: NDArray[np.floating], bound: float) -> bool:
    return bool(values.max() <= bound and values.min() >= -bound)


def _checked(bits: Bits, length: int, what: str) -> Bits:
    if bits.shape != (length,) or bits.dtype != np.uint8 or (length and bits.max() > 1):
        raise ConfigurationError(
            f"the {what} of a Toeplitz product should be {length} bits as uint8 zeros and ones, "
            f"got {bits.dtype} of shape {bits.shape}"
        )
    return bits
