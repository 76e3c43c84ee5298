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
# # Quantum keys, from pulses of light to a protected federation
#
# How much key does a fibre give, what does Eve change, and how many federated rounds an hour can it protect? Here are
# the answers for one link, each computed or simulated in a few seconds.
#
# **All keys in this notebook are simulated and protect nothing.** No photon is sent and both "parties" are one program.
# The bits, the leak, the traffic and the time are those that the protocol would have; the secrecy is not. Real keys
# come from a key management entity over ETSI GS QKD 014 (`qkd.Etsi014`). QKD protects links, not the server: it sees
# every update in plain text.

# %%
import os
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pennylane as qml

import qfedfm as qf
from qfedfm import qkd
from qfedfm.qkd.cascade import FRAME, cascade_alice, cascade_bob, near_optimal, original
from qfedfm.qkd.textbook_e91 import EKERT, measure_with_aer, measure_with_pennylane

pd.set_option("display.max_colwidth", None)
SMOKE = "QFEDFM_SMOKE" in os.environ  # a small setting for continuous integration
BLOCK = 150_000 if SMOKE else 1_000_000  # sifted bits that one session makes its key of
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. How much key over how much fibre
# `metro` is a modern city link with superconducting detectors. No protocol without repeaters passes the PLOB bound,
# -log2(1 - η) bits a pulse. Asymptotic rates, but for the finite key of blocks of ten million sifted bits (Lim et al.
# 2014). Over the first 50 km dead time flattens what counts photons: a click blinds the detectors for ten pulses. The
# rates are computed; nothing is drawn at random.

