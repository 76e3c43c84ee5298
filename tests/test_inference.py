"""Predictions on a machine: rows stop when they are decided, and are decided rightly as often as promised."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import experiment

import qfedfm as qf
from qfedfm.aggregation import Mean
from qfedfm.backends import Exact, Mitigated, Session, Shots
from qfedfm.client_rules import Ifca, Scaffold
from qfedfm.errors import ConfigurationError, DataError
from qfedfm.heads import Linear, Variational
from qfedfm.inference import _looks, client_models, predict
from qfedfm.training import Adam, Sgd

HEAD = Variational("strongly_entangling", {"n": 3, "layers": 1})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return qf.run(experiment(head=HEAD, rounds=4), tmp_path_factory.mktemp("inference") / "run", progress=False)


@pytest.fixture(scope="module")
def items():
    return np.random.default_rng(2).normal(size=(400, 3)) * 1.5 + 0.75


def test_without_confidence_every_row_takes_all_shots(trained, items):
    found = predict(trained.model, items[:20], Shots(256), confidence=None)
    settings = 1  # <Z> on every wire
    assert found.shots.tolist() == [256 * settings] * 20
    assert found.saved == 0
    assert not found.decided.any()


def test_shots_of_a_readout_calibration_are_no_rows(trained, items):
    found = predict(trained.model, items[:1], Mitigated(Shots(256)), confidence=None)
    assert (found.shots.tolist(), found.full) == ([256], 256)


def test_many_shots_come_to_the_exact_probabilities(trained, items):
    found = predict(trained.model, items[:50], Shots(2_000_000), confidence=None)
    # an output moves by at most |weights| sd(values), with sd below 1 / sqrt(shots); 5 sigma
    bound = 5 * float(trained.model.params["readout.weight"].abs().sum()) / np.sqrt(2_000_000)
    assert np.abs(found.probabilities - trained.model.predict_proba(items[:50])).max() < bound


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_decided_rows_have_the_exact_class_as_often_as_promised(trained, items, confidence):
    """400 rows x 5 seeds: at a true rate of 1 - confidence more than 1.5 times that is beyond 4 sigma."""
    exact = np.array(trained.model.predict(items))
    wrong = decided = shots = 0
    for seed in range(5):
        found = predict(trained.model, items, Shots(2048), confidence=confidence, session=Session(seed))
        wrong += int((np.array(found.labels) != exact)[found.decided].sum())
        decided += int(found.decided.sum())
        shots += int(found.shots.sum())
        assert (found.shots[~found.decided] == found.full).all()
    assert decided > 1000
    assert wrong <= 1.5 * (1 - confidence) * decided
    assert shots < 0.6 * 5 * 400 * 2048


def test_less_confidence_takes_fewer_shots(trained, items):
    spent = [predict(trained.model, items, Shots(4096), confidence=c).shots.sum() for c in (0.6, 0.9, 0.999)]
    assert spent[0] < spent[1] < spent[2]


def test_rows_a_twin_is_sure_of_never_reach_the_machine(trained, items, tmp_path):
    twin = qf.run(experiment(head=Linear(), rounds=20), tmp_path / "twin", progress=False).model
    sure = twin.predict_proba(items).max(1) >= 0.8
    assert 0 < sure.sum() < len(items)
    found = predict(trained.model, items, Shots(512), twin=twin, sure=0.8)
    assert (found.by_twin == sure).all()
    assert (found.shots[sure] == 0).all()
    assert (found.shots[~sure] > 0).all()
    assert [a for a, s in zip(found.labels, sure, strict=True) if s] == [
        a for a, s in zip(twin.predict(items), sure, strict=True) if s
    ]
    assert "by the classical twin" in repr(found)


def test_an_ensemble_of_the_clients_shares_one_budget_and_averages_outputs(trained, items):
    members = client_models(trained)
    assert sorted(members) == ["client-000", "client-001", "client-002"]
    assert len({float(m.params["readout.bias"][0]) for m in members.values()}) == 3
    found = predict(list(members.values()), items[:60], Shots(3 * 400_000), confidence=None)
    assert found.shots.tolist() == [3 * 400_000] * 60
    features = torch.as_tensor(items[:60], dtype=torch.float32)[None]
    outputs = [m.model.apply({n: p[None] for n, p in m.params.items()}, features)[0] for m in members.values()]
    expected = torch.softmax(torch.stack(outputs).mean(0).double(), -1).numpy()
    assert np.abs(found.probabilities - expected).max() < 0.01


@pytest.mark.parametrize(
    "training",
    [
        qf.Training(optimizer=Adam(lr=0.05), batch_size=8),
        qf.Training(optimizer=Adam(lr=0.05), batch_size=8, keep_state=True),
        qf.Training(optimizer=Sgd(lr=0.05), batch_size=8, rule=Scaffold()),
    ],
    ids=["plain", "an optimiser that remembers", "a rule with control variates"],
)
def test_a_client_alone_trains_as_it_does_in_the_run(training, tmp_path):
    """The model after one more round, by aggregation of the only client's model."""
    alone = experiment(
        head=HEAD, clients=qf.Clients(count=1, partition=qf.IID()), training=training, aggregation=Mean(), rounds=1
    )
    short = qf.run(alone, tmp_path / "short", progress=False)
    long = qf.run(replace(alone, rounds=2), tmp_path / "long", progress=False)
    (member,) = client_models(short).values()
    for name, tensor in member.params.items():
        assert (tensor - long.params[name]).abs().max() < 1e-5


