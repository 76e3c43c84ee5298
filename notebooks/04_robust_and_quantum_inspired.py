# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Robust and quantum-inspired aggregation
#
# A mean believes everybody. Here is what one liar does to it, which rules hold out against which attack, what changes
# when parameters are angles, and what the quantum-inspired rules are good for and what not.
#
# **What is quantum here?** Almost nothing. Most of these rules are classical arithmetic that borrows an idea from
# quantum theory; the circuits are simulated on this computer. The last section says it for each of them.

# %%
import os
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import qfedfm as qf
from qfedfm import aggregation, attacks, codecs
from qfedfm.aggregation.ghz import states_needed
from qfedfm.heads.variational import CORE
from qfedfm.params import ParamSpec
from qfedfm.quantum.overlaps import fidelity
from qfedfm.trust import stress

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration
rng = np.random.default_rng(0)


def aggregate(rule, delta, specs, start=None, model=None):
    """Return what a rule makes of updates {name: (n, *shape)}, and what it says about them."""
    n = len(next(iter(delta.values())))
    updates = aggregation.Updates(tuple(f"client-{i:02d}" for i in range(n)), delta, rows=(50,) * n)
    start = start or {spec.name: torch.zeros(spec.shape, dtype=spec.torch_dtype) for spec in specs}
    context = aggregation.Context(1, np.random.default_rng(1), model)
    new, _, info = rule(rule.init(specs), start, updates, specs, context)
    return new, info


def dots(ax, values, groups, spread=None):
    """Draw one column of dots for each group, one dot a rule; values, spread: {rule: [one for each group]}."""
    for k, (name, row) in enumerate(values.items()):
        place = np.arange(len(groups)) + 0.14 * (k - (len(values) - 1) / 2)
        look = {"fmt": qf.plots.MARKERS[k], "color": qf.plots.COLOURS[k], "capsize": 2, "label": name}
        ax.errorbar(place, row, None if spread is None else spread[name], **look)
    ax.set_xticks(range(len(groups)), groups)
    ax.set_xlim(-0.5, len(groups) - 0.5)
    ax.set_yscale("log")


# %% [markdown]
# ## 1. What an attack does to the mean
# Ten clients send updates of two numbers; three of them lie. The mean goes wherever they want it to go. The other rules
# stay among the honest: the median takes each coordinate's middle, Krum one client with near neighbours, the geometric
# median the point with the smallest sum of distances.

# %%
honest = rng.normal([1, 0.6], 0.25, (7, 2))
liars = rng.normal([-4, 3], 0.2, (3, 2))
plane = (ParamSpec("point", (2,), "float64"),)
sent = {"point": torch.from_numpy(np.vstack([honest, liars]))}
shown = {
    "mean": aggregation.Mean(),
    "median": aggregation.Median(),
    "Krum": aggregation.Krum(f=3),
    "geometric median": aggregation.GeometricMedian(),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
for ax in (left, right):
    ax.plot(*honest.T, "o", color="#b0b0b0", label="honest")
    ax.plot(*liars.T, "X", color="black", markersize=9, label="three liars")
    ax.plot(*honest.mean(0), "+", color="black", markersize=16, label="mean of the honest")
    for (name, rule), colour, marker in zip(shown.items(), qf.plots.COLOURS, "sD^v", strict=False):
        found = aggregate(rule, sent, plane)[0]["point"]
        ax.plot(*found, marker, color=colour, markersize=8, markeredgecolor="white", linestyle="", label=name)
    ax.set(xlabel="first parameter", ylabel="second parameter")
right.set(xlim=(0.2, 1.6), ylim=(0.1, 1.2), title="the same, nearer")
left.legend(frameon=False, fontsize=8, ncols=2)
plt.show()

# %% [markdown]
# ## 2. A federation under attack
# Two overlapping clouds of points, twenty clients, a circuit of four qubits as the head. Four clients send four times
# the opposite of what they learned. Attackers have valid keys and follow the protocol: encryption protects links, not
# against their owners.

# %%
ROWS = 600 if SMOKE else 1200
labels = np.arange(ROWS) % 2
points = rng.normal(size=(ROWS, 16)) + 0.5 * labels[:, None]
experiment = qf.Experiment(
    name="robust",
    data=qf.data.from_arrays(points, labels),
    backbone=qf.backbones.Identity(),
    head=qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2}),
    clients=qf.Clients(count=20, partition=qf.IID(), min_rows=4),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.05), batch_size=32, steps=4),
    rounds=4 if SMOKE else 10,
)
liar = attacks.Adversary(attacks.SignFlip(4.0), fraction=0.2)
arms = {
    "mean, nobody lies": replace(experiment, aggregation=aggregation.Mean()),
    "mean": replace(experiment, aggregation=aggregation.Mean(), adversary=liar),
    "trimmed mean": replace(experiment, aggregation=aggregation.TrimmedMean(f=4), adversary=liar),
    "Multi-Krum": replace(experiment, aggregation=aggregation.MultiKrum(f=4), adversary=liar),
}
curves = []
for name, arm in arms.items():
    curves.append(qf.run(arm, progress=False).to_frame().assign(arm=name, seed=0))
