"""Heads: small trainable models on top of a backbone's features."""

from .kernel import Kernel
from .linear import Linear
from .mlp import Mlp
from .model import Head, HoldsCircuit, Model
from .module import Module
from .personalised import Personalised
from .rbf import Rbf
from .twin import matched_classical
from .variational import Parallel, Variational

__all__ = [
    "Head",
    "HoldsCircuit",
    "Kernel",
    "Linear",
    "Mlp",
    "Model",
    "Module",
    "Parallel",
    "Personalised",
    "Rbf",
    "Variational",
    "matched_classical",
]
