"""Gates and channels as real matrices on Pauli vectors.

A density matrix of n qubits is a real vector of 4^n numbers, the expectation values of all Pauli words,

    v_P = Tr(P rho),    rho = 2^-n sum_P v_P P,    T_PQ = 2^-k Tr(P E(Q)),

and a channel E on k of them a real matrix T, its Pauli transfer matrix (Greenbaum 2015, arXiv:1509.02921): half the
memory of a density matrix and no complex number. Depolarising, phase damping and bit flip are diagonal, Clifford gates
exchange words and change signs, and an expectation value is an entry. A word is a number in base 4, one digit a wire
(I, X, Y, Z are 0, 1, 2, 3), wire 0 the most significant.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..quantum.gates import GATES, Complex
from ..quantum.program import PauliWord
from ..quantum.stages import Real

LETTERS = "IXYZ"
_PAULIS = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


class Turn(NamedTuple):
    """The matrix of a gate at an angle in radians: sum_j cos(rates_j angle + shifts_j) terms_j.

    rates, shifts: (J,). terms: (J, 4^k, 4^k).
    """

    rates: Real
    shifts: Real
    terms: Real


@lru_cache(maxsize=4)
def pauli_words(wires: int) -> Complex:
    """Return the matrices of all Pauli words, (4^wires, 2^wires, 2^wires)."""
    words = np.ones((1, 1, 1), dtype=complex)
    for _ in range(wires):
        words = np.einsum("aij,bkl->abikjl", words, _PAULIS).reshape(4 * len(words), *(2 * np.array(words.shape[1:])))
    return words


def transfer(unitary: Complex) -> Real:
    """Return the Pauli transfer matrix of a gate on k wires, (4^k, 4^k)."""
    words = pauli_words(len(unitary).bit_length() - 1)
    turned = unitary @ words @ unitary.conj().T
    return np.asarray(np.einsum("pij,qji->pq", words, turned, optimize=True).real / len(unitary))


@lru_cache(maxsize=64)
def turn(name: str) -> Turn:
    """Return the matrix of the gate `name` of `GATES` as a function of its angle.

    In the gate's frame exp(i angle h) gives each |x><y| the phase exp(i angle (h_x - h_y)), so that the entries of the
    matrix are trigonometric polynomials whose frequencies are the gaps of the spectrum.
    """
    kind = GATES[name]
    spectrum = np.array(kind.spectrum)
    gaps = np.round(spectrum[:, None] - spectrum, 12)
    framed = kind.frame.conj().T @ pauli_words(kind.wires) @ kind.frame
    rates, shifts, terms = [0.0], [0.0], [_part(framed, gaps == 0).real]
    for gap in sorted(set(gaps[gaps > 0])):
        part = 2 * _part(framed, gaps == gap)
        rates += [gap, gap]
        shifts += [0.0, -np.pi / 2]  # a sine
        terms += [part.real, -part.imag]
    return Turn(np.array(rates), np.array(shifts), np.stack(terms))


def _part(framed: Complex, where: NDArray[np.bool_]) -> Complex:
    """Return 2^-k sum over (x, y) in `where` of <y|P|x> <x|Q|y>, for all words P and Q."""
    return np.asarray(np.einsum("pyx,qxy,xy->pq", framed, framed, where, optimize=True) / framed.shape[1])


def exchange(matrix: Real) -> tuple[NDArray[np.int64], Real] | None:
    """Return (source, factor) with new[p] = factor[p] old[source[p]], or None if `matrix` is more than an exchange."""
    size = np.abs(matrix)
    source = size.argmax(axis=1)
    alone = np.isclose(size.sum(axis=1), size.max(axis=1), rtol=0, atol=1e-12).all()
    if not alone or len(set(source.tolist())) < len(source):
        return None
    return source, matrix[np.arange(len(source)), source].round(12)


def kron(matrices: list[Real]) -> Real:
    """Return the Kronecker product of square matrices."""
    product: Real = np.eye(1)
    for matrix in matrices:
        product = np.asarray(np.kron(product, matrix), dtype=np.float64)
    return product


def digits(n_wires: int, wires: tuple[int, ...]) -> NDArray[np.int64]:
    """Return for each of the 4^n words the number made of its digits on `wires`, the most significant first."""
    words = np.arange(4**n_wires)
    number = np.zeros_like(words)
    for wire in wires:
        number = 4 * number + (words >> 2 * (n_wires - 1 - wire) & 3)
    return number


def number(n_wires: int, word: PauliWord) -> int:
    """Return the number of a Pauli word."""
    return sum(LETTERS.index(letter) << 2 * (n_wires - 1 - wire) for wire, letter in word)
