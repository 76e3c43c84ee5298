"""Modules as heads and around circuits, against plain torch modules for each client; circuits side by side."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import nets
import pennylane as qml
import pytest
import torch
from test_heads import OUT, C, F, R, case
from tiny import experiment
from torch import Tensor, nn

import qfedfm as qf
from qfedfm.aggregation import FidelityWeighted
from qfedfm.arms import twins
from qfedfm.backends import Shots
from qfedfm.errors import AggregationError, ConfigurationError
from qfedfm.evidence.examined import encode
from qfedfm.experiment import Experiment
from qfedfm.federation import Training
from qfedfm.heads import Head, Linear, Mlp, Module, Parallel, Variational, matched_classical
from qfedfm.params import Params
from qfedfm.quantum.library import load
from qfedfm.quantum.statevector import simulate
from qfedfm.training import Sgd

GATED = Module(nets.Gated, {"hidden": 6})
PERCEPTRON = Module(nets.perceptron, {"widths": (6, 3)})
RING = Variational("angle_ring", {"n": 2, "layers": 1})
TREE = Variational("tree_tensor_network", {"n": 2})
AROUND = replace(RING, before=PERCEPTRON, after=GATED)
SIDE_BY_SIDE = Parallel((RING, Variational("data_reuploading", {"n": 1, "layers": 2}, 0.5), TREE))
HEADS = [GATED, PERCEPTRON, AROUND, SIDE_BY_SIDE, replace(SIDE_BY_SIDE, after=GATED), Mlp((3, 2), before=GATED)]


def plain(form: nn.Module, params: Params, prefix: str, client: int) -> nn.Module:
    """Return the module with one client's parameters, as torch alone would have it."""
    names = {name for name, _ in form.named_parameters()}
    form = form.double()
    with torch.no_grad():
        for name, tensor in form.named_parameters():
            tensor.copy_(params[f"{prefix}.{name}"][client])
    assert {f"{prefix}.{name}" for name in names} == {name for name in params if name.startswith(f"{prefix}.")}
    return form


@pytest.mark.parametrize(
    ("head", "make"),
    [(GATED, lambda: nets.Gated(F, OUT, 6)), (PERCEPTRON, lambda: nets.perceptron(F, OUT, (6, 3)))],
    ids=["class", "function"],
)
def test_a_module_is_torchs_for_each_client_in_values_and_gradients(
    head: Module, make: Callable[[], nn.Module]
) -> None:
    model, params, features = case(head)
    outputs = model.apply(params, features)
    learnt = [spec.name for spec in model.specs if spec.trainable]
    gradients = torch.autograd.grad(outputs.square().sum(), [params[name] for name in learnt])
    for c in range(C):
        form = plain(make(), params, "core", c)
        expected = form(features[c])
        torch.testing.assert_close(outputs[c], expected, rtol=0, atol=1e-10)
        expected.square().sum().backward()
        own = {f"core.{name}": tensor.grad for name, tensor in form.named_parameters()}
        for name, gradient in zip(learnt, gradients, strict=True):
            torch.testing.assert_close(gradient[c], own[name], rtol=0, atol=1e-10)


