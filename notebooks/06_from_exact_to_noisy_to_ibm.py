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
# # From exact to noisy to IBM
#
# One experiment, four machines: exact states, finitely many shots, a fake device with its noise, and a rehearsal of
# IBM's own client. Only one field of the experiment changes. Then: what would a quantum processor charge for it, what
# does mitigation repair, and how few shots does a decision need?
#
# **Everything here is simulated on this computer.** A fake device is a snapshot of a real one's calibration. The last
# section would run on a quantum processor, and is skipped unless you name one.

# %%
import os
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import qfedfm as qf
from qfedfm.backends import Exact, Fake, FakeRuntime, Mitigated, ReadoutInversion, Session, Shots, ZeroNoise, flatten

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration
DEVICE = "manila"
TRIES = 2 if SMOKE else 20  # transpilations, of which the best is taken

# %% [markdown]
# ## 1. The same experiment on four machines
# Two overlapping clouds of points, four clients, a circuit of three qubits. Gradients are found by SPSA everywhere,
# three circuits for each row, and the model is evaluated exactly, so that curves differ only by what training went
# through. All clients' circuits of a step are one job. A device inverts its readout errors unless told otherwise.

# %%
ROWS = 240 if SMOKE else 800
rng = np.random.default_rng(0)
labels = np.arange(ROWS) % 2
points = rng.normal(size=(ROWS, 6)) + 0.6 * labels[:, None]
experiment = qf.Experiment(
    name="machines",
    data=qf.data.from_arrays(points, labels),
    backbone=qf.backbones.Identity(),
    head=qf.heads.Variational("angle_ring", {"n": 3, "layers": 1}),
    clients=qf.Clients(count=4, partition=qf.IID(), min_rows=4),
    training=qf.Training(
        optimizer=qf.training.Adam(lr=0.1), batch_size=8, steps=2, keep_state=True, gradient=qf.backends.Spsa()
    ),
    rounds=2 if SMOKE else 12,
    evaluation="exact",
)
machines = {
    "exact": Exact(),
    "256 shots": Shots(256),
    "fake device": Fake(DEVICE, 256, transpilations=TRIES),
    "IBM's client, rehearsed": FakeRuntime(DEVICE, 256, transpilations=TRIES),
}
results = {}
for name, machine in machines.items():
    results[name] = qf.run(replace(experiment, backend=machine), progress=False)
curves = pd.concat([result.to_frame().assign(arm=name, seed=0) for name, result in results.items()])
qf.plots.learning_curves(curves, "test_loss")
plt.show()
totals = pd.DataFrame({name: result.ledger.totals() for name, result in results.items()}).T
totals[["executions", "shots", "qpu_seconds"]].astype(float).round(1)

# %% [markdown]
# One seed, so the order of the curves means nothing: what it shows is that all of them learn. Noise of this size costs
# SPSA little, for its own gradients are noisier. The seconds are estimates of what the device would charge; nobody was
# billed. The two last machines simulate the same device. The rehearsal goes through IBM's own client, with its jobs and
# its mitigation, and is far slower for it; the fake device is for training.

# %% [markdown]
# ## 2. The bill, before it is paid
# `qf.estimate` rehearses the whole run on a machine that only counts. Nothing is sent. The same on the command line:
# `qfedfm estimate experiment.toml --backend fake:torino`.

# %%
bill = qf.estimate(experiment, FakeRuntime(DEVICE, 256, transpilations=TRIES), max_qpu_seconds=600)
print(bill)
for method in bill.methods:
    assert method.evaluation.jobs == 0  # the model is evaluated exactly
bill.to_frame().query("span == 'run'")[["gradient", "jobs", "circuits", "executions", "qpu_seconds", "charged"]].round(
    1
)

# %% [markdown]
# A budget of 600 s is what IBM's open plan gives every 28 days. On a real device `qf.run(..., max_qpu_seconds=600)`
# refuses the job that would pass it, before it is sent.

# %% [markdown]
# ## 3. What mitigation repairs
# Values of the circuit at random angles, against the exact ones. With few shots everything is shot noise,
# and mitigation cannot help; with many, what is left is bias: misreading and gate noise for the raw device, gate noise
# after the readout is inverted, and less of that where values are extrapolated to zero noise, at more than twice the
# shots. Dashed: what each would settle at with infinitely many shots.

# %%
circuit = experiment.head.resolve()
flat = flatten(circuit.program, circuit.observables)
angles = rng.uniform(-1.5, 1.5, (8 if SMOKE else 48, len(flat.program.slots)))
raw = Fake(DEVICE, None, mitigated=False, transpilations=TRIES)
methods = {
    "raw": raw,
    "readout inverted": Mitigated(raw, (ReadoutInversion(),)),
    "and zero noise": Mitigated(raw, (ReadoutInversion(), ZeroNoise())),
}


def values(backend, shots, seed=0):
    machine = backend.connect(Session(seed))
    compiled = machine.compile(flat.program, circuit.observables)
    return machine.collect(machine.submit(compiled, angles, shots, f"{shots}")).values


