"""Differential privacy: clipping, noise, accounting, and what quantum noise is worth beside them."""

from .budget import check_budget, spent, spent_by_client
from .clipping import AdaptiveClip, clip_updates
from .mechanisms import WITHHELD_LOSS, DpSgd, LocalDp, Mechanism
from .per_example import per_example_gradients
from .quantum_noise import depolarising_epsilon, shot_noise_epsilon
from .rdp import ORDERS, Spent, epsilon, subsampled_gaussian

__all__ = [
    "ORDERS",
    "WITHHELD_LOSS",
    "AdaptiveClip",
    "DpSgd",
    "LocalDp",
    "Mechanism",
    "Spent",
    "check_budget",
    "clip_updates",
    "depolarising_epsilon",
    "epsilon",
    "per_example_gradients",
    "shot_noise_epsilon",
    "spent",
    "spent_by_client",
    "subsampled_gaussian",
]
