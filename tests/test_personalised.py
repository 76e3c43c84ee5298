"""Personalised heads in whole experiments: what travels, who is evaluated with what, resumed, refused, compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import arrays, cut_short, experiment

import qfedfm
from qfedfm.aggregation import EvolutionaryWeights, FidelityWeighted, FLTrust, ValidationLoss
from qfedfm.arms import twins
from qfedfm.assembly import bind, federate, prepare
from qfedfm.backends import Shots
from qfedfm.client_rules import FedProx, Ifca, Scaffold
from qfedfm.codecs import TopK
from qfedfm.data import Arrays, from_arrays
from qfedfm.errors import ConfigurationError
from qfedfm.estimator import FederatedClassifier
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training
from qfedfm.federation.clients import travelling
from qfedfm.heads import Linear, Mlp, Personalised, Variational, matched_classical
from qfedfm.incentives import Contribution, Reputation
from qfedfm.inference import client_models
from qfedfm.measuring import measure
from qfedfm.privacy import LocalDp
from qfedfm.training import Adam, SeededDescent, Sgd

OWN_READOUT = Personalised(Mlp((4,)))
CIRCUIT = Variational("strongly_entangling", {"n": 2, "layers": 1})


def planted() -> Arrays:
    """Return six clients; three follow one rule and the others its opposite."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(360, 4))
    client = np.arange(360) % 6
    labels = (points[:, 0] + 0.5 * points[:, 1] > 0).astype(int) ^ (client % 2)
    return from_arrays(points, labels, clients=[f"c{i}" for i in client])


def opposed(head, **changes) -> Experiment:
    training = Training(Adam(lr=0.1), batch_size=16)
    return experiment(
        **{"data": planted(), "clients": Clients(), "rounds": 10, "head": head, "training": training} | changes
    )


def made(one: Experiment):
    prepared = prepare(one, progress=False)
    return federate(one, prepared, bind(one, prepared), run_id="test")


def test_only_the_other_parts_travel_and_all_are_trained():
    model = Personalised(CIRCUIT, parts=("projection", "core")).bind(3, 2)
    assert [spec.name for spec in travelling(model.specs)] == ["readout.weight", "readout.bias"]
    plain = CIRCUIT.bind(3, 2)
    assert model.count() == plain.count()
    assert all(torch.equal(tensor, plain.init(1)[name]) for name, tensor in model.init(1).items())
    assert model.hybrid is not None
    assert opposed(OWN_READOUT).payload_bytes()["update"] < opposed(Mlp((4,))).payload_bytes()["update"]


@pytest.mark.parametrize(("head", "parts", "message"), [
    (Linear(), ("readout",), "nothing of Linear is left to travel"),
    (Mlp((4, 4)), ("projection", "core", "readout"), "nothing of Mlp is left"),
    (Linear(), ("core",), "Linear trains readout; got core"),
    (Mlp(), ("backbone",), "trains projection, readout; got backbone"),
])  # fmt: skip
def test_nothing_left_to_travel_and_parts_that_are_not_there_are_refused(head, parts, message):
    with pytest.raises(ConfigurationError, match=message):
        experiment(head=Personalised(head, parts)).check()


def test_no_parts_and_twice_personal_are_refused():
    with pytest.raises(ConfigurationError, match="one or more parts"):
        Personalised(Mlp(), ())
    with pytest.raises(ConfigurationError, match="personalised already"):
        Personalised(OWN_READOUT)


@pytest.mark.parametrize("head", [Mlp((4,)), CIRCUIT], ids=["classical", "hybrid"])
def test_contradictory_clients_are_served_only_by_parts_of_their_own(head, tmp_path):
    own = qfedfm.run(opposed(Personalised(head)), tmp_path / "own", progress=False)
    shared = qfedfm.run(opposed(head), tmp_path / "shared", progress=False)
    assert own.rounds[-1]["test"]["accuracy"] > 0.8
    assert shared.rounds[-1]["test"]["accuracy"] < 0.65
    assert own.per_client()["accuracy"].min() > 0.7
    points = np.random.default_rng(9).normal(size=(200, 4))
    truth = points[:, 0] + 0.5 * points[:, 1] > 0
    right = {c: np.mean((np.array(m.predict(points)) == "1") == truth) for c, m in own.client_models.items()}
    assert [right[f"c{i}"] > 0.5 for i in range(6)] == [True, False] * 3
    assert client_models(own) == own.client_models
    with pytest.raises(ConfigurationError, match=r"keeps readout.weight, readout.bias for itself"):
        _ = own.model
    with pytest.raises(ConfigurationError, match="share one model"):
        _ = shared.client_models
    assert "each client's own" in repr(own)
    assert "rounds each client&#39;s own model classifies" in own.report().read_text()