# %%
link = qkd.metro(25)
protocols = {
    "single photons": qkd.SinglePhotonBB84(link),
    "decoy states": qkd.DecoyBB84(link).optimised(),
    "decoy states, finite key": qkd.FiniteDecoyBB84(qkd.DecoyBB84(link, block=10**7)).optimised(),
    "no decoys": qkd.NoDecoyBB84(link),
    "SARG04": qkd.Sarg04(link),
    "entangled pairs (BBM92)": qkd.Bbm92(link),
    "continuous variables (GG02)": qkd.Gg02(link.channel),
}
curve = qkd.rate_curve(protocols, np.linspace(0, 250, 126))
ax = curve.plot(plt.subplots(figsize=(7.2, 4.2), layout="constrained")[1])
ax.set_ylim(1e-9, 10)
ax.legend(frameon=False, fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# ## 2. One session, from clicks to key
# Two parties, each with its own record, talk over a public channel that counts every bit: sifting, estimation, Cascade,
# verification, authentication, amplification. The length of the key follows from what was really said.


# %%
def session(protocol, eve=None):
    pool = qkd.AuthenticationPool(rng.bytes(64))  # the secret that both share before, for two tags
    return qkd.run_session(protocol, round(protocol.pulses()), rng, pool, eve)


protocol = qkd.DecoyBB84(link, block=BLOCK).tuned()  # intensities and bases that make most of such a block
done = session(protocol)
print(done)
low, high = done.qber_key.interval
print(f"QBER {done.qber_key.value:.4f}, 95 % interval {low:.4f} to {high:.4f}; f = {done.f_ec:.3f}")
print(f"{done.rounds} round trips: {done.latency(2 * 25e3 / 2e8):.2f} s over 25 km of fibre")
done.plot_ledger()
plt.show()

# %%
done.plot_sequence()
plt.show()

# %% [markdown]
# Each arrow stands for all messages of its stage and direction. Bob's questions in reconciliation are traffic and no
# leak; Alice's parities are, bit by bit.

# %% [markdown]
# ## 3. Cascade at work
# Cascade makes Bob's bits equal to Alice's and tells parities for it; no protocol can tell fewer than h(Q) for each bit
# (Shannon). Frames of 16,384 bits, each compared with its own number of errors; the bars hold nine frames of ten. The
# original's blocks are rounded to powers of two, hence its steps.

# %%
FRAMES = 64 if SMOKE else 400
qbers = np.array([0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.11])
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for variant, colour, shift in ((near_optimal, "C0", 0.985), (original, "C1", 1.015)):
    told, f, wrong = [], [], 0
    for qber in qbers:
        alice = rng.integers(0, 2, (FRAMES, FRAME), dtype=np.uint8)
        bob = alice ^ (rng.random(alice.shape) < qber)
        parties = cascade_alice(alice, variant(qber), rng), cascade_bob(bob, variant(qber))
        disclosed, corrected = qkd.converse(qkd.ClassicalChannel(), *parties)
        told.append(disclosed.leaked.mean() / FRAME)
        f.append(disclosed.leaked / (FRAME * qkd.binary_entropy((alice != bob).mean(axis=1))))
        wrong += (corrected.frames != alice).any(axis=1).sum()
    name = f"{variant.__name__.replace('_', ' ')} Cascade"
    print(f"{name}: {wrong} of {FRAMES * len(qbers)} frames still differ (verification drops such frames)")
    left.plot(qbers, told, "o", color=colour, label=name)
    mean = np.mean(f, axis=1)
    ends = np.abs(np.quantile(f, [0.05, 0.95], axis=1) - mean)
    right.errorbar(qbers * shift, mean, ends, fmt="o", color=colour, capsize=2)
grid = np.linspace(0.001, 0.12, 200)
left.plot(grid, qkd.binary_entropy(grid), color="#555555", label="Shannon, h(Q)")
right.axhline(1, color="#555555")
left.set(xlabel="QBER", ylabel="parities told per bit")
right.set(xlabel="QBER", ylabel="f, told over h(Q)", xscale="log", xticks=qbers, xticklabels=[f"{q:g}" for q in qbers])
right.minorticks_off()
left.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 4. Entanglement as circuits
# In E91 the parties measure halves of entangled pairs, and a CHSH value above 2 shows that nobody holds a copy. First
# your own PennyLane circuit, exactly; then pairs measured one shot each, on PennyLane and on Qiskit Aer, with sifted
# bits, QBER and CHSH as the parties see them. Noise of visibility V leaves S = 2√2 V.


# %%
@qml.qnode(qml.device("default.mixed", wires=2))
def correlation(a, b, visibility):
    qml.Hadamard(wires=0)
    qml.CNOT(wires=[0, 1])
    qml.DepolarizingChannel(0.75 * (1 - visibility), wires=1)
    qml.RY(-a, wires=0)
    qml.RY(-b, wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def exact_chsh(visibility):
    (a1, _, a3), (b1, _, b3) = EKERT.alice, EKERT.bob
    signs = {(a1, b1): 1, (a1, b3): -1, (a3, b1): 1, (a3, b3): 1}
    return sum(sign * correlation(a, b, visibility) for (a, b), sign in signs.items())


visibilities = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
for measure, name, shift in ((measure_with_pennylane, "PennyLane", -0.006), (measure_with_aer, "Aer", 0.006)):
    runs = [measure(EKERT, 9_000, v, rng) for v in visibilities]
    values = [run.chsh() for run in runs]
    s = np.array([value.value for value in values])
    ax.errorbar(visibilities + shift, s, [value.high - value.value for value in values], fmt="o", capsize=2, label=name)
    qber = runs[-2].qber()
    print(
        f"{name}, V = {visibilities[-2]:g}: {qber.bits} sifted bits, QBER {qber.value:.3f} "
        f"[{qber.interval[0]:.3f}, {qber.interval[1]:.3f}], "
        f"S = {s[-2]:.3f} [{values[-2].low:.3f}, {values[-2].high:.3f}]"
    )
ax.plot(visibilities, [exact_chsh(v) for v in visibilities], color="#555555", label="your circuit, exactly")
ax.axhline(2, color="#c2435b", linestyle="--", label="any local model")
ax.set(xlabel="visibility V", ylabel="CHSH value S, 95 % interval")
ax.legend(frameon=False)
plt.show()
assert np.allclose([exact_chsh(v) for v in visibilities], 2 * np.sqrt(2) * visibilities)

# %% [markdown]
# ## 5. Eve is caught
# **Intercept and resend.** Eve measures a fraction p of the pulses in random bases. That adds p/4 to the error rate;
# the key shrinks, and is gone long before she has half of the pulses.

# %%
fractions = np.array([0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1])
caught = [session(protocol, qkd.InterceptResend(p) if p else None) for p in fractions]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
qber = np.array([found.qber_test.value for found in caught])
ends = np.abs(np.array([found.qber_test.interval for found in caught]).T - qber)
left.errorbar(fractions, qber, ends, fmt="o", capsize=2, label="measured in the test basis, 95 %")
noise = link.detectors.misalignment
left.plot(fractions, noise + fractions * (1 / 4 - noise / 2), color="#555555", label="p/4 beside the link's own 1 %")
left.set(xlabel="p, pulses that Eve intercepts", ylabel="QBER")
left.legend(frameon=False)
right.plot(fractions, [found.ledger.delivered / 1000 for found in caught], "o-")
right.set(xlabel="p, pulses that Eve intercepts", ylabel="key delivered, kilobits")
plt.show()
print(caught[-1])
assert caught[-1].ledger.delivered == 0

# %% [markdown]
# **Photon-number splitting.** Eve keeps one photon of every pulse that has several, and stops so many of the others
# that Bob's click rate is what it always was. She causes no error. Over 100 km a source of one intensity loses
# everything to her and shows nothing; decoys do, for she cannot keep the click rate of each intensity.

# %%
far = qkd.DecoyBB84(qkd.metro(100), block=BLOCK).tuned()
one_intensity = replace(far.link, source=qkd.PulsedSource((0.5,), (1.0,), repetition_hz=2.5e9))
eves = {"nobody": None, "photon-number splitting": qkd.PhotonNumberSplitting()}
rows, gains = [], {}
for name, eve in eves.items():
    sent = qkd.transmit(one_intensity, 50_000_000, rng, eve)
    sifted = (sent.alice.basis == 0) & (sent.bob.basis == 0)
    told = 2.16 * float(qkd.binary_entropy(sent.qber(0)))  # for errors and their correction at f = 1.16
    gains[name] = qkd.transmit(far.link, round(far.pulses()), rng, eve).gains()
    found = session(far, eve)
    rows.append(
        {
            "Eve": name,
            "clicks": len(sent.bob.pulse),
            "QBER": round(sent.qber(0), 4),
            "'key' if only errors counted": round(sifted.sum() * (1 - told)),
            "bits that Eve knows": f"{np.mean(sent.truth.certainty[sifted] == 1):.0%}",
            "key with decoys": found.ledger.delivered,
        }
    )
    print(f"{name}, with decoys: {found}")
ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")[1]
light = far.link.source.intensities[:2]
for shift, (name, gain) in zip((-0.2, 0.2), gains.items(), strict=True):
    ax.bar(np.arange(2) + shift, gain[:2] / far.link.gain(light), width=0.38, label=f"Eve: {name}")
ax.axhline(1, color="#555555", linewidth=0.8)
ax.set(ylabel="clicks over those expected", ylim=(0, 1.75))
ax.set_xticks(range(2), [f"{kind}\n{mu:.2f} photons" for kind, mu in zip(("signal", "decoy"), light, strict=True)])
ax.legend(frameon=False, loc="upper center", ncols=2)
plt.show()
assert rows[1]["key with decoys"] == 0
pd.DataFrame(rows).set_index("Eve")

# %% [markdown]
# ## 6. What a federation asks of the link
# Sentences from four domains, one client each; a circuit of 24 angles as the head, with a trainable projection before
# it. Every message is sealed with a one-time pad: as many key bits as the message has, and 256 for its tag.
#
# What befalls the links is declared with the keys: Eve on the link of "movies" from round 2, a cut fibre at "tweets" in
# round 3. A client without a safe key is left out of the round; nothing is ever sent in clear.


# %%
def head(x, angles):
    qml.AngleEmbedding(x, wires=range(4), rotation="Y")
    qml.StronglyEntanglingLayers(angles, wires=range(4))
    return [qml.expval(qml.Z(wire)) for wire in range(4)]


keys = qkd.DecoyBB84(link, block=300_000).tuned()
scenario = qkd.Scenario(
    keys,
    events=(
        qkd.Eavesdropping("movies", qkd.InterceptResend(0.5), first=2),
        qkd.Outage("tweets", "fibre cut", first=3, last=3),
    ),
)
experiment = qf.Experiment(
    name="quantum-keys",
    data=qf.data.Sentiment(per_domain=80 if SMOKE else 300),
    head=qf.heads.Variational(head, {"x": 4, "angles": (2, 4, 3)}),
    clients=qf.Clients(failing="exclude", quorum=2),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.01), epochs=4),
    rounds=4 if SMOKE else 8,
    seal=qf.seal.OneTimePad(keys=scenario),
)
budget = qkd.budget(experiment, keys)
print(budget)
ax = budget.plot(ax=plt.subplots(figsize=(7.2, 4.4), layout="constrained")[1])
plt.show()