def test_clients_of_a_clustered_federation_go_on_from_the_model_that_fits(tmp_path):
    training = qf.Training(optimizer=Adam(lr=1e-9), batch_size=8, rule=Ifca())
    result = qf.run(experiment(head=HEAD, training=training), tmp_path / "run", progress=False)
    for client, member in client_models(result).items():
        chosen = result.models[result.rounds[-1]["clusters"][client]]
        for name, tensor in member.params.items():
            assert (tensor - chosen.params[name]).abs().max() < 1e-5


def test_looks_double_up_to_the_budget():
    assert _looks(1024, 1, None, 0.9) == [32, 64, 128, 256, 512, 1024]
    assert _looks(1000, 1, 100, 0.9) == [100, 200, 400, 800, 1000]
    assert _looks(10, 1, None, 0.9) == [10]
    assert _looks(64, 2, None, None) == [64]


def test_the_result_reads_well(trained, items):
    truth = trained.model.predict(items)
    found = predict(trained.model, items, Shots(512))
    assert found.accuracy(truth) > 0.9
    assert list(found.to_frame().columns) == ["class", "probability", "shots", "decided", "by_twin"]
    assert "fewer than 512 a row" in found._repr_html_()
    with pytest.raises(ConfigurationError, match="expected 400 true classes; got 3"):
        found.accuracy(truth[:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": Exact()}, "predict\\(shots=\\) is needed"),
        ({"confidence": 1.0}, "confidence: expected"),
        ({"sure": 0.0}, "sure: expected"),
        ({"model": []}, "got none"),
        ({"model": {"client-000": None}}, "expected a model such as result.model, or a list of them.*got dict"),
        ({"model": None}, "got NoneType"),
        ({"shots": 10.5}, "shots: expected"),
        ({"first": 0}, "first: expected one shot or more"),
    ],
)
def test_wrong_arguments_are_refused(trained, items, changes, message):
    given = {"model": trained.model, "backend": Shots(10)} | changes
    with pytest.raises(ConfigurationError, match=message):
        predict(given.pop("model"), items, given.pop("backend"), **given)


def test_rows_that_the_model_cannot_read_are_refused(trained, items):
    with pytest.raises(ConfigurationError, match="trained on 3 features a row; got 2"):
        predict(trained.model, items[:, :2], Shots(10))
    with pytest.raises(DataError, match="finite"):
        predict(trained.model, np.full((2, 3), np.nan), Shots(10))


def test_a_model_of_numbers_decides_nothing(tmp_path):
    points = np.random.default_rng(4).normal(size=(60, 3))
    numbers = experiment(head=HEAD, data=qf.data.from_arrays(points, points[:, 0], task="numbers"), rounds=1)
    with pytest.raises(ConfigurationError, match="this model predicts numbers"):
        predict(qf.run(numbers, tmp_path / "run", progress=False).model, points, Shots(10))


def test_classical_models_and_mixed_ensembles_are_refused(trained, items, tmp_path):
    linear = qf.run(experiment(head=Linear(), rounds=1), tmp_path / "linear", progress=False).model
    with pytest.raises(ConfigurationError, match="head with a circuit"):
        predict(linear, items, Shots(10))
    with pytest.raises(ConfigurationError, match="same head and classes"):
        predict([trained.model, linear], items, Shots(10))
    with pytest.raises(ConfigurationError, match="classical model"):
        predict(trained.model, items, Shots(10), twin=trained.model)