truth = values(Exact(), None)
numbers = [64, 1024, 16_384] if SMOKE else [64, 256, 1024, 4096, 16_384, 65_536]
settled = {name: np.sqrt(np.mean((values(backend, None) - truth) ** 2)) for name, backend in methods.items()}
ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
for (name, backend), colour, marker in zip(methods.items(), qf.plots.COLOURS, qf.plots.MARKERS, strict=False):
    errors = [np.sqrt(np.mean((values(backend, shots) - truth) ** 2)) for shots in numbers]
    ax.plot(numbers, errors, marker + "-", color=colour, label=name)
    ax.axhline(settled[name], color=colour, linewidth=0.8, linestyle="--")
ax.set(xscale="log", yscale="log", xlabel="shots of each circuit", ylabel="error of a value (rms)")
ax.legend(frameon=False)
plt.show()
assert settled["readout inverted"] < settled["raw"]

# %% [markdown]
# ## 4. Inference: shots until a decision, no more
# The class of most rows is known long before their values are. `qf.inference.predict` takes shots in looks that double,
# and stops a row once its class leads with the asked confidence. Below: each confidence's mean shots a row, and how
# often the class is the one that all shots would have given.

# %%
model = results["fake device"].model
fresh = rng.normal(size=(40 if SMOKE else 200, 6))
answers = rng.integers(0, 2, len(fresh))
fresh += 0.6 * answers[:, None]
device = Fake(DEVICE, 4096, transpilations=TRIES)
everything = qf.inference.predict(model, fresh, device, confidence=None)
asked = [0.8, 0.95] if SMOKE else [0.6, 0.8, 0.9, 0.95, 0.99]
stopped = {confidence: qf.inference.predict(model, fresh, device, confidence=confidence) for confidence in asked}
truths = [model.classes[i] for i in answers]
rows = [("all shots", everything), *((f"{confidence:.0%}", found) for confidence, found in stopped.items())]
table = pd.DataFrame(
    {
        "confidence": [name for name, _ in rows],
        "shots a row": [found.shots.mean().round() for _, found in rows],
        "saved": [f"{found.saved:.0%}" for _, found in rows],
        "as with all shots": [f"{found.accuracy(everything.labels):.1%}" for _, found in rows],
        "accuracy": [f"{found.accuracy(truths):.1%}" for _, found in rows],
    }
)
assert stopped[0.95].saved > 0
fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
sure = everything.probabilities.max(axis=1)
left.plot(sure, stopped[0.95].shots, "o", color=qf.plots.COLOURS[0], markersize=4, alpha=0.6)
left.set(yscale="log", xlabel="probability of the class", ylabel="shots until 95 % confidence")
looks = np.unique(stopped[0.95].shots)
left.set_yticks(looks, looks)
left.minorticks_off()
right.plot([found.shots.mean() for found in stopped.values()], asked, "o-", color=qf.plots.COLOURS[1])
right.axvline(everything.full, color="#8a8a8a", linewidth=0.8, linestyle="--")
right.text(everything.full * 0.98, asked[0], "all shots", ha="right", color="#555555")
right.set(xlim=(0, None), xlabel="mean shots of a row", ylabel="asked confidence")
plt.show()
table

# %% [markdown]
# Rows near the border take all shots and are still not decided: there the answer says so (`found.decided`).

# %% [markdown]
# ## 5. On a quantum processor
# Name a device in `QFEDFM_IBM_DEVICE`, such as ibm_torino, and give the account as `docs/hardware.md` says. Then the
# estimate asks the real device, and the run spends at most `BUDGET` seconds of it. Without a device nothing is sent,
# and no simulator takes its place.

# %%
REAL, BUDGET = os.environ.get("QFEDFM_IBM_DEVICE"), 60
if REAL is None:
    print("skipped: no device is named in QFEDFM_IBM_DEVICE")
else:
    processor = qf.backends.IBM(REAL, shots=256)
    print(qf.estimate(experiment, processor, gradients=[qf.backends.Spsa()], max_qpu_seconds=BUDGET))

# %%
if REAL is None:
    print("skipped: no device is named in QFEDFM_IBM_DEVICE")
else:
    small = replace(experiment, rounds=2, backend=processor)
    print(qf.run(small, "runs/on-a-processor", resume=True, max_qpu_seconds=BUDGET))

# %% [markdown]
# ## What is simulated here
# | | states | shots | noise | client |
# |---|---|---|---|---|
# | `Exact()` | exact | none | none | none |
# | `Shots(256)` | exact | drawn | none | none |
# | `Fake("manila")` | density matrix | drawn | the snapshot's | ours |
# | `FakeRuntime("manila")` | simulated by Aer | drawn | the snapshot's | IBM's, in local mode |
# | `IBM("ibm_torino")` | **a quantum processor's** | real | real | IBM's |
#
# Noise between gates, drift and crosstalk are in no snapshot. No quantum processor has been reached with this package
# yet: the path to it is tested against a stand-in of IBM's service, see `docs/hardware.md`.
