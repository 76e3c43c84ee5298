"""Codecs: what becomes of tensors on their way into an envelope."""

from .dense import Codec, Dense, TensorMeta

__all__ = ["Codec", "Dense", "TensorMeta"]
