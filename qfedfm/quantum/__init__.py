"""Circuits as programs, and their exact simulation for many clients at once."""

from .library import load, names
from .lightcone import dead_weights
from .program import Circuit, Gate, Observable, Program, assemble, pauli_z, z_on_every_wire
from .statevector import simulate, states

__all__ = [
    "Circuit",
    "Gate",
    "Observable",
    "Program",
    "assemble",
    "dead_weights",
    "load",
    "names",
    "pauli_z",
    "simulate",
    "states",
    "z_on_every_wire",
]
