"""Machines that run circuits, exact, sampled, noisy and real, under one contract."""

from .aer import Aer, save_noise
from .contract import Backend, Cost, Handle, Machine, Measured, Session
from .executor import Executor, Usage
from .fake import Fake
from .flat import Flat, flatten
from .gradients import AllotsShots, Gradient, ParameterShift, Points, Spsa
from .ibm import IBM, FakeRuntime, RuntimeMitigation
from .mitigation import Mitigated, ReadoutInversion
from .noise import GateNoise, NoiseModel
from .noisy import Noisy, simulate_noisy
from .pennylane import PennyLane
from .qpu_time import quick_seconds, usage_seconds
from .simulated import Exact, Shots
from .zero_noise import ExponentialFit, LinearFit, RichardsonFit, ZeroNoise

__all__ = [
    "IBM",
    "Aer",
    "AllotsShots",
    "Backend",
    "Cost",
    "Exact",
    "Executor",
    "ExponentialFit",
    "Fake",
    "FakeRuntime",
    "Flat",
    "GateNoise",
    "Gradient",
    "Handle",
    "LinearFit",
    "Machine",
    "Measured",
    "Mitigated",
    "NoiseModel",
    "Noisy",
    "ParameterShift",
    "PennyLane",
    "Points",
    "ReadoutInversion",
    "RichardsonFit",
    "RuntimeMitigation",
    "Session",
    "Shots",
    "Spsa",
    "Usage",
    "ZeroNoise",
    "flatten",
    "quick_seconds",
    "save_noise",
    "simulate_noisy",
    "usage_seconds",
]
