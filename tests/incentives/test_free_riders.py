"""Free riders among clients that train, and what the test statistic is when all is noise."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import arrays, experiment

from qfedfm.aggregation import Context, Mean, Updates
from qfedfm.assembly import bind, federate, prepare
from qfedfm.data import Dirichlet
from qfedfm.errors import ConfigurationError
from qfedfm.federation import Clients, Training, run_round
from qfedfm.incentives import FreeRiderScreen, screen
from qfedfm.incentives.free_riders import gathered, noise_probability
from qfedfm.params import ParamSpec
from qfedfm.seeds import stream
from qfedfm.training import Sgd

SPECS = (ParamSpec("w", (30,), "float64"),)


def noise(clients, seed, dimension=30):
    return {"w": torch.as_tensor(stream(seed, "noise").normal(size=(clients, dimension)))}


def updates(delta):
    count = len(delta["w"])
    return Updates(tuple(f"client-{i}" for i in range(count)), delta, (1,) * count)


@pytest.mark.parametrize("with_last", [False, True])
def test_p_is_uniform_for_noise(with_last):
    # a client whose update is noise, whatever the others sent: 400 draws, Kolmogorov distance below 1.95/20 at .1 %
    last = {"w": torch.ones(30, dtype=torch.float64)} if with_last else None
    found = []
    for seed in range(400):
        delta = {"w": noise(5, seed)["w"] * torch.tensor([[1.0], [0.1], [5.0], [1.0], [1.0]]) + 0.3}
        delta["w"][0] = noise(1, seed + 1000)["w"][0]
        found.append(screen(updates(delta), SPECS, last).p[0])
    distance = np.abs(np.sort(found) - (np.arange(400) + 0.5) / 400).max()
    assert distance < 1.95 / 20


RIDES = {
    "nothing": lambda last, own, generator: torch.zeros_like(own),
    "noise": lambda last, own, generator: 0.02 * torch.as_tensor(generator.normal(size=own.shape)).to(own),
    "the last step": lambda last, own, generator: last.clone(),
    "half the last step": lambda last, own, generator: 0.5 * last,
    "the last step and noise": lambda last, own, generator: (
        last + 0.01 * torch.as_tensor(generator.normal(size=own.shape)).to(own)
    ),
}


def judged(ride, partition, rounds=6, riders=2):
    """Run a federation with riders in it; return per round which of riders and of honest clients are suspected."""
    plan = experiment(
        aggregation=FreeRiderScreen(Mean()),
        data=arrays(rows=600, features=40, shift=0.4),
        clients=Clients(count=8, partition=partition, min_rows=10),
        training=Training(Sgd(lr=0.1), batch_size=16),
        rounds=rounds,
    )
    prepared = prepare(plan, progress=False)
    seen: list = []

    def intervene(client, number, delta):
        if client not in names[:riders]:
            return delta
        seen_before = seen[-2] if len(seen) > 1 else seen[-1]
        generator = stream(1, "ride", client, number)
        return {name: RIDES[ride](seen[-1][name] - seen_before[name], own, generator) for name, own in delta.items()}

    federation = federate(plan, prepared, bind(plan, prepared), run_id="run", intervene=intervene)
    names = list(federation.server.enrolled)
    caught, wronged = [], []
    for number in range(rounds):
        seen.append(dict(federation.server.params))
        suspects = run_round(federation.server, federation.engine).info["free_riders"]["suspects"]
        if number >= 1:  # in the first round there is no last step to send
            caught.append(sum(name in suspects for name in names[:riders]) / riders)
        wronged.append(sum(name in suspects for name in names[riders:]) / (len(names) - riders))
    return np.mean(caught), np.mean(wronged)


@pytest.mark.parametrize("ride", RIDES)
def test_riders_are_caught_and_honest_clients_of_mixed_classes_are_not(ride):
    caught, wronged = judged(ride, Dirichlet(alpha=1.0))
    assert caught > 0.9
    assert wronged < 0.05


def test_riders_are_left_out_of_the_mean():
    honest = torch.ones(4, 30, dtype=torch.float64) + 0.1 * noise(4, 0)["w"]
    delta = {"w": torch.cat([torch.zeros(1, 30, dtype=torch.float64), honest])}
    params = {"w": torch.zeros(30, dtype=torch.float64)}
    new, state, info = FreeRiderScreen(Mean(), remove=True)({}, params, updates(delta), SPECS, Context(1, stream(0)))
    torch.testing.assert_close(new["w"], honest.mean(0))
    assert info["free_riders"]["suspects"] == ["client-0"]
    assert list(state) == ["free-riders-before:w", *(f"free-riders-evidence:client-{i}" for i in range(5))]


def test_a_round_of_riders_only_and_rounds_too_small_are_refused():
    params = {"w": torch.zeros(30, dtype=torch.float64)}
    everybody = updates({"w": torch.zeros(3, 30, dtype=torch.float64)})
    with pytest.raises(ConfigurationError, match="all 3 clients look like free riders"):
        FreeRiderScreen(Mean(), remove=True)({}, params, everybody, SPECS, Context(1, stream(0)))
    with pytest.raises(ConfigurationError, match="got 1 clients and 30"):
        screen(updates(noise(1, 0)), SPECS)
    with pytest.raises(ConfigurationError, match="got 2 clients and 3"):
        screen(updates(noise(2, 0, 3)), (ParamSpec("w", (3,), "float64"),))


def test_evidence_of_rounds_is_that_of_fishers_method():
    # Fisher 1932: p of .1, .2 and .3 together: chi squared of 6 degrees
    evidence = torch.zeros(3, dtype=torch.float64)
    for p in (0.1, 0.2, 0.3):
        evidence = gathered(evidence, p, decay=1.0)
    assert noise_probability(evidence) == pytest.approx(chi2.sf(-2 * np.log(0.006), 6), abs=1e-12)
    assert noise_probability(gathered(torch.zeros(3, dtype=torch.float64), 0.37, 0.5)) == pytest.approx(0.37)


def test_with_decay_the_evidence_of_noise_stays_nearly_uniform():
    # 2000 histories of 8 rounds; Kolmogorov distance of the approximation and of sampling together below .05
    found = []
    for history in stream(0, "p").random((2000, 8)):
        evidence = torch.zeros(3, dtype=torch.float64)
        for p in history:
            evidence = gathered(evidence, p, decay=0.7)
        found.append(noise_probability(evidence))
    assert np.abs(np.sort(found) - (np.arange(2000) + 0.5) / 2000).max() < 0.05
