"""The simulator inside torch's function transforms, over weights, and its determinism and its device."""

import numpy as np
import pytest
import torch
from reference import strongly_entangling
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

from qfedfm.quantum import (
    client_fidelities,
    fidelity,
    fidelity_kernel,
    probabilities,
    purity,
    quantum_fisher,
    reduced_density,
    samples,
    simulate,
    states,
    z_on_every_wire,
)

# torch compiles a few forward derivatives when the first is taken, with a function that it has itself deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
N, LAYERS, CLIENTS, ROWS, MODELS = 3, 2, 2, 4, 5
PROGRAM, MEASURED = strongly_entangling(N, LAYERS), z_on_every_wire(N)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(CLIENTS, ROWS, N, dtype=torch.float64, generator=GENERATOR)
W = torch.randn(MODELS, CLIENTS, LAYERS, N, 3, dtype=torch.float64, generator=GENERATOR)


def values(w):
    return simulate(PROGRAM, {"x": X}, {"w": w}, MEASURED)


def loss(w):
    return values(w).square().mean()


def plain_gradient(w):
    leaf = w.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


class Layer(nn.Module):
    """A circuit as a module."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(W[0].clone())

    def forward(self, x):
        return simulate(PROGRAM, {"x": x}, {"w": self.w}, MEASURED)


@pytest.mark.parametrize(
    "function", [values, lambda w: states(PROGRAM, {"x": X}, {"w": w})], ids=["simulate", "states"]
)
def test_vmap_over_weights_is_the_loop(function):
    torch.testing.assert_close(vmap(function)(W), torch.stack([function(w) for w in W]), atol=1e-12, rtol=0)


def test_gradients_under_vmap_are_those_of_the_loop():
    expected = torch.stack([plain_gradient(w) for w in W])
    torch.testing.assert_close(vmap(grad(loss))(W), expected, atol=1e-12, rtol=0)


def test_functional_call_swaps_the_weights_of_a_module_and_vmaps():
    layer = Layer()
    found = vmap(lambda w: functional_call(layer, {"w": w}, (X,)))(W)
    torch.testing.assert_close(found, torch.stack([values(w) for w in W]), atol=1e-12, rtol=0)


def test_forward_and_reverse_derivatives_agree_up_to_second_order():
    w = W[0]
    torch.testing.assert_close(jacfwd(values)(w), jacrev(values)(w), atol=1e-12, rtol=0)
    slopes = torch.autograd.functional.jacobian(plain_gradient_of_graph, w)
    torch.testing.assert_close(hessian(loss)(w), slopes, atol=1e-12, rtol=0)


def plain_gradient_of_graph(w):
    return torch.autograd.grad(loss(w), w, create_graph=True)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_call_twice_is_equal_to_the_last_bit(dtype):
    def once():
        x, w = X.to(dtype).requires_grad_(), W[0].to(dtype).requires_grad_()
        found = simulate(PROGRAM, {"x": x}, {"w": w}, MEASURED)
        return [found, *torch.autograd.grad(found.square().sum(), (x, w)), states(PROGRAM, {"x": x}, {"w": w})]

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: simulate(PROGRAM, x, w, MEASURED),
        lambda x, w: states(PROGRAM, x, w),
        lambda x, w: probabilities(PROGRAM, x, w, [1]),
        lambda x, w: samples(PROGRAM, x, w, 5, np.random.default_rng(0)),
        lambda x, w: reduced_density(PROGRAM, x, w, [0]),
        lambda x, w: purity(PROGRAM, x, w, [0]),
        lambda x, w: fidelity(PROGRAM, x, w, w),
        lambda x, w: fidelity_kernel(PROGRAM, x, x, w),
        lambda x, w: client_fidelities(PROGRAM, {"x": x["x"][0]}, w),
        lambda x, w: quantum_fisher(PROGRAM, x, w),
    ],
)
def test_everything_follows_the_device_of_its_arguments(call):
    # "meta" tensors have a device and no values; torch refuses to mix them with those of another
    inputs = {"x": torch.empty(CLIENTS, ROWS, N, device="meta")}
    assert call(inputs, {"w": torch.empty(CLIENTS, LAYERS, N, 3, device="meta")}).device.type == "meta"
