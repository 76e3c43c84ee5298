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
# # Who contributed, who is paid, who is asked again
#
# Seven clients train a model together. One has labels that mean nothing, one trains nothing at all. Can the server tell
# from the updates alone? What should it pay, so that nobody gains by lying about costs? And whom should it ask next?
#
# All of this is classical, but for the last section, where a quantum algorithm is simulated and its price counted.

# %%
import os
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer

import qfedfm as qf
from qfedfm.incentives import (
    Contribution,
    FreeRiderScreen,
    Game,
    LeaveOneOut,
    Market,
    MonteCarlo,
    QuantumShapley,
    Reputation,
    Shapley,
    contributions,
    sampling_calls,
    vcg,
    weighted_voting,
)

SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. Seven clients, two of no use
# The breast cancer data of Wolberg, Street and Mangasarian (1993, with scikit-learn): 569 biopsies, 30 measurements
# each, dealt out to seven clinics. An attack, as in notebook 04, flips half of one clinic's training labels: of two
# classes that leaves no information. "rider" has good rows, never trains, and sends a little random noise so as not to
# be noticed. The server's validation rows are clean; what follows is worth as much as they are.

# %%
cancer = load_breast_cancer()
features = (cancer.data - cancer.data.mean(0)) / cancer.data.std(0)
NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "rider"]
owner = np.array(NAMES)[rng.permutation(len(features)) % len(NAMES)]
mislabelling = qf.attacks.Adversary(qf.attacks.LabelFlip(0.5), fraction=1 / 7)
(NOISY,) = mislabelling.members(NAMES, seed=0)  # whom it hits
USELESS = {NOISY: "#c2435b", "rider": "#d9822b"}
TICKS = [f"{name}\n(labels)" if name == NOISY else name for name in NAMES]


def free_ride(client, number, delta):
    """What a client sends in place of what it trained: the free rider sends noise."""
    if client != "rider":
        return delta
    seeded = torch.Generator().manual_seed(number)
    return {name: 1e-3 * torch.randn(tensor.shape, generator=seeded) for name, tensor in delta.items()}


experiment = qf.Experiment(
    name="contributions",
    data=qf.data.from_arrays(features, cancer.target, clients=owner, classes=("malignant", "benign")),
    backbone=qf.backbones.Identity(),
    head=qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2}),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.03), steps=4),
    aggregation=Contribution(FreeRiderScreen(), method=Shapley(), rebuild=qf.aggregation.AngularMean()),
    adversary=mislabelling,
    rounds=4 if SMOKE else 10,
)
result = qf.run(experiment, progress=False, intervene=free_ride)
exact = contributions(result)
result

# %% [markdown]
# `Contribution(rule)` aggregates as the rule does and adds to each round's record what every client was worth: with
# exact Shapley values, the loss on the server's validation rows of the models that all 128 coalitions of updates would
# have made. Nobody trains again. The values of a round sum to what the loss fell in it. `FreeRiderScreen`, the rule
# inside, asks of each update whether the others explain more of it than they would of noise.

# %%
falls = -np.diff([line["validation"]["loss"] for line in result.rounds])
np.testing.assert_allclose(exact.groupby("round")["value"].sum(), falls, atol=1e-5)
suspects = result.rounds[-1]["info"]["free_riders"]["p"]
table = exact.pivot(index="client", columns="round", values="value")
table.columns = [f"round {number}" for number in table.columns]
table = table.assign(total=table.sum(axis=1), **{"like noise, p": pd.Series(suspects)})
print(f"the validation loss fell by {falls.sum():.4f} nats; the values sum to {table['total'].sum():.4f}")
assert result.rounds[-1]["info"]["free_riders"]["suspects"] == ["rider"]
table.round(4)

