"""Contributions in real runs: the wrapped rule is not disturbed, values are recorded, read back, and share out all."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import arrays, experiment

from qfedfm import Result, run
from qfedfm.aggregation import AngularMean, Mean
from qfedfm.assembly import bind, federate, prepare
from qfedfm.data import IID
from qfedfm.errors import AggregationError, ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, run_round
from qfedfm.incentives import Contribution, Gtg, Influence, LeaveOneOut, MonteCarlo, Reputation, Shapley, contributions
from qfedfm.incentives.reputation import COUNTS, expected
from qfedfm.runs import describe
from qfedfm.seeds import stream


class AtLeastTwo:
    """A rule that needs two clients, as robust rules do."""

    def init(self, specs):
        return {}

    def __call__(self, state, params, updates, specs, context):
        if len(updates.clients) < 2:
            raise ConfigurationError(f"needs 2 clients; got {len(updates.clients)}")
        return Mean()(state, params, updates, specs, context)


def started(**changes):
    plan = experiment(**changes)
    prepared = prepare(plan, progress=False)
    return federate(plan, prepared, bind(plan, prepared), run_id="run")


def step(federation):
    return run_round(federation.server, federation.engine)


METHODS = [Shapley(), LeaveOneOut(), Influence(), MonteCarlo(permutations=8), Gtg()]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_rounds_with_contributions_are_the_same_rounds_and_say_more(method):
    plain, measured = started(aggregation=Mean()), started(aggregation=Contribution(Mean(), method))
    rounds = [(step(plain), step(measured)) for _ in range(2)]
    assert all(torch.equal(plain.server.params[n], measured.server.params[n]) for n in plain.server.params)
    frame = contributions([describe(outcome) for _, outcome in rounds])
    assert frame.columns.tolist() == ["round", "client", "value", "low", "high"]
    assert frame["round"].tolist() == [1, 1, 1, 2, 2, 2]
    assert frame["client"].nunique() == 3
    assert np.isfinite(frame["value"]).all()
    assert frame["low"].notna().all() == isinstance(method, MonteCarlo | Gtg)


def test_shapley_values_of_a_run_share_out_what_the_validation_loss_fell(tmp_path):
    result = run(experiment(aggregation=Contribution(), rounds=4), tmp_path / "run", progress=False)
    losses = [line["validation"]["loss"] for line in result.rounds]
    frame = contributions(Result.load(tmp_path / "run"))
    by_round = frame.groupby("round")["value"].sum().to_numpy()
    assert by_round == pytest.approx(-np.diff(losses), abs=1e-6)
    assert frame["value"].sum() == pytest.approx(losses[0] - losses[-1], abs=1e-6)
    record = result.rounds[1]["info"]["contribution"]
    assert (record["method"], record["metric"], record["evaluations"]) == ("Shapley", "loss", 8)
    assert record["before"] == pytest.approx(-losses[0], abs=1e-6)


def test_a_client_that_sends_the_opposite_is_worth_less_than_nothing():
    def contrary(client, number, delta):
        return {name: -tensor for name, tensor in delta.items()} if client == names[0] else delta

    plan = experiment(aggregation=Contribution(), data=arrays(rows=200))
    prepared = prepare(plan, progress=False)
    names = list(federate(plan, prepared, bind(plan, prepared), run_id="names").server.enrolled)
    federation = federate(plan, prepared, bind(plan, prepared), run_id="run", intervene=contrary)
    value = step(federation).info["contribution"]["value"]
    assert value[names[0]] < 0 < min(value[name] for name in names[1:])


def test_declared_in_toml():
    for rule in (Contribution(Mean(), Gtg(blocks=5), "accuracy", AngularMean()), Reputation(Contribution(), 0.8)):
        plan = experiment(aggregation=rule, data=experiment().data)
        text = replace(plan, data=Experiment().data).to_toml()
        assert Experiment.from_toml(text).aggregation == rule


def test_a_rule_that_refuses_few_clients_needs_another_to_rebuild_coalitions():
    with pytest.raises(AggregationError, match="needs 2 clients; got 1"):
        step(started(aggregation=Contribution(AtLeastTwo())))
    info = step(started(aggregation=Contribution(AtLeastTwo(), rebuild=Mean()))).info
    assert info["contribution"] == step(started(aggregation=Contribution(Mean()))).info["contribution"]


def test_influence_on_accuracy_and_runs_without_values_are_refused():
    with pytest.raises(ConfigurationError, match="moves in steps"):
        Contribution(method=Influence(), metric="accuracy")
    with pytest.raises(ConfigurationError, match=r"aggregation=Contribution\(rule\)"):
        contributions([{"round": 0}, describe(step(started()))])


def test_beta_reputation_josang_and_ismail_2002_figure_2():
    # seven good observations and one bad: beta(8, 2), expectation .8
    assert expected(torch.tensor([7.0, 1.0])) == pytest.approx(0.8)
    assert expected(torch.zeros(2)) == 0.5


def test_counts_decay_worked_by_hand():
    rule = Reputation(decay=0.5)
    first = rule.judged({}, {"anna": 1.0, "bert": -1.0})
    second = rule.judged(first, {"anna": 1.0, "cleo": 0.0})
    counts = {name.removeprefix(COUNTS): count.tolist() for name, count in second.items()}
    assert counts == {"anna": [1.5, 0], "bert": [0, 0.5], "cleo": [0, 1]}


def test_the_reputable_are_chosen_more_often_and_the_unknown_are_tried():
    # good ~ Beta(9, 1), bad ~ Beta(1, 9), unknown uniform: P(unknown > good) = 1/10, P(bad > unknown) = 1/10
    state = {COUNTS + "good": torch.tensor([8.0, 0.0]), COUNTS + "bad": torch.tensor([0.0, 8.0])}
    chosen = [Reputation().select(state, ["bad", "good", "new"], 1, stream(s, "select"))[0] for s in range(2000)]
    share = {name: chosen.count(name) / 2000 for name in ("good", "bad", "new")}
    assert share["good"] > 0.85
    assert 0.05 < share["new"] < 0.15
    assert share["bad"] < 0.01
    assert Reputation().select(state, ["bad", "good", "new"], 3, stream(0)) == ["bad", "good", "new"]


def test_reputation_feeds_selection_and_a_restored_federation_chooses_the_same():
    some = {"clients": Clients(count=6, partition=IID(), per_round=3, min_rows=4), "data": arrays(rows=150)}
    whole = started(aggregation=Reputation(), **some)
    rounds = [step(whole) for _ in range(3)]
    restored = started(aggregation=Reputation(), **some)
    restored.restore(3, whole.state())
    rounds += [step(whole) for _ in range(4)]
    assert {len(outcome.clients) for outcome in rounds} == {3}
    assert all(0 < value < 1 for value in rounds[-1].info["reputation"].values())
    again = [step(restored) for _ in range(4)]
    assert [outcome.clients for outcome in again] == [outcome.clients for outcome in rounds[3:]]
    assert again[-1].info == rounds[-1].info
    plain = started(**some)
    assert [step(plain).clients for _ in range(7)] != [outcome.clients for outcome in rounds]
