"""Every head's `apply` against a model assembled by hand for one client: torch.nn layers, PennyLane's default.qubit."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pennylane as qml
import pytest
import torch
from torch import Tensor, nn

from qfedfm.errors import CircuitError, ConfigurationError
from qfedfm.heads import Head, Linear, Mlp, Variational, matched_classical
from qfedfm.heads.model import Model
from qfedfm.params import Params
from qfedfm.quantum.library import load
from qfedfm.quantum.program import Circuit

C, R, F, OUT = 3, 4, 5, 2
HEADS = [Linear(), Mlp((6,)), Mlp((3, 4, 2), 1.5), Variational("strongly_entangling", {"n": 2, "layers": 1})]


def case(head: Head) -> tuple[Model, Params, Tensor]:
    """Return the head's model in float64 with random parameters of its own for each client, and random features."""
    model = head.bind(F, OUT).with_precision("float64")
    generator = torch.Generator().manual_seed(3)
    params = {
        spec.name: torch.randn(C, *spec.shape, generator=generator, dtype=torch.float64).requires_grad_()
        for spec in model.specs
    }
    return model, params, torch.randn(C, R, F, generator=generator, dtype=torch.float64)


def layer(params: Params, name: str, client: int) -> nn.Linear:
    weight, bias = params[f"{name}.weight"][client], params[f"{name}.bias"][client]
    made = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    made.load_state_dict({"weight": weight, "bias": bias})
    return made


class Times(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, rows: Tensor) -> Tensor:
        return self.factor * rows


def test_linear_is_torchs_linear_for_each_client() -> None:
    model, params, features = case(Linear())
    outputs = model.apply(params, features)
    assert outputs.shape == (C, R, OUT)
    for c in range(C):
        torch.testing.assert_close(outputs[c], layer(params, "readout", c)(features[c]), rtol=0, atol=1e-10)


def test_mlp_is_torchs_sequential_for_each_client() -> None:
    model, params, features = case(Mlp((3, 4, 2), squash=1.5))
    outputs = model.apply(params, features)
    for c in range(C):
        first, *rest = (layer(params, name, c) for name in ("projection", "core.1", "core.2", "readout"))
        network = nn.Sequential(first, nn.Tanh(), Times(1.5), rest[0], nn.Tanh(), rest[1], nn.Tanh(), rest[2])
        torch.testing.assert_close(outputs[c], network(features[c]), rtol=0, atol=1e-10)


def test_variational_is_a_pennylane_circuit_between_torch_layers_in_values_and_gradients() -> None:
    head = Variational("strongly_entangling", {"n": 3, "layers": 2})
    model, params, features = case(head)
    c = 1

    @qml.qnode(qml.device("default.qubit", wires=3), interface="torch", diff_method="backprop")
    def circuit(x: Tensor, weights: Tensor) -> list[qml.measurements.ExpectationMP]:
        qml.AngleEmbedding(x, range(3))
        qml.StronglyEntanglingLayers(weights, range(3))
        return [qml.expval(qml.Z(wire)) for wire in range(3)]

    mine = {name: tensor[c].detach().requires_grad_() for name, tensor in params.items()}
    x = math.pi / 2 * torch.tanh(features[c] @ mine["projection.weight"].T + mine["projection.bias"])
    measured = torch.stack(circuit(x, mine["circuit.weights"]), dim=-1)
    expected = measured @ mine["readout.weight"].T + mine["readout.bias"]

    outputs = model.apply(params, features)
    torch.testing.assert_close(outputs[c], expected, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad(outputs.square().sum(), list(params.values()))
    wanted = torch.autograd.grad(expected.square().sum(), [mine[name] for name in params])
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got[c], want, rtol=0, atol=1e-10)


def rotations(x, y, weights):
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=1)
    qml.StronglyEntanglingLayers(weights, range(2))