def test_every_row_is_evaluated_by_its_clients_model_and_the_untrained_begin_at_the_initial_values(tmp_path):
    one = opposed(OWN_READOUT, clients=Clients(per_round=2), rounds=1)
    result = qfedfm.run(one, tmp_path / "run", progress=False)
    models, trained = result.client_models, result.rounds[-1]["clients"]
    assert sorted(models) == [f"c{i}" for i in range(6)]
    for client, model in models.items():
        initial = torch.equal(model.params["readout.weight"], bind(one, prepare(one)).init(one.seed)["readout.weight"])
        assert initial == (client not in trained)
    again = made(one)
    dataset, test = again.prepared.dataset, again.split.test
    right = []
    for client, scores in result.rounds[-1]["per_client"].items():
        mine = test[again.assignment.owner[test] == again.assignment.names.index(client)]
        truth = [dataset.classes[i] for i in dataset.labels[mine]]
        right += [p == t for p, t in zip(models[client].predict(dataset.items[mine]), truth, strict=True)]
        assert scores["accuracy"] == pytest.approx(np.mean(right[-len(mine) :]))
    assert result.rounds[-1]["test"]["accuracy"] == pytest.approx(np.mean(right))


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path):
    base = opposed(OWN_READOUT, clients=Clients(per_round=4), rounds=4, codec=TopK(0.5),
                   training=Training(Adam(lr=0.05), keep_state=True, rule=FedProx(0.1)))  # fmt: skip
    whole = qfedfm.run(base, tmp_path / "whole", progress=False)
    broken = cut_short(base, tmp_path / "broken", 3)
    for ours, theirs in zip(whole.rounds, broken.rounds, strict=True):
        assert {k: v for k, v in ours.items() if k != "ledger"} == {k: v for k, v in theirs.items() if k != "ledger"}
    for client, model in whole.client_models.items():
        assert all(torch.equal(t, broken.client_models[client].params[name]) for name, t in model.params.items())


@pytest.mark.parametrize(("changes", "message"), [
    ({"aggregation": FLTrust()}, "FLTrust tries models out"),
    ({"aggregation": EvolutionaryWeights(ValidationLoss())}, "ValidationLoss tries models out"),
    ({"aggregation": Reputation(Contribution())}, "Contribution tries models out"),
    ({"aggregation": FidelityWeighted(), "head": Personalised(CIRCUIT, ("core",))}, "FidelityWeighted compares"),
    ({"training": Training(rule=Ifca(2))}, "Ifca lets each client choose"),
    ({"training": Training(SeededDescent(lr=0.01))}, "SeededDescent trains what travels"),
])  # fmt: skip
def test_what_cannot_go_with_it_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        opposed(**{"head": OWN_READOUT} | changes).check()


@pytest.mark.parametrize("training", [
    Training(Sgd(lr=0.1), steps=2, rule=Scaffold()),
    Training(steps=2, privacy=LocalDp(sigma=1.0)),
], ids=["Scaffold", "LocalDp"])  # fmt: skip
def test_rules_and_privacy_that_look_at_what_travels_go_with_it(training, tmp_path):
    result = qfedfm.run(opposed(OWN_READOUT, training=training, rounds=2), tmp_path / "run", progress=False)
    assert result.finished
    assert len(result.client_models) == 6


def test_on_a_machine_every_row_is_run_once():
    one = made(opposed(Personalised(CIRCUIT), backend=Shots(20), data=planted(), rounds=1))
    (scores,) = measure([one])
    assert scores["evaluation"]["executions"] == len(one.split.validation) + len(one.split.test)
    assert scores["evaluation"]["shots"] == 20 * scores["evaluation"]["executions"]


def test_several_federations_at_once_are_measured_as_one_by_one():
    first = made(opposed(OWN_READOUT))
    other = replace(first, experiment=opposed(OWN_READOUT, seed=1))
    third = federate(other.experiment, first.prepared, first.model, run_id="test")
    assert measure([first, third]) == measure([first]) + measure([third])


def test_the_twin_is_personalised_too_and_stands_beside_the_shared_head(tmp_path):
    head = Personalised(CIRCUIT, ("core",))
    assert matched_classical(head) == Personalised(matched_classical(CIRCUIT), ("core",))
    arms = twins(opposed(head))
    assert list(arms) == ["quantum head", "matched classical head", "quantum head, all shared", "linear probe"]
    assert arms["quantum head, all shared"].head == CIRCUIT
    found = qfedfm.compare(opposed(Personalised(CIRCUIT), rounds=3), seeds=2, rates=[0.1],
                           directory=tmp_path / "compare", progress=False)  # fmt: skip
    assert (found.scores("quantum head") > found.scores("quantum head, all shared")).all()


def test_a_personalised_head_in_toml():
    declared = Experiment(head=Personalised(Variational("strongly_entangling", {"n": 3}), ("projection", "readout")))
    assert Experiment.from_toml(declared.to_toml()) == declared
    papers = qfedfm.cite(declared).entries
    assert "arivazhagan2019federated" in papers


def test_the_estimator_has_no_client_to_ask():
    points = arrays().dataset
    with pytest.raises(ConfigurationError, match="a model for each client"):
        FederatedClassifier(head=OWN_READOUT, clients=3).fit(points.items, points.labels)