def test_modules_before_and_after_a_circuit_are_torch_around_pennylane_in_values_and_gradients() -> None:
    model, params, features = case(AROUND)
    outputs = model.apply(params, features)
    learnt = [spec.name for spec in model.specs if spec.trainable]
    gradients = torch.autograd.grad(outputs.square().sum(), [params[name] for name in learnt])

    @qml.qnode(qml.device("default.qubit", wires=2), interface="torch")
    def circuit(x: Tensor, weights: Tensor) -> list[qml.measurements.ExpectationMP]:
        qml.AngleEmbedding(x, range(2), rotation="Y")
        qml.AngleEmbedding(weights[0], range(2), rotation="Y")
        qml.CZ([0, 1])
        qml.AngleEmbedding(weights[1], range(2), rotation="Y")
        return [qml.expval(qml.Z(wire)) for wire in range(2)]

    c = 1
    before = plain(nets.perceptron(F, 2, (6, 3)), params, "projection", c)
    after = plain(nets.Gated(2, OUT, 6), params, "readout", c)
    weights = params["circuit.weights"][c].detach().requires_grad_()
    measured = circuit(torch.pi / 2 * torch.tanh(before(features[c])), weights)
    expected = after(torch.stack(measured, dim=-1))
    torch.testing.assert_close(outputs[c], expected, rtol=0, atol=1e-10)
    expected.square().sum().backward()
    own = {f"projection.{name}": tensor.grad for name, tensor in before.named_parameters()}
    own |= {f"readout.{name}": tensor.grad for name, tensor in after.named_parameters()}
    own["circuit.weights"] = weights.grad
    for name, gradient in zip(learnt, gradients, strict=True):
        torch.testing.assert_close(gradient[c], own[name], rtol=0, atol=1e-10)


def test_linear_modules_around_a_circuit_are_the_ordinary_head() -> None:
    linear = Module(nn.Linear)
    assert linear.factory == "torch.nn.modules.linear:Linear"
    model, params, features = case(replace(RING, before=linear, after=Module("torch.nn:Linear")))
    ordinary = RING.bind(F, OUT).with_precision("float64")
    assert model.specs == ordinary.specs
    torch.testing.assert_close(model.apply(params, features), ordinary.apply(params, features), rtol=0, atol=1e-12)
    assert model.count() == ordinary.count()


def test_circuits_side_by_side_are_each_run_on_its_slice_with_its_own_weights_and_scale() -> None:
    model, params, features = case(SIDE_BY_SIDE)
    assert [spec.name for spec in model.specs if spec.part == "core"] == [
        "circuit.0.weights", "circuit.1.angles", "circuit.1.scales", "circuit.2.weights",
    ]  # fmt: skip
    turned = torch.tanh(features @ params["projection.weight"].mT + params["projection.bias"][:, None])
    alone = [
        (load("angle_ring", {"n": 2, "layers": 1}), {"x": torch.pi / 2 * turned[..., :2]}),
        (load("data_reuploading", {"n": 1, "layers": 2}), {"x": 0.5 * turned[..., None, 2:5]}),
        (load("tree_tensor_network", {"n": 2}), {"x": torch.pi / 2 * turned[..., 5:]}),
    ]
    values = [
        simulate(c.program, x, {s.name: params[f"circuit.{i}.{s.name}"] for s in c.program.weights}, c.observables)
        for i, (c, x) in enumerate(alone)
    ]
    assert [value.shape[-1] for value in values] == [2, 1, 1]
    expected = torch.cat(values, -1) @ params["readout.weight"].mT + params["readout.bias"][:, None]
    torch.testing.assert_close(model.apply(params, features), expected, rtol=0, atol=1e-12)
    assert model.count()["quantum"] == 4 + 12 + 2
    assert [circuit.name for circuit in model.circuits] == ["angle_ring", "data_reuploading", "tree_tensor_network"]


def test_one_circuit_side_by_side_with_nothing_is_the_variational_head() -> None:
    model, params, features = case(RING)
    single = Parallel((RING,)).bind(F, OUT)
    renamed = {name.replace("circuit.", "circuit.0."): tensor for name, tensor in params.items()}
    torch.testing.assert_close(single.apply(renamed, features), model.apply(params, features), rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
def test_clients_and_rows_never_mix(head: Head) -> None:
    model, params, features = case(head)
    outputs = model.apply(params, features)
    order, rows = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    moved = model.apply({name: tensor[order] for name, tensor in params.items()}, features[order][:, rows])
    torch.testing.assert_close(moved, outputs[order][:, rows], rtol=0, atol=1e-10)


@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
def test_initial_values_follow_the_seed_and_nothing_else(head: Head) -> None:
    model = head.bind(F, OUT)
    torch.manual_seed(1)
    first, state = model.init(1), torch.get_rng_state()
    torch.manual_seed(2)
    again, other = head.bind(F, OUT).init(1), model.init(2)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())  # torch's own generator is left alone
    assert list(first) == [spec.name for spec in model.specs]
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if not name.endswith((".scale", "norm.weight", "norm.bias"))]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    double = model.with_precision("float64").init(1)
    assert all(torch.equal(double[name].float(), tensor) for name, tensor in first.items())


