"""Optimisers of a 4-qubit head at equal circuit executions: training loss against circuits run.

Run as `.venv/bin/python benchmarks/optimizers.py`; it writes `docs/optimizers.png`. The task is synthetic: six Gaussian
features, the class is the sign of x0 x1 + x2 / 2, 64 rows to train on, 256 to test. The head is a projection to four
angles, two strongly entangling layers, a linear read-out. All circuits of training have 256 simulated shots; losses are
evaluated exactly, and that is not counted. Every step takes all training rows. One client trains alone, ten times from
ten seeds (data, start, shots); seeds and learning rates are the cohort axis, so an optimiser is trained in one go. As
what is compared is how well optimisers minimise, each has the one of four learning rates with the lowest mean training
loss at the end; what that does to test rows is another matter, and shown. The last line is one JSON object:
{optimiser: [mean training loss at the end, half-width of its 95 % interval]}.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from qfedfm.backends import Executor, Gradient, ParameterShift, Session, Shots, Spsa
from qfedfm.evidence import Interval, mean_interval
from qfedfm.heads import Variational
from qfedfm.heads.model import Model
from qfedfm.params import Params, stack
from qfedfm.seeds import stream
from qfedfm.training import (
    Adam,
    BlockDiagonal,
    CircuitOptimizer,
    Cobyla,
    Lane,
    LayerWise,
    Optimizer,
    QnSpsa,
    QuantumNaturalGradient,
    Rotosolve,
    train_cohort,
)

SEEDS, SHOTS, BUDGET = 10, 256, 800
ROWS, TRAINING = 320, 64
FACTORS = (1 / 3, 1.0, 3.0, 9.0)


@dataclass(frozen=True)
class Arm:
    """An optimiser with its rule for gradients."""

    optimizer: Optimizer | CircuitOptimizer
    gradient: Gradient


ARMS = {
    "Adam, parameter shift": Arm(Adam(lr=0.1), ParameterShift()),
    "Adam, SPSA": Arm(Adam(lr=0.03), Spsa()),
    "natural gradient, blocks": Arm(QuantumNaturalGradient(lr=0.1, metric=BlockDiagonal()), ParameterShift()),
    "natural gradient, SPSA (QN-SPSA)": Arm(
        QuantumNaturalGradient(lr=0.03, metric=QnSpsa(), regularisation=0.1), Spsa()
    ),
    "Rotosolve": Arm(Rotosolve(lr=0.1), ParameterShift()),
    "Rotosolve, rest by SPSA": Arm(Rotosolve(lr=0.1), Spsa()),
    "COBYLA, 30 values a step": Arm(Cobyla(evaluations=30, radius=0.5, lr=0.1), ParameterShift()),
    "layer-wise Adam": Arm(LayerWise(lr=0.1, rounds=3, share=0.5), ParameterShift()),
}


def task(seed: int) -> tuple[Tensor, Tensor]:
    """Return features (ROWS, 6) and labels (ROWS,) of a seed."""
    x = torch.from_numpy(stream(seed, "task").normal(size=(ROWS, 6))).float()
    return x, (x[:, 0] * x[:, 1] + x[:, 2] / 2 > 0).long()


def losses(model: Model, params: Params, table: Tensor, labels: Tensor, begin: int, end: int) -> np.ndarray:
    """Return the exact mean loss of each lane on some of its seed's rows, (lanes,)."""
    seeds = torch.arange(SEEDS).repeat_interleave(len(FACTORS))
    rows = seeds[:, None] * ROWS + torch.arange(begin, end)
    outputs = model.apply(params, table[rows])
    each = cross_entropy(outputs.flatten(0, 1), labels[rows].flatten(), reduction="none")
    return each.view(rows.shape).mean(1).numpy()


def train(arm: Arm, budget: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return executions a row after each step (n,), losses at the best rate, training (n, SEEDS) and test, the rate."""
    model = Variational("strongly_entangling", {"n": 4, "layers": 2}).bind(6, 2)
    tables, labels = (torch.cat(parts) for parts in zip(*(task(seed) for seed in range(SEEDS)), strict=True))
    executor = Executor(Shots(SHOTS).connect(Session(0)), SHOTS, arm.gradient)
    lanes, params = [], []
    for seed in range(SEEDS):
        for factor in FACTORS:
            rates = {part: factor * rate for part, rate in arm.optimizer.rates.items()}
            optimizer: Any = replace(arm.optimizer, lr=factor * arm.optimizer.lr, rates=rates)  # type: ignore[type-var]
            lanes.append(Lane(seed * ROWS + np.arange(TRAINING), stream(seed, "order", factor), optimizer))
            params.append(model.init(seed))
    now, state, spent, curve = stack(params), None, [0.0], []
    while True:
        curve.append(losses(model, now, tables, labels, 0, TRAINING))
        with executor.task(f"step-{len(curve)}"):
            done = train_cohort(
                model, now, tables, labels, lanes, batch_size=TRAINING, steps=1, state=state, executor=executor,
                round=len(curve),
            )  # fmt: skip
        cost = spent[-1] + sum(one.executions for one in done.usage) / len(lanes) / TRAINING
        if cost > budget:
            break
        now, state = done.params, done.state
        spent.append(cost)
    test = losses(model, now, tables, labels, TRAINING, ROWS).reshape(SEEDS, -1)
    best = int(curve[-1].reshape(SEEDS, -1).mean(0).argmin())
    return np.array(spent), np.stack(curve).reshape(len(curve), SEEDS, -1)[:, :, best], test[:, best], FACTORS[best]


def draw(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Plot mean training losses with 95 % intervals against executions a row."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for number, (name, (spent, found)) in enumerate(curves.items()):
        bands = [mean_interval(row) for row in found]
        colour, style = f"C{number}", "--" if "SPSA" in name else "-"
        axes.plot(spent, [band.mean for band in bands], style, color=colour, label=name, lw=1.8)
        axes.fill_between(
            spent, [band.low for band in bands], [band.high for band in bands], color=colour, alpha=0.1, lw=0
        )
    axes.set(xlabel="circuit executions for each training row", ylabel="training loss, mean of ten seeds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train all, print the table, draw."""
    budget = 120 if "--smoke" in sys.argv else BUDGET
    curves, ends = {}, dict[str, Interval]()
    print(f"{'optimiser':<34}{'steps':>6}{'executions':>12}{'half-way':>10}  {'at the end':<24}test")
    for name, arm in ARMS.items():
        spent, found, test, factor = train(arm, budget)
        curves[name] = spent, found
        half = found[np.searchsorted(spent, budget / 2, side="right") - 1].mean()
        end = ends[name] = mean_interval(found[-1])
        text = f"{end.mean:.3f} ({end.low:.3f} to {end.high:.3f})"
        row = f"{name:<34}{len(spent) - 1:>6}{spent[-1]:>12.0f}{half:>10.3f}  {text:<24}{test.mean():.3f}"
        print(f"{row}   rates times {factor:.2g}", flush=True)
    if budget == BUDGET:
        draw(curves, Path(__file__).parents[1] / "docs" / "optimizers.png")
    print(json.dumps({name: [round(end.mean, 4), round((end.high - end.low) / 2, 4)] for name, end in ends.items()}))


if __name__ == "__main__":
    main()
