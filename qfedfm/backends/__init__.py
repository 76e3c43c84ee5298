"""Machines that run circuits, exact, sampled, noisy and real, under one contract."""

from .contract import Backend, Cost, Handle, Machine, Measured, Session
from .executor import Executor, Usage
from .flat import Flat, flatten
from .gradients import Gradient, ParameterShift, Points, Spsa
from .noise import GateNoise, NoiseModel
from .noisy import Noisy, simulate_noisy
from .pennylane import PennyLane
from .simulated import Exact, Shots

__all__ = [
    "Backend",
    "Cost",
    "Exact",
    "Executor",
    "Flat",
    "GateNoise",
    "Gradient",
    "Handle",
    "Machine",
    "Measured",
    "NoiseModel",
    "Noisy",
    "ParameterShift",
    "PennyLane",
    "Points",
    "Session",
    "Shots",
    "Spsa",
    "Usage",
    "flatten",
    "simulate_noisy",
]
