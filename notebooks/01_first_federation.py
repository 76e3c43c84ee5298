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
# # A first federation
#
# Ten cells, about a minute. Sentences stay with those who wrote them; what travels, sealed, is a small model with a
# quantum circuit inside. In the end it stands beside a classical model of its size, and you will know what was sent and
# under which keys.

# %%
import os
from dataclasses import replace

import matplotlib.pyplot as plt

import qfedfm as qf

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration

# %% [markdown]
# ## 1. Data
# English sentences from four places (tweets, reviews of films and of products, a newspaper), each good or bad. The
# domains are the natural borders between clients.

# %%
data = qf.data.Sentiment(per_domain=60 if SMOKE else 300)
sentences = data.load()
for domain in dict.fromkeys(sentences.domains.tolist()):
    row = sentences.domains.tolist().index(domain)
    print(f"{domain:>12}  {sentences.classes[sentences.labels[row]]:>8}  {sentences.items[row][:80]}")

# %% [markdown]
# ## 2. Head
# A frozen MiniLM turns each sentence into 384 numbers, once. The head on top is all that is trained: a layer down to
# four angles, the circuit, a layer up to the two classes.

# %%
head = qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2})
print(qf.quantum.describe(head.resolve()))
qf.quantum.draw(head.resolve())

# %% [markdown]
# ## 3. Experiment
# One frozen value holds everything that determines the run. It is checked as a whole before anything is computed, and
# `experiment.to_toml()` writes all of it, defaults too, as text that can be read back.

# %%
experiment = qf.Experiment(
    name="first",
    data=data,
    backbone=qf.backbones.MiniLM(),
    head=head,
    clients=qf.Clients(count=8 if SMOKE else 20, partition=qf.NaturalSplit(), min_rows=4),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.03)),
    rounds=4 if SMOKE else 15,
)
experiment.check()
experiment

# %% [markdown]
# ## 4. Run
# Each round: the server seals the model for every client, clients train on their own rows and seal what changed, the
# server opens, checks and averages (angles on the circle). The chart grows while it runs.

# %%
result = qf.run(experiment)

# %% [markdown]
# ## 5. Result
# Everything is in a folder under `runs/` as well: rounds, checkpoint, environment, and a report to read in a browser.

# %%
result

# %% [markdown]
# One curve is not the whole story: whom does the model serve?

# %%
clients = result.per_client().sort_values("accuracy")
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", width_ratios=[1.4, 1])
left.barh(clients["client"], clients["accuracy"], color=qf.plots.COLOURS[0])
left.axvline(result.rounds[-1]["test"]["accuracy"], color="#555555", linestyle="--", linewidth=1)
left.set(xlabel="test accuracy (dashed: all rows)", xlim=(0, 1))
left.tick_params(axis="y", labelsize=7)
result.plot_confusion(ax=right)
plt.show()

# %% [markdown]
# ## 6. Predict
# Backbone and head together, from text to class.

# %%
texts = ["I loved every minute of it.", "A waste of time and money.", "It arrived on Tuesday."]
for text, odds in zip(texts, result.model.predict_proba(texts), strict=True):
    print(f"{text:30}", {name: round(float(p), 2) for name, p in zip(result.model.classes, odds, strict=True)})

# %% [markdown]
# ## 7. Is it the circuit?
# The question that decides whether a quantum result means anything. `compare` trains the head beside a twin (the
# circuit replaced by dense layers, all else equal) and a linear probe, each at its own best learning rate, on several
# seeds, and says no more than the interval allows.

# %%
comparison = qf.compare(experiment, seeds=2 if SMOKE else 5)
comparison.plot_differences()
plt.show()
comparison

# %% [markdown]
# With this little data the linear probe is usually as good. That is a result, too.
#
# ## 8. What travelled
# The ledger counts envelopes as they were really sent, and the bits of key that sealed them. The keys of this run were
# shared beforehand; notebook 03 takes them from (simulated) quantum key distribution.

# %%
print({name: round(total, 3) for name, total in result.ledger.totals().items() if total})
by_client = result.ledger.to_frame().groupby("client").sum()
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained", sharey=True)
left.barh(by_client.index, by_client["bytes_down"] / 1e3, color=qf.plots.COLOURS[0], label="models, down")
updates = by_client["bytes_up"] / 1e3
left.barh(by_client.index, updates, left=by_client["bytes_down"] / 1e3, color=qf.plots.COLOURS[1], label="updates, up")
left.set_xlabel("kB sent, all rounds")
left.tick_params(axis="y", labelsize=7)
left.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
right.barh(by_client.index, by_client["executions"], color=qf.plots.COLOURS[2])
right.set_xlabel("circuits run in training (simulated)")
plt.show()

# %% [markdown]
# ## 9. Stop, resume, keep
# A run that was interrupted goes on where it stood, bit for bit. Here a client breaks in round 3; the second call
# finishes, and ends at the very model of a run that was never interrupted.

# %%
again = replace(experiment, name="interrupted", rounds=4)


def power_cut(client, number, delta):
    if number == 3:
        raise RuntimeError(f"the lights went out at {client}")
    return delta


folder = f"runs/interrupted-{os.getpid()}"
try:
    qf.run(again, folder, intervene=power_cut, progress=False)
except qf.QfedfmError as error:
    print(f"{type(error).__name__}: {error}")
resumed = qf.run(again, folder, resume=True, progress=False)
whole = qf.run(again, f"{folder}-whole", progress=False)
assert all((tensor == whole.params[name]).all() for name, tensor in resumed.params.items())
print("rounds:", [line["round"] for line in qf.Result.load(folder).rounds])

# %% [markdown]
# Where next: [your own circuit](02_your_own_circuit.ipynb), [your own data](08_bring_your_own_data.ipynb),
# [who contributed](05_who_contributed.ipynb). And `qf.cite(experiment)` has the BibTeX of every method used here.
