"""Modules for the tests of `Module`: two that a head can be made of, and those that it cannot."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """A hidden layer with a gate, a norm, a tied and a frozen parameter, and a constant buffer."""

    def __init__(self, n_in: int, n_out: int, hidden: int = 3, widths: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.inner = nn.Linear(n_in, hidden)
        self.gate = nn.Linear(n_in, hidden)
        self.gate.weight = self.inner.weight
        self.norm = nn.LayerNorm(hidden)
        self.outer = nn.Linear(hidden, n_out)
        self.scale = nn.Parameter(torch.full((n_out,), 2.0), requires_grad=False)
        self.register_buffer("shift", torch.linspace(-1, 1, n_out))

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.norm(torch.relu(self.inner(rows)) * torch.sigmoid(self.gate(rows)))
        return self.scale * self.outer(hidden) + self.shift


def perceptron(n_in: int, n_out: int, widths: tuple[int, ...] = (4,)) -> nn.Module:
    sizes = (n_in, *widths)
    layers = [[nn.Linear(a, b), nn.Tanh()] for a, b in pairwise(sizes)]
    return nn.Sequential(*(module for pair in layers for module in pair), nn.Linear(sizes[-1], n_out))


def with_batch_norm(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, 4), nn.BatchNorm1d(4), nn.Linear(4, n_out))


def with_dropout(n_in: int, n_out: int, p: float = 0.1) -> nn.Module:
    return nn.Sequential(nn.Dropout(p), nn.Linear(n_in, n_out))


def lazy(n_in: int, n_out: int) -> nn.Module:
    return nn.LazyLinear(n_out)


def halves(n_in: int, n_out: int) -> nn.Module:
    return nn.Linear(n_in, n_out).double()


def number(n_in: int, n_out: int) -> int:
    return n_in


def spectral(n_in: int, n_out: int) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Linear(n_in, n_out))


class Odd(nn.Module):
    """A linear layer whose forward pass does one thing that it must not."""

    def __init__(self, n_in: int, n_out: int, fault: str) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.fault = fault

    def forward(self, rows: Tensor) -> Tensor:
        if self.fault == "noise":
            return self.linear(rows) + torch.randn(1)
        if self.fault == "branch" and rows.sum() > 0:
            return -self.linear(rows)
        if self.fault == "mixes":
            return self.linear(rows - rows.mean(0))
        if self.fault == "pair":
            return self.linear(rows), rows
        return self.linear(rows)[:, 0] if self.fault == "flat" else self.linear(rows)


class Still(nn.Module):
    """Nothing to train."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_out = n_out

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, : self.n_out]