ax = qf.plots.learning_curves(pd.concat(curves), "test_accuracy")
ax.axhline(0.5, color="#8a8a8a", linewidth=0.8, linestyle="--")
plt.show()

# %% [markdown]
# ## 3. Which rule holds against which attack
# `stress` runs every rule against every attack at every fraction of attackers, on the same seeds and splits, and
# without attack, for safety has its price too. A rule that is told how many attackers there may be (`f`) is told the
# truth. A dash is a refusal: Bulyan needs n >= 4f + 3 clients, and outside its proof no rule is run. Read it by
# columns. No row is best everywhere.

# %%
rules = {
    "mean": aggregation.Mean(),
    "median": aggregation.Median(),
    "Multi-Krum": aggregation.MultiKrum(),
    "Bulyan": aggregation.Bulyan(),
    "FLTrust": aggregation.FLTrust(),
    "fidelity-weighted": aggregation.FidelityWeighted(sharpness=2.0),
}
threats = {
    "sign flip": attacks.SignFlip(4.0),
    "ALIE": attacks.Alie(),
    "inner product": attacks.InnerProduct(4.0),
}
if not SMOKE:
    rules |= {
        "trimmed mean": aggregation.TrimmedMean(),
        "geometric median": aggregation.GeometricMedian(),
        "minimum diameter": aggregation.MinimumDiameter(),
    }
    threats |= {
        "label flip": attacks.LabelFlip(),
        "Gaussian": attacks.Gaussian(),
        "min-max": attacks.MinMax(),
    }
matrix = stress(experiment, threats, rules, (0.3,) if SMOKE else (0.1, 0.3), seeds=1 if SMOKE else 2, progress=False)
matrix.plot()
plt.show()
matrix.table()[["rule", "attack", "fraction", "accuracy", "95 % low", "95 % high", "outcome"]].head(8).round(3)

# %% [markdown]
# ## 4. Angles that are whole periods away
# The angle of a rotation and the same angle plus one period are the same circuit. A client that reports its angles one
# turn away says nothing false, and an arithmetic mean of such numbers is meaningless: with a share s of such clients it
# turns every angle by s periods, each round anew. A rule that knows the circle is not moved by it at all. `ParamSpec`
# tells each parameter's period: 2π for most rotations, 4π for controlled ones. How bad it is after so many
# turns is luck, hence no falling curve.

# %%
circle = {
    "mean of the numbers": aggregation.Mean(),
    "angular mean": aggregation.AngularMean(),
    "circular median": aggregation.Median(),
    "centred clipping": aggregation.CentredClipping(),
}
shares = (0.1, 0.2, 0.35) if SMOKE else (0.05, 0.1, 0.15, 0.25, 0.35, 0.45)
turned = stress(
    experiment, {"one turn": attacks.PeriodShift()}, circle, shares, seeds=1 if SMOKE else 3, progress=False
)
table = turned.table()
ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")[1]
for k, (name, rows) in enumerate(table.groupby("rule", sort=False)):
    look = {"color": qf.plots.COLOURS[k], "marker": qf.plots.MARKERS[k], "markersize": 10 - 2 * k}
    ax.plot(rows["fraction"], rows["accuracy"], **look, label=name)
ax.set(xlabel="share of clients that report their angles one turn away", ylabel="test accuracy", ylim=(0.2, 0.95))
ax.legend(frameon=False, loc="lower left", ncols=2)
plt.show()
accuracy = table.set_index(["rule", "fraction"])["accuracy"]
assert accuracy["angular mean"].nunique() == 1  # not changed by a single row
table.pivot(index="rule", columns="fraction", values="accuracy").round(3)

