# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own circuit, from a PennyLane function to a federated head
#
# You have a circuit in PennyLane. In five minutes it is a head that twenty clients train together on real text, and it
# stands beside its classical twin. Nothing about the circuit has to be rewritten.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
import pennylane as qml
import torch

import qfedfm as qf

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration
N, LAYERS = 4, 2

# %% [markdown]
# ## 1. The circuit
# Any function of data and weights that queues PennyLane operations, or a QNode. It is called once, with symbols instead
# of numbers, and becomes a *program*: gates with angle slots. What cannot be lowered is refused with gate and reason.


# %%
def reuploading(x, weights):
    for layer in range(LAYERS):
        for wire in range(N):
            qml.RY(x[wire] * weights[layer, wire, 0], wires=wire)
            qml.RZ(weights[layer, wire, 1], wires=wire)
        for wire in range(N):
            qml.CRX(weights[layer, wire, 2], wires=[wire, (wire + 1) % N])
    return [qml.expval(qml.Z(wire)) for wire in range(N)]


circuit = qf.quantum.lower(reuploading, {"x": (N,), "weights": (LAYERS, N, 3)})
print(qf.quantum.describe(circuit))
print(qf.quantum.draw_text(circuit))

# %% [markdown]
# The first weight multiplies data, so its array is *linear*; an array of plain rotation angles would be *angular*, with
# its period, and be averaged on the circle.

# %% [markdown]
# ## 2. The same numbers as PennyLane
# For one client and 32 rows, in double precision.

# %%
generator = torch.Generator().manual_seed(0)
x = torch.rand(32, N, generator=generator, dtype=torch.float64) * 2 - 1
weights = torch.rand(LAYERS, N, 3, generator=generator, dtype=torch.float64)
ours = qf.quantum.simulate(circuit.program, {"x": x[None]}, {"weights": weights[None]}, circuit.observables)[0]

qnode = qml.QNode(reuploading, qml.device("default.qubit", wires=N), interface="torch")
theirs = torch.stack(qnode(x.T, weights), dim=-1)  # broadcast over rows: the last axis of x
print("largest difference:", float((ours - theirs).abs().max()))
assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)

# %% [markdown]
# ## 3. Many clients, each with weights of its own
# This is what federated quantum learning does all day: forward and backward for every client. A loop over QNodes pays
# Python's price for every gate of every client; here the clients are one tensor axis.

# %%
CLIENTS = 10 if SMOKE else 100
cohort = torch.rand(CLIENTS, LAYERS, N, 3, generator=generator, dtype=torch.float64, requires_grad=True)
rows = x.expand(CLIENTS, 32, N)


def together():
    values = qf.quantum.simulate(circuit.program, {"x": rows}, {"weights": cohort}, circuit.observables)
    return torch.autograd.grad(values.sum(), cohort)[0]


def one_by_one(count):
    gradients = []
    for client in range(count):
        own = cohort[client].detach().requires_grad_()
        gradients.append(torch.autograd.grad(torch.stack(qnode(x.T, own)).sum(), own)[0])
    return torch.stack(gradients)


def seconds(function, *arguments, repeat=3):
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


some = 5
assert torch.allclose(together()[:some], one_by_one(some), rtol=0, atol=1e-9)
batched, loop = seconds(together), seconds(one_by_one, some) * CLIENTS / some
print(
    f"{CLIENTS} clients: {1e3 * batched:.1f} ms together, "
    f"{1e3 * loop:.0f} ms in a loop (timed on {some}): {loop / batched:.0f}x"
)

# %% [markdown]
# ## 4. A federated head
# Sentences from four domains, a frozen MiniLM, twenty clients. `Variational` puts a trainable projection before the
# circuit and a linear read-out after it.

# %%
experiment = qf.Experiment(
    name="own-circuit",
    data=qf.data.Sentiment(per_domain=80 if SMOKE else 300),
    head=qf.heads.Variational(reuploading, {"x": N, "weights": (LAYERS, N, 3)}),
    clients=qf.Clients(count=8 if SMOKE else 20, partition=qf.NaturalSplit(), min_rows=4),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.03), epochs=2),
    rounds=2 if SMOKE else 10,
)
result = qf.run(experiment)
result

# %%
ax = result.plot("accuracy")
plt.show()

# %%
result.model.predict(["I loved every minute of it.", "A waste of time and money."])

# %% [markdown]
# ## 5. Beside its classical twin
# The same projection, read-out, seeds and splits; the circuit replaced by the dense layer nearest in parameter count.
# Each arm uses its best learning rate by validation. The verdict never says more than the interval allows.

# %%
comparison = qf.compare(experiment, seeds=2 if SMOKE else 5)
comparison

# %%
comparison.plot_differences()
plt.show()
assert np.isfinite(comparison.scores("quantum head")).all()
