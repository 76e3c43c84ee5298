"""Heads: small trainable models on top of a backbone's features."""

from .linear import Linear
from .mlp import Mlp
from .model import Head, Model
from .twin import matched_classical
from .variational import Variational

__all__ = ["Head", "Linear", "Mlp", "Model", "Variational", "matched_classical"]