# %% [markdown]
# Two kinds of uselessness. Random labels hurt, and the values say so. The free rider's noise is of no use, yet in late
# rounds (of ten) its value is slightly positive: it waters down a step that random labels spoil. A value says what an
# update did to the loss, in the company it was in, and not whether anybody trained; that is what the last column is
# for. The screen suspects a client whose update the others explain no better than noise (p above 0.01).

# %% [markdown]
# ## 2. Exact, sampled, and leave-one-out
# Exact values need 2^n coalitions. Monte Carlo draws orders of arrival and has intervals (95 %, Student's t over
# antithetic pairs). Leave-one-out asks what is missing without a client: cheap, and it pays nobody for what another has
# too.

# %%
ORDERS = 20 if SMOKE else 40
measures = {
    "Monte Carlo": MonteCarlo(permutations=ORDERS),
    "leave-one-out": LeaveOneOut(),
}
found = {"exact": exact}
for name, method in measures.items():
    other = replace(experiment, aggregation=replace(experiment.aggregation, method=method))
    found[name] = contributions(qf.run(other, progress=False, intervene=free_ride))
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
totals = {name: found[name].groupby("client")["value"].sum()[NAMES] for name in ("exact", "leave-one-out")}
place = np.arange(len(NAMES))
for shift, (name, values), colour in zip((-0.2, 0.2), totals.items(), qf.plots.COLOURS, strict=False):
    label = "Shapley, exact" if name == "exact" else name
    left.bar(place + shift, 1000 * values, 0.38, color=colour, label=label)
left.set_xticks(place, TICKS, fontsize=8)
left.axhline(0, color="#555555", linewidth=0.8)
left.set(ylabel="millinats of validation loss", title="all rounds")
first = {name: frame[frame["round"] == 1].set_index("client").loc[NAMES] for name, frame in found.items()}
sampled = first["Monte Carlo"]
right.errorbar(
    place,
    1000 * sampled["value"],
    1000 * np.array([sampled["value"] - sampled["low"], sampled["high"] - sampled["value"]]),
    fmt="s",
    color=qf.plots.COLOURS[4],
    capsize=3,
    label=f"{ORDERS} orders, 95 %",
)
right.plot(place, 1000 * first["exact"]["value"], "x", color="black", markersize=8, label="exact")
right.set_xticks(place, TICKS, fontsize=8)
right.axhline(0, color="#555555", linewidth=0.8)
right.set(title="round 1, sampled")
for ax in (left, right):
    ax.legend(frameon=False, fontsize=8)
plt.show()
assert totals["exact"].drop(list(USELESS)).min() > totals["exact"][list(USELESS)].max()

# %% [markdown]
# Of seven 95 % intervals one may well miss; each covers its own client's value, not all at once.
#
# What leave-one-out overlooks, in three lines: two clients have the same rows, a third has others. Either of the two
# can be spared, so leave-one-out gives both nothing; Shapley values share what they bring.

# %%
twins = Game(3, lambda coalitions: (coalitions[:, 0] | coalitions[:, 1]) + 1.0 * coalitions[:, 2])
for method in (Shapley(), LeaveOneOut()):
    print(f"{type(method).__name__:>12}: {method.values(twins, rng).value}")

# %% [markdown]
# ## 3. A reverse auction
# Training costs each client something that only it knows. The server asks for bids, hires at most three, and pays (VCG)
# each winner its bid plus what it adds to everybody's welfare. Then the best bid is the true cost. The values below are
# what clients were worth above, on a scale of money; clients of no worth are not hired at any price.

# %%
values = np.maximum(0, totals["exact"].to_numpy())
market = Market(10 * values / values.max(), most=3)
costs = rng.uniform(0.5, 6, len(NAMES))
award = vcg(market, costs)
pd.DataFrame(
    {
        "value": market.values,
        "cost": costs,
        "hired": award.winners,
        "paid": award.payments,
        "gain": award.utility(costs),
    },
    index=NAMES,
).round(2)

