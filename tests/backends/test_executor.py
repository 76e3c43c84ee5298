"""The executor: values and gradients from a machine equal those of the exact simulator, all in one submission."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import observables, programs

from qfedfm.backends import Exact, Executor, ParameterShift, Session, Shots, Spsa, Usage, flatten
from qfedfm.errors import BackendError, ConfigurationError
from qfedfm.heads import Kernel, Linear, Variational
from qfedfm.params import stack
from qfedfm.quantum import assemble, pauli_z, simulate
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.program import Gate


class Counting:
    """The exact machine, remembering what it was asked for."""

    def __init__(self) -> None:
        self.inner, self.keys, self.rows = Exact().connect(Session()), [], []

    def __getattr__(self, name):
        if name == "execute":  # not to be taken for differentiable
            raise AttributeError(name)
        return getattr(self.inner, name)

    def submit(self, compiled, angles, shots, key):
        self.keys.append(key)
        self.rows.append(len(angles))
        return self.inner.submit(compiled, angles, shots, key)


def arguments(program, clients=2, rows=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {n: torch.rand(clients, rows, *s, generator=generator, dtype=torch.float64) for n, s in program.inputs}
    weights = {s.name: torch.rand(clients, *s.shape, generator=generator, dtype=torch.float64) for s in program.weights}
    return inputs, weights


def value_and_gradients(execute, program, inputs, weights, measured):
    leaves = [t.clone().requires_grad_() for t in (*inputs.values(), *weights.values())]
    given = dict(zip([*inputs, *weights], leaves, strict=True))
    values = execute(program, {n: given[n] for n in inputs}, {n: given[n] for n in weights}, measured)
    mixed = (values * torch.arange(1, values.numel() + 1, dtype=torch.float64).view(values.shape)).sum()
    gradients = torch.autograd.grad(mixed, leaves, allow_unused=True) if mixed.requires_grad else [None] * len(leaves)
    return values.detach(), [
        torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, gradients, strict=True)
    ]


@settings(max_examples=40)
@given(st.data())
def test_values_and_shifted_gradients_of_any_circuit_equal_the_simulators(data):
    program = data.draw(programs(max_wires=3))
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(program)
    executor = Executor(Exact().connect(Session()), gradient=ParameterShift())
    expected, wanted = value_and_gradients(simulate, program, inputs, weights, measured)
    values, gradients = value_and_gradients(executor, program, inputs, weights, measured)
    torch.testing.assert_close(values.expand_as(expected), expected, atol=1e-10, rtol=0)
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, want, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", [name for name, kind in GATES.items() if kind.angles])
def test_the_shift_rule_of_every_gate_is_exact(name):
    wires = tuple(range(GATES[name].wires))
    program = assemble(
        2,
        [Gate("ry", (0,), (0.4,)), Gate("ry", (1,), (1.1,)), Gate(name, wires, (0,)), Gate("rx", (0,), (0.9,))],
        [Expr("weight", ("w", 0))],
        {},
        {"w": (1,)},
    )
    measured = (pauli_z(0), ((1.0, ((0, "Y"), (1, "X"))),), pauli_z(1))
    _, inner = value_and_gradients(simulate, program, {}, {"w": torch.tensor([[0.7]], dtype=torch.float64)}, measured)
    executor = Executor(Exact().connect(Session()), gradient=ParameterShift())
    _, shifted = value_and_gradients(executor, program, {}, {"w": torch.tensor([[0.7]], dtype=torch.float64)}, measured)
    torch.testing.assert_close(shifted[0], inner[0], atol=1e-12, rtol=0)
    points = 4 if name.startswith("cr") else 2
    assert executor.gradient.count(flatten(program, measured), np.array([True])) == points


def test_a_gate_list_with_a_shared_slot_is_shifted_gate_by_gate():
    slot = 2.0 * Expr("weight", ("w", 0))
    program = assemble(1, [Gate("rx", (0,), (0,)), Gate("ry", (0,), (0,))], [slot], {}, {"w": (1,)})
    executor = Executor(Exact().connect(Session()), gradient=ParameterShift())
    weights = {"w": torch.tensor([[0.3]], dtype=torch.float64)}
    values, (gradient,) = value_and_gradients(executor, program, {}, weights, (pauli_z(0),))
    # <Z> after RX(2w), then RY(2w) is cos(2w)^2, whose derivative is -2 sin(4w)
    assert float(values) == pytest.approx(np.cos(0.6) ** 2, abs=1e-12)
    assert float(gradient) == pytest.approx(-2 * np.sin(1.2), abs=1e-12)
    assert flatten(program, (pauli_z(0),)).source.tolist() == [0, 0]


def model_and_params(clients=2):
    model = Variational("strongly_entangling", {"n": 3, "layers": 2}).bind(5, 2).with_precision("float64")
    return model, stack([model.init(seed) for seed in range(clients)])


def loss_gradients(model, params, features):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    loss = model.apply(leaves, features).square().sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(leaves.values()))])


def test_a_batch_gradient_of_all_clients_is_one_submission():
    model, params = model_and_params()
    machine = Counting()
    executor = Executor(machine, gradient=ParameterShift())
    features = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with executor.task("round-1/train"):
        found = loss_gradients(model.on(executor), params, features)
        loss_gradients(model.on(executor), params, 2 * features)
    torch.testing.assert_close(found, loss_gradients(model, params, features), atol=1e-10, rtol=0)
    live = flatten(model.circuit.program, model.circuit.observables)
    assert machine.rows == [2 * 4 * (1 + 2 * len(live.source))] * 2
    assert [key.rsplit("/", 1)[0] for key in machine.keys] == ["round-1/train/1", "round-1/train/2"]
    assert machine.keys[0][-16:] != machine.keys[1][-16:]  # the rest says what is in it


def test_the_same_work_has_the_same_key_and_so_the_same_shots():
    model, params = model_and_params()
    features = torch.ones(2, 4, 5, dtype=torch.float64)
    found = []
    for seed in (0, 0, 1):
        executor = Executor(Shots(100).connect(Session(seed)), 100, seed=seed)
        with executor.task("a"), torch.no_grad():
            found.append(model.on(executor).apply(params, features))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_rows_outside_the_mask_are_not_run_and_cost_nothing():
    model, params = model_and_params()
    executor = Executor(Shots(50).connect(Session()), 50)
    features = torch.ones(2, 3, 5, dtype=torch.float64)
    with executor.only(torch.tensor([[True, False, True], [False, False, True]])), torch.no_grad():
        outputs = model.on(executor).apply(params, features)
    usage = executor.take_usage()
    assert [(one.executions, one.shots) for one in usage] == [(2, 100), (1, 50)]
    assert torch.equal(outputs[0, 1], params["readout.bias"][0])
    assert not torch.equal(outputs[0, 0], params["readout.bias"][0])
    assert executor.take_usage() == []


def test_usage_adds_up():
    assert Usage(1, 2, 0.5) + Usage(3, 4, 1.0) == Usage(4, 6, 1.5)


def test_a_mask_of_another_shape_is_refused():
    model, params = model_and_params()
    executor = Executor(Shots(50).connect(Session()), 50)
    with executor.only(torch.ones(2, 4, dtype=torch.bool)), pytest.raises(BackendError, match="announced"):
        model.on(executor).apply(params, torch.ones(2, 3, 5, dtype=torch.float64))


@pytest.mark.parametrize("shots", [None, 4096])
def test_spsa_is_unbiased(shots):
    """Mean over 3000 rows with directions of their own; the bias of step .05 is far below the tolerance of 5 sigma."""
    program = assemble(
        2,
        [Gate("ry", (0,), (0,)), Gate("cx", (0, 1)), Gate("rx", (1,), (1,))],
        [Expr("weight", ("w", 0)), Expr("weight", ("w", 1))],
        {"x": (1,)},
        {"w": (2,)},
    )
    weights = {"w": torch.tensor([[0.4, -1.2]]).double()}
    backend = Exact() if shots is None else Shots(shots)
    executor = Executor(backend.connect(Session(3)), shots, Spsa(step=0.05), seed=7)
    rows = 3000
    leaf = weights["w"].clone().requires_grad_()
    with executor.task("spsa"):
        values = executor(program, {"x": torch.zeros(1, rows, 1).double()}, {"w": leaf}, (pauli_z(1),))
    (gradient,) = torch.autograd.grad(values.mean(), leaf)
    # <Z_1> = cos(a) cos(b)
    a, b = 0.4, -1.2
    expected = torch.tensor([[-np.sin(a) * np.cos(b), -np.cos(a) * np.sin(b)]])
    # one direction gives the derivative plus or minus the other one, and shot noise of variance 1 / (2 step^2 shots)
    noise = 0 if shots is None else 1 / (2 * 0.05**2 * shots)
    sigma = np.sqrt((expected.abs().max().item() ** 2 + noise) / rows)
    assert (gradient - expected).abs().max() < 5 * sigma + 1e-3
    assert executor.take_usage()[0].executions == 3 * rows


def test_shot_noise_in_the_gradient_is_as_large_as_it_should_be():
    """A two-point shift rule with n shots has variance (1 - f+^2 + 1 - f-^2) / 4n; 400 rows give it to about 7 %."""
    program = assemble(1, [Gate("ry", (0,), (0,))], [Expr("weight", ("w", 0))], {"x": (1,)}, {"w": (1,)})
    executor = Executor(Shots(200).connect(Session()), 200)
    leaf = torch.full((400, 1), 0.9, dtype=torch.float64, requires_grad=True)
    values = executor(program, {"x": torch.zeros(400, 1, 1).double()}, {"w": leaf}, (pauli_z(0),))
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    expected = 2 * (1 - np.sin(0.9) ** 2) / (4 * 200)
    assert gradient.mean() == pytest.approx(-np.sin(0.9), abs=5 * np.sqrt(expected / 400))
    assert gradient.var() == pytest.approx(expected, rel=0.35)


def test_heads_without_circuit_stay_as_they_are_and_kernels_are_refused():
    linear = Linear().bind(3, 2)
    executor = Executor(Shots(10).connect(Session()), 10)
    assert linear.on(executor) is linear
    with pytest.raises(ConfigurationError, match=r"only be simulated exactly.*Variational"):
        Kernel("iqp").bind(3, 2).on(executor)