def test_a_module_starts_as_its_own_reset_has_it() -> None:
    values = GATED.bind(F, OUT).init(0)
    assert torch.equal(values["core.norm.weight"], torch.ones(6))
    assert torch.equal(values["core.scale"], torch.full((OUT,), 2.0))
    # nn.Linear draws from +-1/sqrt(n_in); 30 uniform values have a largest one above half of that: 1 - 2^-30
    assert 0.5 < values["core.inner.weight"].abs().max() * F**0.5 <= 1


def test_twins_around_the_circuit_keep_the_modules_and_their_start() -> None:
    twin = matched_classical(AROUND)
    assert twin == Mlp((2, 2), torch.pi / 2, before=PERCEPTRON, after=GATED)  # 4 live angles; one layer has 6
    ours, theirs = AROUND.bind(F, OUT).init(0), twin.bind(F, OUT).init(0)
    for name, tensor in ours.items():
        assert name.startswith("circuit.") or torch.equal(tensor, theirs[name])


def test_the_twin_of_circuits_side_by_side_has_one_core_for_all() -> None:
    # 4 live angles of the ring; of the tree's two, both; one layer of 4 -> 3 has 15, one hidden unit 4 + 1 + 3 + 3 = 11
    twin = matched_classical(Parallel((RING, TREE), after=GATED))
    assert twin == Mlp((4, 1, 3), torch.pi / 2, after=GATED)
    with pytest.raises(ConfigurationError, match=r"take angles up to \[0.5, 1.57.*give every circuit the same"):
        matched_classical(SIDE_BY_SIDE)


def test_arms_know_the_new_heads_or_say_what_to_do() -> None:
    arms = twins(experiment(head=AROUND))
    assert [type(arm.head) for arm in arms.values()] == [Variational, Mlp, Linear]
    assert arms["matched classical head"].head.before == PERCEPTRON
    assert type(twins(experiment(head=Parallel((RING, TREE))))["matched classical head"].head) is Mlp
    with pytest.raises(ConfigurationError, match="got Module: pass arms="):
        twins(experiment(head=GATED))


