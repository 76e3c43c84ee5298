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
# # Can it learn, and at which settings?
#
# Two questions before a quantum head is worth a long run. Can its circuit learn at all, or is its gradient lost in a
# plateau and in shot noise? And which settings suit it? The first is answered from the circuit, before any training;
# the second by a sweep that chooses on validation rows and reports test rows that took no part in the choice.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import qfedfm as qf

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration

# %% [markdown]
# ## 1. One circuit
# Random weights, many at once: how large is a typical gradient, and how many shots would a quantum processor need to
# see it? How evenly do its states cover what there is, and how entangled are they? Each figure has an interval of its
# own.

# %%
head = qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2})
found = qf.evidence.trainability(head)
print(found.verdict)
found.plot()
plt.show()
found.to_frame().round(4)

# %% [markdown]
# ## 2. Wider and deeper
# Gradients of circuits that entangle everything shrink with every qubit. The slope tells whether that is a plateau
# (exponential) or bearable; a warning follows where a gradient drowns in the noise of 1,024 shots.

# %%
scaling = qf.evidence.gradient_scaling(
    lambda n, layers: qf.heads.Variational("strongly_entangling", {"n": n, "layers": layers}),
    qubits=(2, 4, 6) if SMOKE else (2, 4, 6, 8, 10),
    layers=(1, 4) if SMOKE else (1, 4, 8),
)
print(scaling.verdict)
scaling.plot()
plt.show()
wide = qf.heads.Variational("strongly_entangling", {"n": 10, "layers": 4})
print(qf.evidence.plateau_warning(wide.bind(30, 2)))

# %% [markdown]
# ## 3. A sweep
# scikit-learn's breast cancer data on five clients. Any field of the experiment can be swept, by its path. All points
# of one shape train as one cohort, so that a dozen cost little more than one.

# %%
cancer = load_breast_cancer()
features = (cancer.data - cancer.data.mean(0)) / cancer.data.std(0)
experiment = qf.Experiment(
    name="swept",
    data=qf.data.from_arrays(features, cancer.target, classes=("malignant", "benign")),
    backbone=qf.backbones.Identity(),
    head=head,
    clients=qf.Clients(count=5, partition=qf.Dirichlet(alpha=0.5)),
    rounds=4 if SMOKE else 10,
)
grid = {"training.optimizer.lr": [0.003, 0.01, 0.03, 0.1], "head.sizes.layers": [1, 2, 3]}
sweep = qf.sweep(experiment, grid, seeds=2 if SMOKE else 5, progress=False)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
sweep.plot("training.optimizer.lr", ax=left)
sweep.plot(ax=right)
plt.show()
sweep

# %% [markdown]
# The choice was made on validation rows. Where two points are not told apart on test rows, it says so: then take the
# cheaper one. A sweep that was killed goes on with `resume=True`.

# %%
for caution in sweep.cautions:
    print("-", caution)
assert np.isfinite(sweep.to_frame()["test_accuracy"]).all()
sweep.best

# %% [markdown]
# ## 4. And does it have to be quantum?
# A circuit is a finite Fourier series of its inputs. If a classical fit of that series answers like the trained head,
# the circuit is not needed to run it. (The other question, whether it was needed to find it, is for `qf.compare`.) The
# criterion asks for the same class on 99 % of rows, with confidence, and so for many rows: random ones of the scale of
# the data's, since the data have too few.

# %%
result = qf.run(sweep.best, progress=False)
many = np.random.default_rng(0).normal(size=(1500, features.shape[1]))
surrogate = qf.evidence.fourier_surrogate(sweep.best.head, many, result.params)
print(surrogate.verdict)
