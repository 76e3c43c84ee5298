"""How far a federation can be trusted: attacks against rules, side by side, with seeds and intervals."""

from .stress import Stress, stress

__all__ = ["Stress", "stress"]
