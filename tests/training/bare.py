"""Models that are a circuit and nothing else: features are its inputs, its values times a factor are the outputs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfedfm.backends import Exact, Executor, Session
from qfedfm.heads.model import Model
from qfedfm.params import Params
from qfedfm.quantum import Circuit, Gate, assemble, load, pauli_z, simulate
from qfedfm.quantum.expr import Expr
from qfedfm.seeds import stream
from qfedfm.training import Lane, Problem, Trained, train_cohort


def bare(circuit: Circuit, factor: float = 2.0) -> Model:
    """Return a model of two classes with outputs (factor <O_0>, factor <O_1>); one observable gives (f, -f)."""
    program = circuit.program

    def hybrid(params: Params, features: Tensor, execute: Any) -> Tensor:
        values = execute(program, {"x": features}, {s.name: params[f"circuit.{s.name}"] for s in program.weights},
                         circuit.observables)  # fmt: skip
        return factor * (values[..., :2] if values.shape[-1] > 1 else torch.cat([values, -values], -1))

    specs = tuple(replace(spec, name=f"circuit.{spec.name}", dtype="float64") for spec in program.weights)
    bounds = (np.pi,) * len(specs)
    return Model(specs, lambda p, f: hybrid(p, f, simulate), bounds, 1000, circuit, hybrid)


def entangling(n: int = 2, layers: int = 2) -> Circuit:
    return load("strongly_entangling", {"n": n, "layers": layers})


def controlled() -> Circuit:
    """Two qubits whose first weight turns a controlled gate (gaps 1/2 and 1), and whose second turns two gates."""
    w, x = [Expr("weight", ("w", i)) for i in range(3)], [Expr("input", ("x", i)) for i in range(2)]
    gates = [Gate("ry", (0,), (0,)), Gate("ry", (1,), (1,)), Gate("crx", (0, 1), (2,)), Gate("rx", (0,), (3,)),
             Gate("cx", (0, 1)), Gate("ry", (1,), (3,)), Gate("rz", (0,), (4,)), Gate("rx", (0,), (0,))]  # fmt: skip
    program = assemble(2, gates, [*x, *w], {"x": (2,)}, {"w": (3,)})
    return Circuit(program, (pauli_z(0), pauli_z(1)))


def data(rows: int, features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features (rows, features) and labels (rows,)."""
    generator = stream(seed, "data")
    return torch.from_numpy(generator.normal(size=(rows, features))), torch.from_numpy(generator.integers(2, size=rows))


def start(model: Model, clients: int, seed: int = 0) -> Params:
    return {
        spec.name: torch.from_numpy(stream(seed, "start", spec.name).normal(size=(clients, *spec.shape)))
        for spec in model.specs
    }


def train(model: Model, params: Params, optimizer: Any, rows: Sequence[np.ndarray], table: Tensor, labels: Tensor,
          **options: Any) -> Trained:  # fmt: skip
    lanes = [Lane(some, stream(1, "order", i), optimizer) for i, some in enumerate(rows)]
    return train_cohort(model, params, table, labels, lanes, batch_size=len(max(rows, key=len)), **options)


def problem(model: Model, params: Params, features: Tensor, executor: Executor | None = None) -> Problem:
    """Return a step in which every row (C, R) is real and of class 0."""
    labels = torch.zeros(features.shape[:2], dtype=torch.int64)
    size = torch.full((len(features),), features.shape[1])
    generators = [stream(2, "directions", i) for i in range(len(features))]
    on = model.on(executor) if executor else model
    return Problem(on, params, features, labels, labels == 0, size, generators=generators, executor=executor)


def losses(model: Model, params: Params, rows: Sequence[np.ndarray], table: Tensor, labels: Tensor) -> list[float]:
    """Return each client's mean loss over its rows."""
    found = []
    for client, some in enumerate(rows):
        own = {name: tensor[client : client + 1] for name, tensor in params.items()}
        outputs = model.apply(own, table[None, some])[0]
        found.append(float(torch.nn.functional.cross_entropy(outputs, labels[some])))
    return found


def exact(**options: Any) -> Executor:
    return Executor(Exact().connect(Session()), **options)