# %% [markdown]
# Now a search for lies that pay: in several markets each client tries many bids while the others stay honest. (What two
# clients have in common is paid for once.) It finds none. VCG needs the exact optimum for that: the greedy choice with
# the same payments can be cheated.


# %%
def greedy_vcg(market, bids):
    """As `vcg`, with a greedy choice of winners in place of the optimum."""

    def choose(barred=None):
        chosen = np.zeros(len(bids), dtype=bool)
        for _ in range(market.most):
            joined = [chosen | (np.arange(len(bids)) == i) for i in range(len(bids)) if not chosen[i] and i != barred]
            best = max(joined, key=lambda some: float(market.welfare(some[None], bids)[0]))
            if market.welfare(best[None], bids)[0] <= market.welfare(chosen[None], bids)[0]:
                break
            chosen = best
        return chosen, float(market.welfare(chosen[None], bids)[0])

    winners, welfare = choose()
    pay = [bids[i] + welfare - choose(i)[1] if winners[i] else 0.0 for i in range(len(bids))]
    return qf.incentives.Award(winners, np.array(pay))


def gains_of_lies(mechanism, market, costs, client, tried):
    """Return what a client has more, or less, with each lie than with its true cost."""
    honest = mechanism(market, costs).utility(costs)[client]
    bids = [np.where(np.arange(len(costs)) == client, lie, costs) for lie in tried]
    return np.array([mechanism(market, bid).utility(costs)[client] for bid in bids]) - honest


MARKETS, BIDS = (4, 40) if SMOKE else (20, 100)
tried = np.linspace(0, 12, BIDS)
best = {"exact optimum (VCG)": [], "greedy choice": []}
for _ in range(MARKETS):
    common = np.zeros((5, 5))
    common[0, 1:] = common[1:, 0] = rng.uniform(5, 9, 4)  # the first client has much that the others have too
    some, theirs = Market(rng.uniform(10, 14, 5), 2, common), rng.uniform(1, 4, 5)
    for name, mechanism in zip(best, (vcg, greedy_vcg), strict=True):
        best[name] += [gains_of_lies(mechanism, some, theirs, client, tried).max() for client in range(5)]
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
for client, colour in zip(np.argsort(-market.values)[:4], qf.plots.COLOURS, strict=False):
    change = gains_of_lies(vcg, market, costs, client, np.linspace(0, 10, 201)) + award.utility(costs)[client]
    left.plot(np.linspace(0, 10, 201), change, color=colour, label=NAMES[client])
    left.plot(costs[client], award.utility(costs)[client], "o", color=colour)
left.axhline(0, color="#8a8a8a", linewidth=0.8)
left.set(xlabel="bid (dot: the true cost)", ylabel="what the client is left with")
left.legend(frameon=False, fontsize=8)
for (name, gain), colour in zip(best.items(), qf.plots.COLOURS, strict=False):
    right.plot(np.sort(gain)[::-1], "o-", color=colour, markersize=4, label=name)
right.set(xlabel="clients of all markets, ordered", ylabel="most that a lie gains")
right.legend(frameon=False)
plt.show()
assert max(best["exact optimum (VCG)"]) < 1e-9
for name, gain in best.items():
    print(f"{name}: {sum(g > 1e-9 for g in gain)} of {len(gain)} clients have a lie that pays, at most {max(gain):.2f}")

# %% [markdown]
# ## 4. Reputation chooses the next
# Four of the seven train in a round. `Reputation` counts good rounds (a contribution above 20 millinats) and bad ones,
# forgets slowly, and draws the next clients from Beta distributions, so that the little known and the long forgotten
# are tried again. The bar matters: above zero is not enough here, see the late rounds of the rider above. And when the
# model has learned all there is, nobody clears a bar any more.

