"""Pictures of what is found before a run; each takes optional axes, draws, and returns them."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .ensemble import Expressibility
    from .plateau import GradientScaling, GradientVariance
    from .surrogate import Surrogate

FOUND, REFERENCE, NOISE = "#6d4bd8", "#7a7a7a", "#d9822b"
DEPTHS = ("#b9a8f0", "#8f74e4", "#6d4bd8", "#46289f", "#2a1566")
MARKERS = ("o", "s", "^", "D", "v")


def plot_variances(found: "GradientVariance", shots: int, ax: "Axes | None") -> "Axes":
    """Draw the variance of each weight's gradient, live ones only, in the circuit's order."""
    ax = _axes(ax, (6.4, 3.6))
    values = np.where(found.live, found.each.mean(0), np.nan)
    ax.semilogy(
        np.arange(len(values)), values, linestyle="", marker="o", markersize=4, color=FOUND, label="each weight"
    )
    v = found.variance
    ax.axhspan(max(v.low, 1e-300), v.high, color=FOUND, alpha=0.15, linewidth=0)
    ax.axhline(v.mean, color=FOUND, linewidth=1, label="mean, band: 95 % interval")
    _noise(ax, found.bound, shots)
    ax.set_xlabel("weight, in the circuit's order")
    ax.set_ylabel("variance of its gradient")
    dead = int((~found.live).sum())
    left_out = f"; {dead} weights without any effect left out" if dead else ""
    ax.set_title(f"{found.circuit}, {found.qubits} qubits, depth {found.depth}{left_out}", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_scaling(found: "GradientScaling", shots: int, ax: "Axes | None") -> "Axes":
    """Draw variance with interval against qubits, one line a depth."""
    ax = _axes(ax, (6.4, 3.6))
    qubits = sorted({n for n, _ in found.cells})
    for i, layers in enumerate(sorted(found.factors)):
        cells = [found.cells[n, layers].variance for n in qubits]
        means = np.array([cell.mean for cell in cells])
        ends = [means - [max(cell.low, cell.mean / 1e3) for cell in cells], [cell.high for cell in cells] - means]
        colour, marker, label = DEPTHS[i % len(DEPTHS)], MARKERS[i % len(MARKERS)], f"{layers} layers"
        ax.errorbar(qubits, means, yerr=ends, color=colour, marker=marker, markersize=4, capsize=2, label=label)
    ax.set_yscale("log")
    _noise(ax, next(iter(found.cells.values())).bound, shots)
    ax.set_xticks(qubits)
    ax.set_xlabel("qubits")
    ax.set_ylabel("variance of a gradient")
    ax.set_title("mean over live weights at random weights, 95 % intervals", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_fidelities(found: "Expressibility", ax: "Axes | None") -> "Axes":
    """Draw the densities of the fidelity of random pairs, found and Haar-random."""
    ax = _axes(ax, (6.4, 3.6))
    edges, name = found.edges, "fidelity of two states"
    if not np.allclose(np.diff(edges), edges[1]):  # bins of equal Haar probability are drawn equally wide
        edges, name = np.linspace(0, 1, len(edges)), "share of Haar-random pairs with a lower fidelity"
    for shares, label, colour in ((found.observed, found.circuit, FOUND), (found.haar, "Haar-random", REFERENCE)):
        ax.stairs(shares / np.diff(edges), edges, label=label, color=colour, fill=colour == FOUND, alpha=0.6)
    ax.set_xlabel(name)
    ax.set_ylabel("density")
    ax.set_title(f"{found.qubits} qubits, {found.divergence.n:,} pairs; {_nats(found)}", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_surrogate(found: "Surrogate", ax: "Axes | None") -> "Axes":
    """Draw the surrogate's scores against the head's."""
    ax = _axes(ax, (4.2, 4.0))
    ax.plot(found.head_scores.ravel(), found.scores.ravel(), linestyle="", marker=".", markersize=3, color=FOUND)
    ends = [found.head_scores.min(), found.head_scores.max()]
    ax.plot(ends, ends, color=REFERENCE, linewidth=0.8)
    ax.set_xlabel("score of the head")
    ax.set_ylabel("score of the surrogate")
    ax.set_title(f"{len(found.head_scores):,} held-out rows, {len(found.points):,} fitted", fontsize=9)
    return ax


def _noise(ax: "Axes", bound: float, shots: int) -> None:
    ax.axhline(bound / (2 * shots), color=NOISE, linestyle="--", linewidth=1, label=f"shot noise, {shots:,} shots")


def _nats(found: "Expressibility") -> str:
    from .showing import with_ends

    return f"divergence {with_ends(found.divergence)} nats"


def _axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]