LIBRARY = load("strongly_entangling", {"n": 2, "layers": 2})


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: Variational("strongly_entangling", {"n": 2, "layers": 2}, 1.0),
        lambda folder: Variational(copy(folder), {"n": 2, "layers": 2}, 1.0),
        lambda folder: Variational(LIBRARY, input_scale=1.0),
        lambda folder: Variational(LIBRARY.program, input_scale=1.0),
        lambda folder: Variational(lambda x, weights: rotations(x, 0, weights), {"x": 2, "weights": (2, 2, 3)}, 1.0),
        lambda folder: Variational(replace(LIBRARY, input_scale=1.0)),
    ],
    ids=["name", "path", "circuit", "program", "PennyLane", "circuit's own scale"],
)
def test_the_same_circuit_from_any_source_is_the_same_head(make: Callable[[Path], Variational], tmp_path: Path) -> None:
    reference, params, features = case(Variational("strongly_entangling", {"n": 2, "layers": 2}, 1.0))
    model = make(tmp_path).bind(F, OUT).with_precision("float64")
    assert model.specs == reference.specs
    torch.testing.assert_close(model.apply(params, features), reference.apply(params, features), rtol=0, atol=1e-10)


def copy(folder: Path) -> Path:
    path = folder / "mine.qasm"
    path.write_text((Path(__file__).parents[2] / "circuits" / "strongly_entangling.qasm").read_text())
    return path