def test_threads_do_not_share_the_form_that_parameters_are_put_into() -> None:
    model, params, features = case(GATED)
    expected = [model.apply({n: t[[c]] for n, t in params.items()}, features[[c]]) for c in range(C)]
    wrong = []

    def work(c: int) -> None:
        for _ in range(30):
            found = model.apply({n: t[[c]] for n, t in params.items()}, features[[c]])
            if not torch.allclose(found, expected[c], rtol=0, atol=1e-12):
                wrong.append(c)

    threads = [Thread(target=work, args=(c,)) for c in range(C)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- whole federations -------------------------------------------------------------------------------------------------


def stop_in_round_two(client: str, number: int, delta: Params) -> Params:
    if number == 2:
        raise KeyboardInterrupt
    return delta


@pytest.mark.parametrize("head", [GATED, AROUND, SIDE_BY_SIDE], ids=["module", "around", "parallel"])
def test_a_federation_trains_is_saved_and_resumed_to_the_same_end(head: Head, tmp_path: Path) -> None:
    declaration = experiment(head=head, rounds=6)
    whole = qf.run(declaration, tmp_path / "whole", progress=False)
    assert whole.rounds[-1]["validation"]["loss"] < whole.rounds[0]["validation"]["loss"]
    with pytest.raises(KeyboardInterrupt):
        qf.run(declaration, tmp_path / "parts", progress=False, intervene=stop_in_round_two)
    found = Experiment.load(tmp_path / "parts" / "experiment.toml")  # as a resumed run finds it
    assert found.head == head
    assert found.identity == declaration.identity
    parts = qf.run(found, tmp_path / "parts", progress=False, resume=True)
    assert all(torch.equal(parts.params[name], tensor) for name, tensor in whole.params.items())
    assert parts.rounds == whole.rounds
    frozen = [spec.name for spec in whole.model.model.specs if not spec.trainable]
    start = whole.model.model.init(declaration.seed)
    assert all(torch.equal(whole.params[name], start[name]) for name in frozen)
    per_row = len(whole.model.model.circuits)
    assert per_row == (len(head.circuits) if isinstance(head, Parallel) else int(isinstance(head, Variational)))
    assert whole.ledger.totals()["executions"] == per_row * sum(entry.rows for entry in whole.ledger.entries)


def test_every_circuit_of_the_users_own_is_saved_beside_the_others(tmp_path: Path) -> None:
    def cosine(x, w):
        qml.RX(x[0] + w[0], wires=0)

    def sine(x, w):
        qml.RX(x[0], wires=0)
        qml.RY(w[0], wires=0)

    sizes = {"x": 1, "w": 1}
    declaration = experiment(head=Parallel((Variational(cosine, sizes), RING, Variational(sine, sizes))))
    declaration.save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["circuit-0.json", "circuit-2.json"]
    found = Experiment.load(tmp_path / "experiment.toml")
    assert found.identity == declaration.identity
    assert [c.program.hash for c in found.head.bind(F, OUT).circuits] == [
        c.program.hash for c in declaration.head.bind(F, OUT).circuits
    ]


def test_heads_on_a_machine_run_every_circuit_there(tmp_path: Path) -> None:
    head = Parallel((RING, TREE), after=GATED)
    training = Training(optimizer=Sgd(lr=0.05), batch_size=30, gradient=qf.backends.Spsa())
    result = qf.run(
        experiment(head=head, backend=Shots(32), training=training, rounds=1), tmp_path / "r", progress=False
    )
    rows = sum(entry.rows for entry in result.ledger.entries)
    # each row of each circuit once for its values and twice for the gradient's two points
    assert result.ledger.totals()["executions"] == rows * 2 * 3
    model, params, features = case(head)
    seen = []

    def execute(program: Any, *arguments: Any) -> Tensor:
        seen.append(program)
        return simulate(program, *arguments)

    torch.testing.assert_close(model.on(execute).apply(params, features), model.apply(params, features))
    assert seen == [circuit.program for circuit in model.circuits]


def test_private_training_takes_the_gradient_of_every_row_of_a_module() -> None:
    from qfedfm.privacy.per_example import per_example_gradients

    model, params, features = case(AROUND)
    labels = torch.zeros(C, R, dtype=torch.int64)
    learnt = [spec.name for spec in model.specs if spec.trainable]
    _, each = per_example_gradients(model, params, features, labels, learnt)
    losses = torch.nn.functional.cross_entropy(
        model.apply(params, features).flatten(0, 1), labels.flatten(), reduction="none"
    ).view(C, R)
    wanted = torch.autograd.grad(losses[:, 2].sum(), [params[name] for name in learnt])
    for name, gradient in zip(learnt, wanted, strict=True):
        torch.testing.assert_close(each[name][:, 2], gradient, rtol=0, atol=1e-10)


def test_what_a_circuit_is_fed_behind_a_module_is_what_it_is_examined_on() -> None:
    model, params, features = case(AROUND)
    fed = []

    def execute(program: Any, inputs: Params, *rest: Any) -> Tensor:
        fed.append(inputs["x"])
        return simulate(program, inputs, *rest)

    model.on(execute).apply(params, features)
    own = {name: tensor[1] for name, tensor in params.items()}
    torch.testing.assert_close(encode(AROUND, own, features[1]), fed[0][1], rtol=0, atol=1e-12)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Module(lambda n_in, n_out: nn.Linear(n_in, n_out)), "defined in a notebook, a script or a function"),
        (lambda: Module(nn.Linear(2, 2)), "that makes the module from .n_in, n_out., not a module; got Linear"),
        (lambda: Module("torch.nn"), r"its name as 'module:name'; got 'torch.nn'"),
        (lambda: Module(), "Module needs 'factory'"),
        (lambda: Module(nn.Linear, {"bias": None}), "Module.arguments"),
        (lambda: Parallel(()), "expected one or more Variational heads; got none"),
        (lambda: Parallel((AROUND,)), "give before and after to Parallel"),
        (lambda: Parallel((Linear(),)), "Parallel.circuits"),
        (lambda: Variational(before=Linear()), "Variational.before"),
    ],
)
def test_wrong_declarations_are_refused(make: Callable[[], Head], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Module("torch.nn:Lineal"), "cannot be imported: .*Lineal"),
        (Module("no_such_file:Net"), "cannot be imported: No module named 'no_such_file'"),
        (Module("torch.nn:__doc__"), "expected a class or function"),
        (Module(nets.Gated, {"depth": 3}), "making it for 5 inputs and 2 outputs failed: .*'depth'"),
        (Module(nets.number), "expected a torch.nn.Module from it; got int"),
        (Module(nets.lazy), "has no shape before its first use"),
        (Module(nets.halves), "is torch.float64: make it float32"),
        (Module(nets.with_batch_norm), r"BatchNorm1d \(1\) keeps statistics .* use LayerNorm or GroupNorm"),
        (Module(nets.with_dropout), r"Dropout \(0\) draws at random"),
        (Module(nets.spectral), "a forward pass changes its buffers|cannot be run for many clients"),
        (Module(nets.Odd, {"fault": "noise"}), "cannot be run for many clients at once .*random"),
        (Module(nets.Odd, {"fault": "branch"}), "cannot be run for many clients at once"),
        (Module(nets.Odd, {"fault": "mixes"}), "depends on the other rows of the batch"),
        (Module(nets.Odd, {"fault": "pair"}), "to tuple; expected"),
        (Module(nets.Odd, {"fault": "flat"}), r"maps rows \(4, 5\) to \(4,\); expected \(4, 2\)"),
        (Module(nets.Still), "no trainable parameter"),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_trained_for_many_clients_are_refused(head: Module, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        head.bind(F, OUT)


def test_dropout_that_drops_nothing_and_a_module_without_parameters_in_front_are_fine() -> None:
    assert Module(nets.with_dropout, {"p": 0.0}).bind(F, OUT).count()["classical"] == F * OUT + OUT
    model, params, features = case(replace(RING, before=Module(nets.Still)))
    assert not any(name.startswith("projection") for name in params)
    assert model.apply(params, features).shape == (C, R, OUT)


def test_rules_that_compare_one_circuit_refuse_several(tmp_path: Path) -> None:
    declaration = experiment(head=Parallel((RING, TREE)), aggregation=FidelityWeighted())
    with pytest.raises(AggregationError, match="compares the states of one circuit and this head has 2"):
        qf.run(declaration, tmp_path / "run", progress=False)


def test_toml_has_modules_and_circuits_as_tables() -> None:
    text = """
[head]
kind = "Parallel"
[[head.circuits]]
kind = "Variational"
circuit = "qcnn"
sizes = { levels = 1 }
[[head.circuits]]
kind = "Variational"
circuit = "angle_ring"
[head.after]
kind = "Module"
factory = "nets:perceptron"
arguments = { widths = [4, 3] }
"""
    head = Parallel(
        (Variational("qcnn", {"levels": 1}), Variational("angle_ring")),
        after=Module("nets:perceptron", {"widths": (4, 3)}),
    )
    read = Experiment.from_toml(text)
    assert read.head == head
    assert Experiment.from_toml(read.to_toml()) == read
    assert head.bind(F, OUT).count() == {
        "classical": F * 6 + 6 + (5 * 4 + 4) + (4 * 3 + 3) + (3 * 2 + 2),
        "quantum": 20,
    }