# %%
picky = replace(
    experiment,
    clients=replace(experiment.clients, per_round=4),
    aggregation=Reputation(Contribution(qf.aggregation.AngularMean(), Shapley()), decay=0.95, threshold=0.02),
    rounds=12 if SMOKE else 20,
)
chosen = qf.run(picky, progress=False, intervene=free_ride)
known = pd.DataFrame([line["info"]["reputation"] for line in chosen.rounds[1:]]).reindex(columns=NAMES)
known.index += 1
took = pd.DataFrame([{name: name in line["clients"] for name in NAMES} for line in chosen.rounds[1:]])
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", width_ratios=[1.6, 1])
for name in NAMES:
    colour = USELESS.get(name, "#8a8a8a")
    label = {NOISY: f"{NOISY}, random labels", "rider": "rider"}.get(name)
    left.plot(known.index, known[name], color=colour, linewidth=2 if label else 1, label=label)
left.plot([], [], color="#8a8a8a", label="the five others")
left.set(xlabel="round", ylabel="reputation", ylim=(0, 1), xticks=range(0, len(known) + 1, 4))
left.legend(frameon=False, fontsize=8)
right.barh(NAMES, took.mean(), color=[USELESS.get(name, "#8a8a8a") for name in NAMES])
right.axvline(4 / 7, color="#555555", linewidth=0.8, linestyle="--")
right.invert_yaxis()
right.set(xlabel="share of rounds (dashed: by chance)", xlim=(0, 1))
plt.show()

# %% [markdown]
# ## 5. Quantum Shapley: calls, not seconds
# In a game whose coalitions win or lose, a player's Shapley value is the probability that it is pivotal, and amplitude
# estimation finds a probability to an interval of half width w with about 1/w calls of the game where sampling takes
# 1/w². This is a simulation of qubits: it needs the worth of every coalition to begin with, and saves nothing here.
# What it shows is the number of calls that a quantum computer would make, oracle included, and no time. The game: the
# council of the European Economic Community of 1958, [12; 4, 4, 4, 2, 2, 1].

# %%
council = weighted_voting(12, [4, 4, 4, 2, 2, 1])
states = ["Germany", "France", "Italy", "Belgium", "Netherlands", "Luxembourg"]
true = Shapley().values(council, rng).value
rows = []
for qubits in range(3, 9 if SMOKE else 11):
    method = QuantumShapley(qubits=qubits, runs=9)
    estimate = method.values(council, rng)
    half = (estimate.high - estimate.low) / 2
    rows.append(
        {
            "qubits": qubits,
            "oracle calls": estimate.oracle_calls,
            "sampling calls": sum(
                sampling_calls(float(p), float(w), method.confidence) for p, w in zip(true, half, strict=True)
            ),
            "half width": half.mean(),
            "largest error": np.abs(estimate.value - true).max(),
            "values inside": int(((estimate.low <= true) & (true <= estimate.high)).sum()),
        }
    )
calls = pd.DataFrame(rows)
print({state: round(float(value), 4) for state, value in zip(states, true, strict=True)})
ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
ax.plot(calls["half width"], calls["oracle calls"], "o-", color=qf.plots.COLOURS[0], label="amplitude estimation")
ax.plot(calls["half width"], calls["sampling calls"], "s-", color=qf.plots.COLOURS[1], label="sampling coalitions")
ax.axhline(2**6, color="#555555", linestyle="--", label="all 64 coalitions, exactly")
ax.set(xscale="log", yscale="log", xlabel="half width of the interval, mean of six players", ylabel="calls of the game")
ax.invert_xaxis()
ax.legend(frameon=False)
plt.show()
assert true[5] == 0  # Luxembourg never mattered
calls.set_index("qubits").round(4)

# %% [markdown]
# At one confidence for both. The dashed line is the honest end of it: six players have 64 coalitions, and to look at
# all of them is cheapest. A weighted voting game has a classical dynamic programme besides. What is left for the
# quantum algorithm is a game of many players of which nothing is known but its answers, and a computer that does not
# exist yet.
