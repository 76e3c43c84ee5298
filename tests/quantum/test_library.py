"""The circuit library: every card's checks, and every circuit against PennyLane's own templates at other sizes."""

import math
import subprocess
import sys

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import CircuitError
from qfedfm.quantum import library
from qfedfm.quantum.pennylane import lower
from qfedfm.quantum.statevector import simulate

CHECKS = [(name, check) for name in library.names() for check in library.card(name).check]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[f"{name}-{check.sizes}" for name, check in CHECKS])
def test_circuit_gives_the_values_of_its_card(name, check, dtype, tolerance):
    circuit = library.load(name, check.sizes)
    inputs = {key: torch.tensor([[value]], dtype=dtype) for key, value in check.inputs.items()}
    weights = {key: torch.tensor([value], dtype=dtype) for key, value in check.weights.items()}
    values = simulate(circuit.program, inputs, weights, circuit.observables)
    expected = torch.tensor([[check.expectations]], dtype=torch.float64)
    torch.testing.assert_close(values.double(), expected, atol=tolerance, rtol=0)


def test_every_circuit_has_a_card_with_checks_and_a_doi():
    assert {"angle_ring", "basic_entangler", "data_reuploading", "strongly_entangling"} <= set(library.names())
    for name in library.names():
        about = library.card(name)
        assert len(about.check) >= 2
        assert "doi:" in about.reference
        assert library.load(name).input_scale == about.input_scale


# -- the same circuits from PennyLane's templates ----------------------------------------------------------------------


def angle_ring(x, weights):
    n = len(x)
    qml.AngleEmbedding(x, range(n), rotation="Y")
    for layer, row in enumerate(weights):
        if layer:
            edges = [(i, i + 1) for i in range(n - 1)] + ([(n - 1, 0)] if n > 2 else [])
            for edge in edges:
                qml.CZ(edge)
        qml.AngleEmbedding(row, range(n), rotation="Y")


def basic_entangler(x, weights):
    qml.AngleEmbedding(x, range(len(x)))
    qml.BasicEntanglerLayers(weights, range(len(x)))


def strongly_entangling(x, weights):
    qml.AngleEmbedding(x, range(len(x)))
    qml.StronglyEntanglingLayers(weights, range(len(x)))


def data_reuploading(x, angles, scales):
    layers, n, blocks, _ = angles.shape
    for layer in range(layers):
        for wire in range(n):
            for block in range(blocks):
                theta, phi, lam = angles[layer, wire, block] + scales[layer, wire, block] * x[block]
                qml.Rot(lam, theta, phi, wire)
        if layer < layers - 1:
            for wire in range(layer % 2, n - 1, 2):
                qml.CZ([wire, wire + 1])
            if layer % 2 and n % 2 == 0 and n > 2:
                qml.CZ([n - 1, 0])


TEMPLATES = {f.__name__: f for f in (angle_ring, basic_entangler, strongly_entangling, data_reuploading)}


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 5), layers=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_circuit_is_pennylanes_template_at_any_size(name, n, layers, seed):
    circuit = library.load(name, {"n": n, "layers": layers})
    program, generator = circuit.program, np.random.default_rng(seed)
    shapes = dict(program.inputs) | {spec.name: spec.shape for spec in program.weights}
    values = {key: torch.from_numpy(generator.uniform(-math.pi, math.pi, shape)) for key, shape in shapes.items()}

    @qml.qnode(qml.device("default.qubit", wires=n), interface="torch")
    def reference(**arguments):
        TEMPLATES[name](**arguments)
        return [qml.expval(qml.Z(wire)) for wire in range(n)]

    inputs = {key: values[key][None, None] for key, _ in program.inputs}
    weights = {spec.name: values[spec.name][None] for spec in program.weights}
    found = simulate(program, inputs, weights, circuit.observables)[0, 0]
    torch.testing.assert_close(found, torch.stack(reference(**values)), atol=1e-10, rtol=0)
    # the reader and the lowering of the template agree gate by gate, but for the order of commuting gates
    assert program.count_gates() == lower(TEMPLATES[name], shapes, n_wires=n).program.count_gates()


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("sizes", [{"n": 4, "layers": 2}, {"n": 3, "layers": 3}])
def test_reader_and_lowering_make_the_same_program(name, sizes):
    program = library.load(name, sizes).program
    shapes = dict(program.inputs) | {spec.name: spec.shape for spec in program.weights}
    assert lower(TEMPLATES[name], shapes).program.hash == program.hash


# -- files -------------------------------------------------------------------------------------------------------------

TEXT = 'include "stdgates.inc";\nconst int n = 2;\n@trainable\ninput array[float, n] w;\nqubit[n] q;\nrx(w[0]) q[0];\n'
CARD = (
    'title = "One rotation"\nreference = "none"\nrole = "test"\ninput_scale = 1.5\n[periods]\nw = 6.283185307179586\n'
)


def test_a_path_loads_without_a_card_and_with_one(tmp_path):
    file = tmp_path / "mine.qasm"
    file.write_text(TEXT)
    assert library.load(file, {"n": 3}).program.n_wires == 3
    assert library.load(str(file)).input_scale == pytest.approx(math.pi / 2)
    with pytest.raises(CircuitError, match=r"circuit 'mine' has no card: mine.toml is not beside it"):
        library.card(file)
    file.with_suffix(".toml").write_text(CARD)
    assert (library.load(file).input_scale, library.load(file).name) == (1.5, "mine")


def test_adding_a_pair_of_files_adds_a_circuit(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "_folder", lambda: tmp_path)
    (tmp_path / "mine.qasm").write_text(TEXT)
    (tmp_path / "mine.toml").write_text(CARD)
    assert library.names() == ("mine",)
    assert library.load("mine").reference == "none"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("6.283185307179586", "12.566370614359172", "states the periods"),
        ("6.283185307179586", '"linear"', "states the periods"),
        ("w =", "v =", "states the periods"),
        ("role", "rule", "Card has no field 'rule'"),
        ('title = "One rotation"\n', "", "Card needs 'title'"),
        ("input_scale = 1.5", "input_scale = wide", "card mine.toml"),
    ],
)
def test_a_wrong_card_is_refused(tmp_path, old, new, reason):
    (tmp_path / "mine.qasm").write_text(TEXT)
    (tmp_path / "mine.toml").write_text(CARD.replace(old, new))
    with pytest.raises(CircuitError, match=reason):
        library.load(tmp_path / "mine.qasm")


@pytest.mark.parametrize(
    ("name", "sizes", "reason"),
    [
        ("strongly_entangled", {}, r"did you mean 'strongly_entangling'\?.*it holds angle_ring"),
        ("angle_ring", {"depth": 2}, "circuit 'angle_ring' has sizes n, layers; got 'depth'"),
        ("nowhere/none.qasm", {}, "cannot be read"),
    ],
)
def test_unknown_names_sizes_and_paths_are_refused_with_the_known_ones(name, sizes, reason):
    with pytest.raises(CircuitError, match=reason):
        library.load(name, sizes)


def test_heavy_packages_are_imported_only_when_needed():
    code = """import sys
from qfedfm.quantum import library
print([name for name in ("pennylane", "openqasm3", "qiskit") if name in sys.modules])
library.load("angle_ring")
print([name for name in ("pennylane", "qiskit") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
