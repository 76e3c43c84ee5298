"""Machines that run circuits, exact, sampled, noisy and real, under one contract."""

from .contract import Backend, Cost, Handle, Machine, Measured, Session
from .executor import Executor, Usage
from .flat import Flat, flatten
from .gradients import Gradient, ParameterShift, Points, Spsa
from .simulated import Exact, Shots

__all__ = [
    "Backend",
    "Cost",
    "Exact",
    "Executor",
    "Flat",
    "Gradient",
    "Handle",
    "Machine",
    "Measured",
    "ParameterShift",
    "Points",
    "Session",
    "Shots",
    "Spsa",
    "Usage",
    "flatten",
]
