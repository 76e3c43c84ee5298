"""Circuits as programs, and their exact simulation for many clients at once."""

from .drawing import describe, draw, draw_text
from .fisher import quantum_fisher
from .generators import GeneratorLayer, generator_layers
from .library import load, names
from .lightcone import dead_weights
from .measure import meyer_wallach, probabilities, purity, reduced_density, samples
from .overlaps import client_fidelities, compute_uncompute, fidelity, fidelity_kernel
from .pennylane import lower, to_pennylane
from .program import Circuit, Gate, Observable, Program, assemble, pauli_z, z_on_every_wire
from .qasm import read
from .qiskit import to_qiskit
from .statevector import simulate, state_bytes, states

__all__ = [
    "Circuit",
    "Gate",
    "GeneratorLayer",
    "Observable",
    "Program",
    "assemble",
    "client_fidelities",
    "compute_uncompute",
    "dead_weights",
    "describe",
    "draw",
    "draw_text",
    "fidelity",
    "fidelity_kernel",
    "generator_layers",
    "load",
    "lower",
    "meyer_wallach",
    "names",
    "pauli_z",
    "probabilities",
    "purity",
    "quantum_fisher",
    "read",
    "reduced_density",
    "samples",
    "simulate",
    "state_bytes",
    "states",
    "to_pennylane",
    "to_qiskit",
    "z_on_every_wire",
]
