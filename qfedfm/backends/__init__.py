"""Machines that run circuits, exact, sampled, noisy and real, under one contract."""

from .contract import Backend, Cost, Handle, Machine, Measured, Session
from .flat import Flat, flatten
from .simulated import Exact, Shots

__all__ = ["Backend", "Cost", "Exact", "Flat", "Handle", "Machine", "Measured", "Session", "Shots", "flatten"]
