"""Circuits as programs, and their exact simulation for many clients at once."""

from .drawing import describe, draw, draw_text
from .library import load, names
from .lightcone import dead_weights
from .pennylane import lower
from .program import Circuit, Gate, Observable, Program, assemble, pauli_z, z_on_every_wire
from .qasm import read
from .statevector import simulate, state_bytes, states

__all__ = [
    "Circuit",
    "Gate",
    "Observable",
    "Program",
    "assemble",
    "dead_weights",
    "describe",
    "draw",
    "draw_text",
    "load",
    "lower",
    "names",
    "pauli_z",
    "read",
    "simulate",
    "state_bytes",
    "states",
    "z_on_every_wire",
]
