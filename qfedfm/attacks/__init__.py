"""Attacks on a federation, as values: what some of its clients do to their data or to the updates they send."""

from .adversary import Adversary, Attack, DataAttack, UpdateAttack
from .poisoned_data import Backdoor, LabelFlip
from .poisoned_updates import (
    Alie,
    AngleDrift,
    FreeRider,
    Gaussian,
    InnerProduct,
    MinMax,
    PeriodShift,
    Scaling,
    SignFlip,
)

__all__ = [
    "Adversary",
    "Alie",
    "AngleDrift",
    "Attack",
    "Backdoor",
    "DataAttack",
    "FreeRider",
    "Gaussian",
    "InnerProduct",
    "LabelFlip",
    "MinMax",
    "PeriodShift",
    "Scaling",
    "SignFlip",
    "UpdateAttack",
]
