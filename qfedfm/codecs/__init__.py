"""Codecs: tensors to bytes and back, exact or lossy."""

from .dense import Codec, Dense, TensorMeta
from .quantized import Quantized
from .random_sparsification import RandomSparsification
from .seeds import SeedScalar
from .sign import Sign
from .tensor_train import TensorTrain
from .topk import TopK

__all__ = [
    "Codec",
    "Dense",
    "Quantized",
    "RandomSparsification",
    "SeedScalar",
    "Sign",
    "TensorMeta",
    "TensorTrain",
    "TopK",
]
