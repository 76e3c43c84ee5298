"""The circuit library: every card's checks, every circuit against PennyLane at other sizes, and what each is for."""

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
import templates
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import CircuitError
from qfedfm.quantum import library
from qfedfm.quantum.pennylane import lower
from qfedfm.quantum.program import z_on_every_wire
from qfedfm.quantum.statevector import simulate, states

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


LAYERED = {"n": st.integers(2, 5), "layers": st.integers(1, 3)}
SIZES = {  # those of each circuit that is compared at random sizes
    **dict.fromkeys(("angle_ring", "basic_entangler", "data_reuploading"), LAYERED | {"n": st.integers(1, 5)}),
    **dict.fromkeys(
        ("strongly_entangling", "heavy_hex_chain", "permutation_equivariant"), LAYERED | {"n": st.integers(1, 5)}
    ),
    **dict.fromkeys(("brickwork", "simplified_two_design"), LAYERED),
    "amplitude_embedding": LAYERED | {"n": st.integers(1, 4)},
    "iqp": LAYERED | {"layers": st.integers(2, 3)},  # after one layer every <Z> is zero
    "matrix_product_state": {"n": st.integers(2, 6)},
    "qcnn": {"levels": st.integers(1, 3)},
    "tree_tensor_network": {"n": st.sampled_from([2, 4, 8])},
}


def arguments(program, seed):
    """Return inputs and weights of one row and one client by name, drawn from a whole turn, with gradients."""
    generator = np.random.default_rng(seed)
    shapes = dict(program.inputs) | {spec.name: spec.shape for spec in program.weights}
    drawn = {key: generator.uniform(-math.pi, math.pi, shape) for key, shape in shapes.items()}
    return {key: torch.from_numpy(np.asarray(value)).requires_grad_() for key, value in drawn.items()}


def values(circuit, given):
    """Return the expectation values of one row and one client."""
    inputs = {key: given[key][None, None] for key, _ in circuit.program.inputs}
    weights = {spec.name: given[spec.name][None] for spec in circuit.program.weights}
    return simulate(circuit.program, inputs, weights, circuit.observables)[0, 0]


def test_every_circuit_is_compared_with_a_second_construction():
    assert set(SIZES) == set(library.names())


@pytest.mark.parametrize("name", SIZES)
@settings(max_examples=8, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_circuit_is_pennylanes_template_at_any_size_in_values_and_gradients(name, data, seed):
    sizes = data.draw(st.fixed_dictionaries(SIZES[name]))
    circuit = library.load(name, sizes)
    n, given_values = circuit.program.n_wires, arguments(circuit.program, seed)
    template = getattr(templates, name)
    extra = {"layers": sizes["layers"]} if name == "iqp" else {}

    @qml.qnode(qml.device("default.qubit", wires=n), interface="torch", diff_method="backprop")
    def reference(**arrays):
        template(**arrays, **extra)
        return [qml.expval(observable) for observable in templates.measured(name, n)]

    found, expected = values(circuit, given_values), torch.stack(reference(**given_values))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    factors = torch.linspace(1, 2, len(expected), dtype=torch.float64)
    leaves = list(given_values.values())
    gradients = (torch.autograd.grad((factors * side).sum(), leaves) for side in (found, expected))
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=0)


OTHER_GATES = {"amplitude_embedding", "qcnn", "iqp"}  # their templates are made of other gates than the library's


@pytest.mark.parametrize("name", sorted(SIZES.keys() - OTHER_GATES))
@pytest.mark.parametrize("n", [3, 4])
def test_reader_and_lowering_agree_gate_by_gate(name, n):
    if name == "tree_tensor_network":
        n = 4 * (n - 2)  # PennyLane's tree has 2^k leaves
    program = library.load(name, {"n": n}).program
    shapes = dict(program.inputs) | {spec.name: spec.shape for spec in program.weights}
    lowered = lower(getattr(templates, name), shapes, n_wires=n).program
    assert lowered.count_gates() == program.count_gates()
    if name in ("angle_ring", "basic_entangler", "data_reuploading", "strongly_entangling", "heavy_hex_chain"):
        assert lowered.hash == program.hash  # elsewhere gates that commute stand in another order