# %% [markdown]
# ## 5. Quantum-inspired: weights from fidelities, a metric from states
# `FidelityWeighted` prepares every client's circuit on a probe set and trusts clients whose *states* resemble the
# others'. `FisherWeighted` merges angles in the quantum Fisher metric, so that what a state does not feel counts for
# little. Twelve honest clients scatter by 0.15 rad around the same truth. What is measured: how far the merged
# circuit's states are from the true ones (infidelity), and the error of the classical read-out.

# %%
model = experiment.head.bind(16, 2).with_precision("float64")
truth = model.init(0)
weights = [spec.name for spec in model.circuit.program.weights]
scale = model.circuit.input_scale
probe = {
    name: torch.from_numpy(rng.uniform(-scale, scale, (1, 32, *shape))) for name, shape in model.circuit.program.inputs
}


def infidelity(params):
    ours, true = ({name: some[CORE + name].double()[None] for name in weights} for some in (params, truth))
    return 1 - float(fidelity(model.circuit.program, probe, ours, true).mean())


def scattered(case, generator):
    delta = {s.name: torch.from_numpy(generator.normal(0, 0.15, (12, *s.shape))) for s in model.specs}
    for spec in model.specs:
        if case == "4 random circuits" and spec.part == "core":
            delta[spec.name][:4] = torch.from_numpy(generator.uniform(-np.pi, np.pi, (4, *spec.shape)))
        if case == "4 lie in the read-out" and spec.part == "readout":
            delta[spec.name][:4] = 3.0
    return delta


cases = ["all honest", "4 random circuits", "4 lie in the read-out"]
merging = {
    "angular mean": aggregation.AngularMean(),
    "fidelity-weighted": aggregation.FidelityWeighted(sharpness=2.0),
    "Fisher-weighted": aggregation.FisherWeighted(),
    "circular median": aggregation.Median(),
}
DRAWS = 4 if SMOKE else 20
errors = {}
for case in cases:
    for name, rule in merging.items():
        some = []
        for draw in range(DRAWS):
            new, _ = aggregate(rule, scattered(case, np.random.default_rng(draw)), model.specs, truth, model)
            apart = [(new[s.name] - truth[s.name]).flatten() for s in model.specs if s.part == "readout"]
            some.append((infidelity(new), float(torch.cat(apart).square().mean().sqrt())))
        errors[name, case] = np.mean(some, axis=0)
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
for ax, column, title in zip(axes, (0, 1), ("infidelity of the circuit", "error of the read-out (rms)"), strict=True):
    values = {name: [errors[name, case][column] for case in cases] for name in merging}
    dots(ax, values, ["all honest", "4 random\ncircuits", "4 lie in\nthe read-out"])
    ax.set_title(f"{title}, mean of {DRAWS} draws", fontsize=9)
axes[0].legend(frameon=False, fontsize=8)
plt.show()
assert errors["fidelity-weighted", cases[1]][0] < errors["angular mean", cases[1]][0]

# %% [markdown]
# Where it wins: circuits that are wrong as circuits are recognised by their states, better than the median does. Where
# it does not: among honest clients it is a little worse than the mean, for it weighs them unequally, and a lie in the
# classical read-out is never looked at; there the median helps, which has nothing quantum about it. The Fisher merge is
# helpless against outliers: it is for clients whose circuits feel different angles.

# %% [markdown]
# ## 6. A subset as a QUBO, and its optimality gap
# `QuboSubset` averages the n - f updates that lie closest together: a quadratic problem in yes-or-no variables, the
# form that annealers and QAOA take. The optimum is what protects; who finds it is a question of cost, so each solver's
# gap to the exact optimum is reported. QAOA runs on a simulator and costs more than looking at all subsets.

