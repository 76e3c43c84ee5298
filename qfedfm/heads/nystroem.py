"""Kernel machines that federate: fixed landmarks in place of the others' data, and a trainable linear read-out.

A kernel machine compares a row with all training rows, which no client may see. The Nystroem method (Williams and
Seeger 2001) compares it with a few landmarks z and gives the features phi(x) = K(z, z)^(-1/2) k(z, x): their products
are the kernel's on the landmarks and its best estimate from them elsewhere. Here nothing depends on anyone's data:
projection and landmarks follow from a declared seed (or the landmarks are given), so that every client builds the same
features and only the read-out is trained and sent. Departure from the paper, whose landmarks are training rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..params import Params
from ..quantum.program import Circuit
from ..seeds import stream
from .model import Model, activations_bytes, apply_dense, dense

RANK_TOLERANCE = 1e-6
"""Directions of K(z, z) whose eigenvalue is smaller than this share of the largest are left out: they hold rounding."""


@dataclass(frozen=True)
class Similarity:
    """A kernel in two steps, k(x, y) = compare(embed(x), embed(y)), so that landmarks are embedded once.

    embed: angles (R, n) -> any tensor of the same precision. compare: what `embed` gave for R rows and for m landmarks
    -> (R, m). row_bytes: what the two hold for one row, an estimate.
    """

    embed: Callable[[Tensor], Tensor]
    compare: Callable[[Tensor, Tensor], Tensor]
    row_bytes: int

    def gram(self, points: Tensor) -> Tensor:
        """Return the kernel of angles (m, n) with themselves, (m, m)."""
        embedded = self.embed(points)
        return self.compare(embedded, embedded)


@dataclass(frozen=True)
class Encoding:
    """Features -> angles = input_scale * tanh(scaling * projection @ features), and the landmarks among the angles.

    projection: (n, n_features). landmarks: (m, n), radians. Both float64.
    """

    projection: Tensor
    landmarks: Tensor
    input_scale: float
    scaling: float

    def __call__(self, features: Tensor) -> Tensor:
        """Return the angles of features (R, n_features), (R, n)."""
        return self.input_scale * torch.tanh(self.scaling * features @ self.projection.to(features).mT)


def projection(n_angles: int, n_features: int, seed: int) -> Tensor:
    """Return a random matrix (n_angles, n_features), float64, that keeps the scale of features and mixes them evenly.

    Rows are orthonormal (columns are, up to a factor, if there are fewer features than angles), drawn from the Haar
    measure by QR (Mezzadri 2007, arXiv:math-ph/0609050): features of mean square 1 have projections of mean square 1.
    """
    tall, wide = max(n_angles, n_features), min(n_angles, n_features)
    q, r = np.linalg.qr(stream(seed, "kernel", "projection").standard_normal((tall, wide)))
    q = q * np.sign(np.diag(r))
    matrix = q.T if n_angles <= n_features else q * math.sqrt(n_angles / n_features)
    return torch.from_numpy(np.ascontiguousarray(matrix))


def random_landmarks(count: int, n_angles: int, input_scale: float, scaling: float, seed: int) -> Tensor:
    """Return (count, n_angles) float64: the angles of standard normal projections, as typical features have them."""
    points = stream(seed, "kernel", "landmarks").standard_normal((count, n_angles))
    return input_scale * torch.tanh(scaling * torch.from_numpy(points))


def inverse_root(gram: Tensor) -> Tensor:
    """Return the symmetric K^(-1/2) of a Gram matrix (m, m), on the directions that `RANK_TOLERANCE` leaves."""
    values, vectors = torch.linalg.eigh(gram)
    kept = values > RANK_TOLERANCE * values[-1]
    root: Tensor = (vectors[:, kept] * values[kept].rsqrt()) @ vectors[:, kept].mT
    return root


def kernel_model(similarity: Similarity, encode: Encoding, n_outputs: int, circuit: Circuit | None) -> Model:
    """Return the model phi(x) @ readout + bias, whose parameters are readout.weight (n_outputs, m) and readout.bias.

    All rows of all clients are embedded together, for the kernel is the same for everyone.
    """
    count = len(encode.landmarks)
    embedded = similarity.embed(encode.landmarks)
    root = inverse_root(similarity.compare(embedded, embedded))
    specs, bounds = dense("readout", count, n_outputs, "readout")

    def apply(params: Params, features: Tensor) -> Tensor:
        rows = similarity.embed(encode(features.flatten(0, 1)))
        phi = similarity.compare(rows, embedded.to(rows)) @ root.to(features)
        return apply_dense(params, "readout", phi.reshape(*features.shape[:2], count))

    widths = (encode.projection.shape[1], encode.projection.shape[0], count, count, n_outputs)
    return Model(specs, apply, bounds, activations_bytes(widths) + similarity.row_bytes, circuit)