# -- what each circuit is for ------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(data=st.data(), n=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_permuted_inputs_permute_the_qubits_of_the_equivariant_circuit_and_leave_its_mean(data, n, seed):
    circuit = library.load("permutation_equivariant", {"n": n, "layers": 2})
    order = data.draw(st.permutations(range(n)))
    given_values = arguments(circuit.program, seed)
    moved = given_values | {"x": given_values["x"][order]}
    torch.testing.assert_close(values(circuit, moved), values(circuit, given_values), atol=1e-12, rtol=0)
    each = replace(circuit, observables=z_on_every_wire(n))
    torch.testing.assert_close(values(each, moved), values(each, given_values)[order], atol=1e-12, rtol=0)
    # the property is the circuit's own: others do not have it
    other = replace(library.load("heavy_hex_chain", {"n": n}), observables=circuit.observables)
    drawn = arguments(other.program, 0) | {"x": torch.linspace(0.1, 1.3, n, dtype=torch.float64)}
    assert (values(other, drawn) - values(other, drawn | {"x": drawn["x"].flip(0)})).abs() > 1e-3


def test_a_heavy_hex_lattice_runs_the_chain_without_a_swap():
    from qiskit import QuantumCircuit, transpile
    from qiskit.transpiler import CouplingMap

    n = 12
    program = library.load("heavy_hex_chain", {"n": n, "layers": 2}).program
    circuit = QuantumCircuit(n)
    for name, wires, angles in program.gates:
        getattr(circuit, name)(*(0.3 for _ in angles), *wires)
    lattice = CouplingMap.from_heavy_hex(3)
    placed = transpile(circuit, coupling_map=lattice, basis_gates=["rz", "sx", "x", "cz"], seed_transpiler=1)
    assert placed.count_ops()["cz"] == program.count_gates()["cz"] == 2 * (n - 1)


@pytest.mark.parametrize("n", range(2, 10))
def test_a_tree_of_any_width_joins_all_qubits_at_the_last(n):
    program = library.load("tree_tensor_network", {"n": n}).program
    joints = [gate.wires for gate in program.gates if gate.name == "cx"]
    assert len(joints) == n - 1
    assert sorted(wire for wire, _ in joints) == list(range(n - 1))  # every qubit but the root is handed on once
    assert all(joints.index(pair) < i for i, (wire, _) in enumerate(joints) for pair in joints if pair[1] == wire)
    assert max(Counter(wire for pair in joints for wire in pair).values()) == math.ceil(math.log2(n))


@settings(max_examples=20, deadline=None)
@given(data=st.data(), n=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_amplitude_embedding_is_the_normalised_input_with_any_zeros_in_it(data, n, seed):
    # one-hot rows and rows with whole blocks of zeros are the hard ones: no angle is defined there
    kept = data.draw(st.lists(st.booleans(), min_size=2**n, max_size=2**n).filter(any))
    program = library.load("amplitude_embedding", {"n": n, "layers": 1}).program
    x = np.random.default_rng(seed).normal(size=2**n) * kept
    tensor = torch.from_numpy(x)[None, None].requires_grad_()
    weights = {"weights": torch.zeros(1, 1, n, 3, dtype=torch.float64, requires_grad=True)}
    embedding = replace(program, gates=program.gates[: 2 ** (n + 1) - 3])
    state = states(embedding, {"x": tensor}, weights)[0, :, 0]
    torch.testing.assert_close(state.real.detach(), torch.from_numpy(x / np.linalg.norm(x)), atol=1e-12, rtol=0)
    gradient = torch.autograd.grad(state.real.sum(), tensor)[0]
    assert torch.isfinite(gradient).all()


def test_amplitude_embedding_of_nothing_is_the_state_zero_with_no_gradient():
    circuit = library.load("amplitude_embedding", {"n": 2, "layers": 1})
    given_values = arguments(circuit.program, 1) | {"x": torch.zeros(4, dtype=torch.float64, requires_grad=True)}
    first = given_values | {"x": torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)}
    found = values(circuit, given_values)
    torch.testing.assert_close(found, values(circuit, first), atol=1e-12, rtol=0)
    gradient, of_weights = torch.autograd.grad(found.sum(), [given_values["x"], given_values["weights"]])
    assert torch.equal(gradient, torch.zeros(4, dtype=torch.float64))
    assert of_weights.abs().max() > 1e-3


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
        ("strongly_entangled", {}, r"did you mean 'strongly_entangling'\?.*it holds amplitude_embedding, angle_ring"),
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
