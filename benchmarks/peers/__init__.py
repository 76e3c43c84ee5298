"""One file for each simulator that `heads.py` compares, all with one function:

    build(problem, **settings) -> call,   call() -> (values, gradient of inputs, gradient of weights)

with the shapes of `Problem`; `call` is what is timed. A library without an axis for clients loops over them. Every
worker process loads one library only, so threads and memory are its own.
"""

from typing import Any, NamedTuple


class Peer(NamedTuple):
    """A library at its best known settings.

    module: its file here. settings: arguments of its `build`. note: what the settings are, and what else was tried.
    compiled: whether it is compiled as a whole, not run operation by operation. most_amplitudes: clients times rows
    times 2^qubits beyond which it is left out, because a call or its compilation takes too long. most_clients: where
    there are more, so many are timed and the time is scaled.
    """

    module: str
    settings: dict[str, Any]
    note: str
    compiled: bool = False
    most_amplitudes: int = 2**30
    most_clients: int = 1000


PEERS = {
    "qfedfm": Peer("ours", {}, "all clients and rows in one call"),
    "PennyLane": Peer(
        "pennylane_qnode",
        {"device": "default.qubit", "diff_method": "backprop"},
        "default.qubit, backprop, torch interface, rows broadcast, caching as by default; adjoint and no cache are "
        "slower; state always complex128",
        most_clients=10,
    ),
    "lightning": Peer(
        "pennylane_qnode",
        {"device": "lightning.qubit", "diff_method": "adjoint"},
        "lightning.qubit, adjoint, complex64, device_vjp from 13 qubits on (4 times as fast at 16, slower below); it "
        "does not broadcast: PennyLane makes one tape a row; batch_obs and a loop over rows are slower",
    ),
    "pyqtorch": Peer(
        "pyqtorch_circuit",
        {},
        "rows on the batch axis, one U gate for three rotations, <Z> of all wires from probabilities in one product",
    ),
    "deepquantum": Peer(
        "deepquantum_circuit",
        {},
        "its own vmap over rows, U3 layers, weights as parameters, <Z> of all wires from probabilities in one product",
    ),
    "tensorcircuit": Peer(
        "tensorcircuit_torch",
        {},
        "torch backend, vmap over rows, u gates, state contracted layer by layer (at once: 13 s a call at 12 qubits)",
    ),
    "qulacs": Peer(
        "qulacs_circuit",
        {},
        "its C++ backward pass on one weighted observable a row, rows in a Python loop; always complex128",
    ),
    "tensorcircuit jax": Peer(
        "tensorcircuit_jax",
        {},
        "jit of vmap over clients and rows with the gradient; not beyond 10 qubits, where it compiles for 47 s "
        "(12,4,64), to run 79 ms a call",
        compiled=True,
        most_amplitudes=64 * 2**10,
    ),
    "jax": Peer(
        "jax_statevector",
        {"block": 1},
        "plain jax gate by gate, jit of vmap over clients and rows with the gradient",
        compiled=True,
    ),
}
"""The libraries of the main table, ours first."""

PORTED = "jax, our algorithm"
BROADCAST = "PennyLane, weights broadcast"
DEVICE = "PennyLane on qfedfm.statevector"
ALL = PEERS | {
    PORTED: Peer("jax_statevector", {"block": 4}, "plain jax with the blocks and exchanges of our own simulator"),
    BROADCAST: Peer(
        "pennylane_qnode",
        {"device": "default.qubit", "diff_method": "backprop", "merge_clients": True},
        "each row with its own copy of the weights, so that PennyLane broadcasts over clients too; 6 s a call for 100 "
        "clients on 8 qubits",
        most_amplitudes=10 * 32 * 2**8,
        most_clients=100,
    ),
    DEVICE: Peer(
        "pennylane_qnode",
        {"device": "qfedfm.statevector", "diff_method": "best"},
        "the same QNode as PennyLane's, with its device line changed",
    ),
}