# %%
n, f, DRAWS = (11, 4, 3) if SMOKE else (14, 4, 8)
solvers = {
    "exact": aggregation.ExactSolver(),
    "simulated annealing": aggregation.SimulatedAnnealing(),
    "QAOA, p = 1, 30 shots": aggregation.Qaoa(layers=1, shots=30),
    "QAOA, p = 1, 300 shots": aggregation.Qaoa(layers=1, shots=300),
    "QAOA, p = 3, 300 shots": aggregation.Qaoa(layers=3, shots=300),
}
rows = []
for name, solver in solvers.items():
    infos, began = [], time.perf_counter()
    for draw in range(DRAWS):  # clients scattered without a pattern: the hard case for a solver
        scattered_points = {"w": torch.from_numpy(np.random.default_rng(draw).normal(size=(n, 20)))}
        line = (ParamSpec("w", (20,), "float64"),)
        infos.append(aggregate(aggregation.QuboSubset(f=f, solver=solver), scattered_points, line)[1])
    gaps = np.array([info["gap"] / info["reference"] for info in infos])
    rows.append(
        {
            "solver": name,
            "optimum found": f"{(gaps < 1e-9).sum()} of {DRAWS}",
            "mean gap": f"{gaps.mean():.1%}",
            "largest gap": f"{gaps.max():.1%}",
            "seconds each": round((time.perf_counter() - began) / DRAWS, 3),
        }
    )
assert rows[0]["largest gap"] == "0.0%"
pd.DataFrame(rows).set_index("solver")

# %% [markdown]
# What the optimum is good for: the error of each rule beside that of the mean of the honest clients alone (1), fifteen
# clients of which four attack. The subset beats the mean and Multi-Krum where attackers keep just outside the crowd. A
# crude attack Multi-Krum stops better, for copies are filtered here first and the subset then throws honest clients
# away too. Without attackers, or against ALIE, which stays inside the crowd, the mean is best: that is what robustness
# costs.

# %%
n, f, d = 15, 4, 50
line = (ParamSpec("w", (d,), "float64"),)
contest = {
    "mean": aggregation.Mean(),
    "Multi-Krum": aggregation.MultiKrum(f=f),
    "QUBO subset": aggregation.QuboSubset(f=f),
    "QUBO, two-sided": aggregation.QuboSubset(f=f, two_sided=True),
}
scenes = {
    "nobody\nattacks": None,
    "ALIE": attacks.Alie(),
    "inner product\n× 0.55": attacks.InnerProduct(0.55),
    "min-max": attacks.MinMax(),
    "inner product\n× 4": attacks.InnerProduct(4.0),
}
relative = {(rule, scene): [] for rule in contest for scene in scenes}
for scene, attack in scenes.items():
    for _ in range(10 if SMOKE else 60):
        crowd = torch.from_numpy(rng.normal(1, 1, (n, d)))
        if attack is not None:
            crowd[:f] = attack.craft({"w": crowd[:f]}, {"w": crowd[f:]}, line, rng)["w"]
        best = (crowd if attack is None else crowd[f:]).mean(0)
        for name, rule in contest.items():
            found = aggregate(rule, {"w": crowd}, line)[0]["w"]
            relative[name, scene].append(float((found - 1).norm() / (best - 1).norm()))
means = {name: [np.mean(relative[name, scene]) for scene in scenes] for name in contest}
spread = {
    name: [1.96 * np.std(relative[name, scene], ddof=1) / len(relative[name, scene]) ** 0.5 for scene in scenes]
    for name in contest
}
ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")[1]
dots(ax, means, list(scenes), spread)
ax.axhline(1, color="#555555", linewidth=0.8, linestyle="--")
ax.set(ylabel="error over the honest mean's, 95 %", yticks=[1, 1.5, 2, 3, 5], yticklabels=["1", "1.5", "2", "3", "5"])
ax.minorticks_off()
ax.legend(frameon=False, fontsize=8)
plt.show()
assert means["mean"][0] < means["QUBO subset"][0]  # nobody attacks
assert means["QUBO subset"][2] < min(means["mean"][2], means["Multi-Krum"][2])

# %% [markdown]
# ## 7. Codecs: bytes against error
# An update has structure; how much of it a codec can use decides what a byte buys. One matrix whose singular values
# fall off, as a trained layer's do, and one of plain noise, each through every codec. `TensorTrain` (matrix product
# states, the classical data structure of many-body physics) is quantum-inspired. On noise it has nothing to compress.

