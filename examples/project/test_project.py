"""Run with pytest: the circuit against PennyLane, and the experiment on two rounds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pennylane as qml
import qfedfm as qf
import torch

from head import Skip

HERE = Path(__file__).parent


def test_the_circuit_is_what_pennylane_makes_of_it():
    circuit = qf.quantum.load(HERE / "circuit.qasm", {"n": 3, "layers": 2})
    x, weights = np.random.default_rng(0).uniform(-1, 1, 3), np.random.default_rng(1).uniform(-3, 3, (2, 3, 2))

    @qml.qnode(qml.device("default.qubit"))
    def reference():
        for layer in weights:
            qml.AngleEmbedding(x, wires=range(3), rotation="X")
            for wire in range(3):
                qml.RY(layer[wire, 0], wire)
                qml.RZ(layer[wire, 1], wire)
            qml.CNOT([0, 1])
            qml.CNOT([1, 2])
        return [qml.expval(qml.Z(wire)) for wire in range(3)]

    values = qf.quantum.simulate(
        circuit.program,
        {"x": torch.tensor(x)[None, None]},
        {"weights": torch.tensor(weights)[None]},
        circuit.observables,
    )
    np.testing.assert_allclose(values[0, 0], reference(), atol=1e-10)


def test_the_experiment_runs_with_the_circuit_and_with_your_head(tmp_path):
    experiment = replace(qf.Experiment.load(HERE / "experiment.toml"), rounds=2)
    for number, head in enumerate((experiment.head, Skip())):
        result = qf.run(replace(experiment, head=head), tmp_path / str(number), progress=False)
        assert result.finished
        assert result.rounds[-1]["train_loss"] < np.log(2) + 0.05
