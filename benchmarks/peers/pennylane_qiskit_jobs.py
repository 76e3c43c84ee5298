"""pennylane-qiskit: jobs and transpilations of one batch gradient, counted where it asks qiskit for them.

Run as `python -m peers.pennylane_qiskit_jobs ROWS` from benchmarks/, in the peers' environment. The circuit is
`angle_ring` with 4 qubits and 2 layers, derived by parameter shifts through inputs and weights, on the fake device
FakeManilaV2 in local mode, with 1024 shots. Rows are a
loop, for its parameter shifts do not derive by inputs that are broadcast. The last line is a JSON object.
"""

import json
import sys
import time
import warnings
from typing import Any

import pennylane as qml
import torch
from pennylane_qiskit import qiskit_device
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

QUBITS, LAYERS, SHOTS = 4, 2, 1024
counted = {"jobs": 0, "transpilations": 0}


def counting(name: str, function: Any) -> Any:
    """Return `function`, each call of which counts."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        counted[name] += 1
        return function(*args, **kwargs)

    return wrapped


def main() -> None:
    warnings.simplefilter("ignore")
    qiskit_device.transpile = counting("transpilations", qiskit_device.transpile)
    qiskit_device.Estimator.run = counting("jobs", qiskit_device.Estimator.run)
    qiskit_device.Sampler.run = counting("jobs", qiskit_device.Sampler.run)
    device = qml.device("qiskit.remote", wires=QUBITS, backend=FakeManilaV2())

    @qml.set_shots(SHOTS)
    @qml.qnode(device, interface="torch", diff_method="parameter-shift")
    def circuit(x, w):  # type: ignore[no-untyped-def]
        for wire in range(QUBITS):
            qml.RY(x[wire], wire)
            qml.RY(w[0, wire], wire)
        for layer in range(LAYERS):
            for wire in range(QUBITS):
                qml.CZ((wire, (wire + 1) % QUBITS))
            for wire in range(QUBITS):
                qml.RY(w[layer + 1, wire], wire)
        return [qml.expval(qml.PauliZ(wire)) for wire in range(QUBITS)]

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(int(sys.argv[1]), QUBITS, generator=generator, dtype=torch.float64).requires_grad_()
    w = torch.randn(LAYERS + 1, QUBITS, generator=generator, dtype=torch.float64).requires_grad_()
    start = time.perf_counter()
    torch.stack([value for row in x for value in circuit(row, w)]).sum().backward()
    print(json.dumps(counted | {"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