# %% [markdown]
# Under authenticated encryption (dashed) the size does not matter: two keys of 256 bits a round. Under the pad a model
# of 22 million parameters has some dozens of rounds an hour at 25 km and one in several hours at 150 km; the 24 angles
# of a quantum head alone take four times what AES takes. Post-processing and round trips come on top.

# %% [markdown]
# ## 7. A protected federation
# Every round draws its keys from sessions that are simulated when they are needed. (Whether the circuit is worth its
# place is another question: notebook 02 puts one beside its classical twin.)

# %%
result = qf.run(experiment)
result

# %%
clients, rounds = sorted({name for line in result.rounds[1:] for name in line["clients"]}), result.rounds[1:]
fig, (top, middle, bottom) = plt.subplots(3, 1, figsize=(7.2, 7.5), layout="constrained", sharex=True)
for row, name in enumerate(clients):
    for line in rounds:
        out = name in line["excluded"]
        top.plot(line["round"], row, "X" if out else "o", color="#c2435b" if out else "#3a8f5d", markersize=9)
top.set_yticks(range(len(clients)), clients)
top.set(ylim=(len(clients) - 0.5, -0.5), title="who took part (circle) and who was left out (cross)")
sessions = result.key_sessions()
sessions["qber"] = sessions["qber_key"].fillna(sessions["qber_test"])
for number, (_, mine) in enumerate(sessions.groupby("link")):
    look = {"color": qf.plots.COLOURS[number], "marker": qf.plots.MARKERS[number], "markersize": 4.5}
    middle.plot(mine["round"] + 0.05 * (number - 1.5), mine["qber"], linestyle="", **look)
middle.axhline(0.11, color="#555555", linestyle="--", linewidth=0.8)
middle.annotate("no key beyond 11 %", (rounds[-1]["round"] + 0.1, 0.108), ha="right", va="top", fontsize=8)
middle.set(ylabel="QBER of each session", ylim=(0, 0.16))
result.plot_keys(bottom).set_ylim(0)
plt.show()

# %%
assert "movies" not in {name for line in rounds[1:] for name in line["clients"]}
assert rounds[2]["excluded"] == ["movies", "tweets"]
sessions.loc[sessions["aborted"].notna(), ["round", "link", "qber", "delivered", "eve", "aborted"]]

# %% [markdown]
# Eve got no update, and no key to any: sessions with her on the line were given up, and their tags were paid from the
# store. What she did achieve is that "movies" does not take part. The run's report (`result.report()`) holds all
# sessions, balances and exclusions with their reasons.