# %%
SIDE = 128 if SMOKE else 400
rank = rng.normal(size=(SIDE, 20)) @ (rng.normal(size=(20, SIDE)) * 0.7 ** np.arange(20)[:, None])
matrices = {
    "update with structure": rank + 0.05 * rng.normal(size=(SIDE, SIDE)),
    "noise": rng.normal(size=(SIDE, SIDE)),
}
sheet = (ParamSpec("w", (SIDE, SIDE)),)
families = {
    "dense": [codecs.Dense()],
    "top-k": [codecs.TopK(share) for share in (0.01, 0.03, 0.1, 0.3)],
    "random entries": [codecs.RandomSparsification(share) for share in (0.01, 0.03, 0.1, 0.3)],
    "8 and 4 bits": [codecs.Quantized(4), codecs.Quantized(8)],
    "sign": [codecs.Sign()],
    "tensor train": [codecs.TensorTrain(r) for r in (2, 4, 8, 16, 32)],
}
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.8), layout="constrained", sharex=True, sharey=True)
for ax, (title, values) in zip(axes, matrices.items(), strict=True):
    update = {"w": torch.from_numpy(values).float()}
    for (name, family), colour, marker in zip(families.items(), qf.plots.COLOURS, qf.plots.MARKERS, strict=True):
        line_points = []
        for codec in family:
            data, meta, _ = codec.encode(update, sheet, {}, np.random.default_rng(2))
            back = codec.decode(data, meta, sheet)["w"]
            error = float((back - update["w"]).norm() / update["w"].norm())
            line_points.append((len(data) / (4 * SIDE**2), max(error, 1e-4)))
        ax.plot(*zip(*line_points, strict=True), marker + "-", color=colour, label=name, markersize=5)
    ax.set(xscale="log", yscale="log", xlabel="bytes over those of float32", title=title)
axes[0].set_ylabel("relative error (0 drawn at 1e-4)")
axes[1].legend(frameon=False, fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# One message each. What top-k and the tensor train leave out is kept by the client and added to its next update (error
# feedback), so over rounds the loss is smaller than a point here says. Random entries are scaled to be right on
# average, which costs an error above 1 in a single message.

# %% [markdown]
# ## 8. The one quantum protocol: sums as phases of GHZ states
# m clients share an entangled state, each turns its qubit by its number, and the server learns the sum and no summand.
# That would be quantum; here it is simulated. The price is exponential in m, for the contrast of the state is v^m with
# v what noise leaves of each qubit. Clusters of clients make it affordable and tell the server more.

# %%
sizes = np.arange(2, 65)
fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
for v, colour in zip((0.99, 0.95, 0.9), qf.plots.COLOURS, strict=False):
    left.plot(sizes, [states_needed(0.01, int(m), v) for m in sizes], color=colour, label=f"v = {v}")
clusters = np.array([1, 2, 4, 8, 16, 32])
for v, colour in zip((0.99, 0.95, 0.9), qf.plots.COLOURS, strict=False):
    right.plot(clusters, [states_needed(0.01, 32, v, int(k)) for k in clusters], "o-", color=colour)
left.set(yscale="log", xlabel="clients in one GHZ state", ylabel="states for 0.01 rad, each parameter")
right.set(yscale="log", xscale="log", xlabel="clusters of 32 clients", ylabel="states for 0.01 rad, each parameter")
right.set_xticks(clusters, clusters)
right.minorticks_off()
left.legend(frameon=False)
plt.show()
ghz = aggregation.GhzMean(shots=20_000, visibility=0.95, clusters=2, limit=2.0)
angles = {"w": torch.from_numpy(rng.normal(0.3, 0.3, (8, 5)))}
small = (ParamSpec("w", (5,), "float64"),)
measured, info = aggregate(ghz, angles, small)
print("measured", measured["w"].numpy().round(3), " mean", angles["w"].mean(0).numpy().round(3))
print(f"{info['states']:,} GHZ states for {small[0].size} parameters of 8 clients")

# %% [markdown]
# ## What is quantum, and what is quantum-inspired
# | | what it is | runs on |
# |---|---|---|
# | angular mean, circular median, `GeodesicMean` | classical arithmetic on circles, for circuits | any computer |
# | `FidelityWeighted`, `FisherWeighted` | quantum-inspired: compare circuits as states | simulator, 2^n amplitudes |
# | `QuboSubset`, exact solver or annealing | classical optimisation in annealers' form | any computer |
# | `QuboSubset` with `Qaoa` | a quantum algorithm | simulator, dearer than exact search |
# | `EvolutionaryWeights(QuantumEvolution)` | quantum-inspired: a search with "qubit" probabilities | any computer |
# | `TensorTrain`, `ensemble_prediction` | quantum-inspired: matrix products, density matrices | any computer |
# | `GhzMean` | a quantum protocol | simulated, no quantum network |
#
# None of it is faster or safer here for being quantum. Where a rule wins, the pictures say against what, and where it
# does not, too.