def test_a_circuit_may_take_an_input_of_any_shape_and_it_is_filled_in_order() -> None:
    def grid(x, w):
        for i in range(2):
            for j in range(2):
                qml.RY((j + 1) * x[i, j], wires=2 * i + j)
        qml.RX(w, wires=0)

    model, params, features = case(Variational(grid, {"x": (2, 2), "w": ()}, 1.0))
    angles = torch.tanh(layer(params, "projection", 0)(features[0])) * torch.tensor([1.0, 2.0, 1.0, 2.0])
    measured = torch.cos(angles)  # <Z> after RY(a) is cos a; RX(w) on wire 0 scales it by cos w
    measured = torch.cat([measured[:, :1] * torch.cos(params["circuit.w"][0]), measured[:, 1:]], dim=1)
    expected = layer(params, "readout", 0)(measured)
    torch.testing.assert_close(model.apply(params, features)[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_clients_and_rows_never_mix(head: Head) -> None:
    model, params, features = case(head)
    outputs = model.apply(params, features)
    order, rows = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    moved = model.apply({name: tensor[order] for name, tensor in params.items()}, features[order][:, rows])
    torch.testing.assert_close(moved, outputs[order][:, rows], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("head", "specs", "count"),
    [
        (Linear(), {"readout.weight": (2, 5), "readout.bias": (2,)}, (12, 0)),
        (
            Mlp((3, 4)),
            {
                "projection.weight": (3, 5), "projection.bias": (3,), "core.1.weight": (4, 3), "core.1.bias": (4,),
                "readout.weight": (2, 4), "readout.bias": (2,),
            },
            (18 + 16 + 10, 0),
        ),
        (
            Variational("strongly_entangling", {"n": 3, "layers": 2}),
            {
                "projection.weight": (3, 5), "projection.bias": (3,), "circuit.weights": (2, 3, 3),
                "readout.weight": (2, 3), "readout.bias": (2,),
            },
            (18 + 8, 18),
        ),
    ],
    ids=["linear", "mlp", "variational"],
)  # fmt: skip
def test_specs_and_counts_worked_by_hand(head: Head, specs: dict[str, tuple[int, ...]], count: tuple[int, int]) -> None:
    model = head.bind(F, OUT)
    assert isinstance(head, Head)
    assert {spec.name: spec.shape for spec in model.specs} == specs
    assert model.count() == {"classical": count[0], "quantum": count[1]}
    for spec in model.specs:
        part = {"projection": "projection", "readout": "readout"}.get(spec.name.split(".")[0], "core")
        assert (spec.part, spec.dtype, spec.trainable, spec.shared) == (part, "float32", True, True)
        assert spec.period == (2 * math.pi if spec.name == "circuit.weights" else None)


def test_frozen_parameters_are_not_counted_as_trainable() -> None:
    model = HEADS[-1].bind(F, OUT)
    frozen = replace(model, specs=tuple(replace(spec, trainable=spec.part != "core") for spec in model.specs))
    assert model.count()["quantum"] == 6
    assert frozen.count() == {"classical": model.count()["classical"], "quantum": 0}


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_initial_values_follow_the_seed_the_bounds_and_the_precision(head: Head) -> None:
    model = head.bind(F, OUT)
    params, again, other = model.init(1), model.init(1), model.init(2)
    for spec in model.specs:
        values = params[spec.name]
        assert values.shape == spec.shape
        assert values.dtype == torch.float32
        assert torch.equal(values, again[spec.name])
        assert not torch.equal(values, other[spec.name])
        inputs = values.shape[-1] if values.ndim > 1 else params[spec.name.replace("bias", "weight")].shape[-1]
        bound = math.pi if spec.name == "circuit.weights" else 1 / math.sqrt(inputs)
        assert values.abs().max() <= bound
    double = model.with_precision("float64")
    assert double.dtype == torch.float64
    for name, values in double.init(1).items():
        torch.testing.assert_close(values.float(), params[name], rtol=0, atol=1e-6)


def test_initial_values_fill_their_range() -> None:
    # 40,000 uniform values on [-1/20, 1/20]: the standard error of the mean is .05/sqrt(3 * 40000) = 1.4e-4
    values = Mlp((100,)).bind(400, OUT).init(0)["projection.weight"]
    assert values.abs().max() == pytest.approx(0.05, rel=1e-3)
    assert abs(values.mean()) < 4 * 1.4e-4


def test_an_initial_value_depends_on_no_other_parameter_and_twins_share_what_they_share() -> None:
    head = Variational("strongly_entangling", {"n": 4, "layers": 1})
    models = [h.bind(F, OUT) for h in (head, matched_classical(head), Mlp((4, 9, 9, 9, 4)))]
    first, *others = (model.init(5) for model in models)
    for other in others:
        for name in ("projection.weight", "projection.bias", "readout.weight", "readout.bias"):
            assert torch.equal(first[name], other[name])
    assert not torch.equal(others[1]["core.2.bias"], others[1]["core.3.bias"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mlp(()), "Mlp.hidden: expected one or more positive widths"),
        (lambda: Mlp((3, 0)), "Mlp.hidden: expected one or more positive widths"),
        (lambda: Mlp((3,), squash=0.0), "Mlp.squash: expected a positive number; got 0.0"),
        (lambda: Mlp((3,), squash=math.nan), "Mlp.squash: expected a positive number; got nan"),
        (lambda: Mlp(hiden=(3,)), r"Mlp has no field 'hiden' \(did you mean 'hidden'\?\)"),
        (lambda: Variational(input_scale=-1.0), "Variational.input_scale: expected a positive number of radians"),
        (lambda: Variational(LIBRARY, {"n": 2}), "a Program or Circuit has its sizes already"),
        (lambda: Variational(size={"n": 3}), r"Variational has no field 'size' \(did you mean 'sizes'\?\)"),
        (lambda: Variational("strongly_entangling", {"n": (2, 3)}).resolve(), r"whole numbers; \['n'\] are not"),
    ],
)  # fmt: skip
def test_bad_heads_are_refused(make: Callable[[], Head], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("circuit", "sizes", "message"),
    [
        ("strongly_entangled", {}, "did you mean 'strongly_entangling'"),
        ("strongly_entangling", {"qubits": 3}, "qubits"),
        (lambda x, w: qml.RX(x * w, 0), {"x": ()}, "argument 'w' needs a shape"),
    ],
    ids=["name", "size", "shape"],
)
def test_circuits_that_cannot_be_had_are_refused_when_the_head_is_bound(
    circuit: object, sizes: dict[str, object], message: str
) -> None:
    with pytest.raises(CircuitError, match=message):
        Variational(circuit, sizes).bind(F, OUT)


def test_a_circuit_without_data_is_no_head() -> None:
    bare = Circuit(replace(LIBRARY.program, gates=(), slots=(), inputs=(), weights=()), LIBRARY.observables, "bare")
    with pytest.raises(ConfigurationError, match="circuit 'bare' takes no data"):
        Variational(bare).bind(F, OUT)
