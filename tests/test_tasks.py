"""Tasks of many classes and of numbers, from declaration to report; and class weights."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import confusion_matrix, root_mean_squared_error
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from qfedfm import Clients, Dirichlet, Experiment, Training, compare, run
from qfedfm.attacks import Adversary, LabelFlip, SignFlip
from qfedfm.data import Digits, QuantitySkew, Shards, assign, from_arrays, from_csv, split
from qfedfm.errors import ConfigurationError, DataError, RunError
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.heads.losses import balanced_weights, row_losses
from qfedfm.params import stack
from qfedfm.privacy import DpSgd, per_example_gradients
from qfedfm.training import Adam, Lane, Sgd, train_cohort
from qfedfm.trust import membership_audit, stress


def numbers(rows=120, noise=0.1, **columns):
    """Return points of three features, and numbers that are linear in them."""
    generator = np.random.default_rng(2)
    points = generator.normal(size=(rows, 3))
    labels = points @ [1.0, -2.0, 0.5] + 1 + noise * generator.normal(size=rows)
    return from_arrays(points, labels, task="numbers", **columns)


def regression(**changes):
    return tiny.experiment(**({"data": numbers(), "training": Training(optimizer=Adam(lr=0.05), epochs=3)} | changes))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    experiment = tiny.experiment(
        data=Digits(), clients=Clients(count=8, partition=Shards(3)), rounds=4, training=Training(Adam(lr=0.05))
    )
    return run(experiment, tmp_path_factory.mktemp("digits") / "run", progress=False)


def test_digits_are_told_apart_and_their_confusion_is_scikit_learns(digits):
    dataset, experiment = Digits().load(), digits.experiment
    test = split(dataset, experiment.seed, experiment.validation, experiment.test).test
    guesses = [int(name) for name in digits.model.predict(dataset.items[test])]
    table = digits.confusion()
    assert (table.to_numpy() == confusion_matrix(dataset.labels[test], guesses)).all()
    assert list(table.columns) == list("0123456789")
    accuracy = np.trace(table.to_numpy()) / len(test)
    assert accuracy == pytest.approx(digits.rounds[-1]["test"]["accuracy"])
    assert accuracy > 0.7  # guessing has .1
    assert digits.confusion(0).to_numpy().sum() == len(test)
    with pytest.raises(ConfigurationError, match="rounds are 0 to 4, or -1 for the last; got 5"):
        digits.confusion(5)


def test_reliability_holds_the_calibration_error(digits):
    bins = digits.reliability()
    some = bins[bins["rows"] > 0]
    error = (some["rows"] * (some["accuracy"] - some["confidence"]).abs()).sum() / bins["rows"].sum()
    assert error == pytest.approx(digits.rounds[-1]["test"]["ece"])
    assert ((some["confidence"] > some["low"]) & (some["confidence"] <= some["high"] + 1e-12)).all()


def test_each_client_has_every_metric(digits):
    clients = digits.per_client()
    assert list(clients.columns) == [
        "client", "rows", "accuracy", "loss", "balanced_accuracy", "f1", "auroc", "ece", "brier"
    ]  # fmt: skip
    assert clients["rows"].sum() == digits.confusion().to_numpy().sum()


def test_a_federation_learns_numbers_as_least_squares_does(tmp_path):
    experiment = regression(rounds=12, precision="float64")
    result = run(experiment, tmp_path / "run", progress=False)
    dataset = experiment.data.load()
    parts = split(dataset, experiment.seed, experiment.validation, experiment.test)
    fitted = LinearRegression().fit(dataset.items[parts.train], dataset.labels[parts.train])
    best = root_mean_squared_error(dataset.labels[parts.test], fitted.predict(dataset.items[parts.test]))
    predicted = result.model.predict(dataset.items[parts.test])
    rmse = root_mean_squared_error(dataset.labels[parts.test], predicted)
    assert rmse == pytest.approx(result.rounds[-1]["test"]["rmse"], rel=1e-9)
    assert rmse < 1.3 * best
    assert result.rounds[-1]["test"]["r2"] > 0.98
    assert result.summary()["test RMSE"].startswith(f"{rmse:.3f}")
    assert "root mean squared error" in (tmp_path / "run" / "report.html").read_text()
    assert run(experiment, tmp_path / "run", resume=True).task == "numbers"
    for refused in (result.confusion, result.reliability, lambda: result.model.predict_proba(dataset.items)):
        with pytest.raises(ConfigurationError, match="predicts numbers"):
            refused()


@pytest.mark.parametrize("head", [Linear(), Mlp((4,)), Variational("angle_ring", {"n": 2})])
def test_every_head_predicts_numbers(head, tmp_path):
    result = run(regression(head=head, rounds=1), tmp_path / "run", progress=False)
    assert np.isfinite(result.rounds[-1]["test"]["rmse"])


def test_the_squared_error_is_that_of_torch():
    outputs, labels = torch.randn(3, 5, 1), torch.randn(3, 5)
    wanted = torch.nn.functional.mse_loss(outputs[..., 0], labels, reduction="none")
    assert torch.equal(row_losses(outputs, labels), wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": Clients(count=3, partition=Dirichlet(alpha=1.0))}, "Dirichlet.* needs classes: use IID"),
        ({"training": Training(class_weights="balanced")}, "class_weights need classes"),
        ({"adversary": Adversary(LabelFlip())}, "LabelFlip.* changes labels, and needs classes"),
    ],
)
def test_what_needs_classes_is_refused_for_numbers(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        regression(**changes).check()


def test_what_needs_classes_is_refused_where_only_the_data_tell(tmp_path):
    dataset = numbers().load()
    with pytest.raises(ConfigurationError, match=r"Dirichlet.* needs classes, and the labels of 'arrays' are numbers"):
        assign(Dirichlet(alpha=1.0), dataset, split(dataset, 0), 3, 0)
    with pytest.raises(ConfigurationError, match="stress, which measures accuracy, needs classes"):
        stress(regression(), {"flip": SignFlip()}, {"mean": tiny.experiment().aggregation}, seeds=1, progress=False)
    with pytest.raises(ConfigurationError, match="membership_audit reads the probability of a row's class"):
        membership_audit(Linear(), torch.randn(20, 3), torch.randn(20))
    with pytest.raises(ConfigurationError, match=r"class_weights=.* needs classes"):
        Training(class_weights=(1.0, 2.0)).weights(torch.randn(4), 0)


def test_numbers_survive_saving_and_tables(tmp_path):
    experiment = regression(name="numbers")
    experiment.save(tmp_path)
    assert Experiment.load(tmp_path / "experiment.toml").data.load() == experiment.data.load()
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,0.5\n3,4,1.5\n5,6,-1\n")
    dataset = from_csv(tmp_path / "rows.csv", ("a", "b"), "y", task="numbers").load()
    assert dataset.labels.tolist() == [0.5, 1.5, -1.0]
    assert dataset.classes == ()
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,low\n")
    with pytest.raises(DataError, match="line 2: column 'y' must hold numbers; got 'low'"):
        from_csv(tmp_path / "rows.csv", ("a", "b"), "y", task="numbers").load()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0, 1.0, 1.0], "numbers to be predicted must differ"),
        ([1.0, np.nan, 2.0], "labels must be finite; row 1 has nan"),
        (["a", "b", "c"], "labels must be one number for each row"),
    ],
)
def test_labels_that_are_no_numbers_to_predict_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        from_arrays(np.zeros((3, 1)), labels, task="numbers")


def test_a_partition_of_numbers_counts_rows():
    dataset = numbers().load()
    parts = split(dataset, 0)
    table = assign(Shards(2), dataset, parts, 4, 0, min_rows=3).table(dataset, parts)
    assert table.to_numpy().sum() == 120
    assert list(table.columns) == [("train", "rows"), ("validation", "rows"), ("test", "rows")]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_balanced_weights_are_scikit_learns(labels):
    found = balanced_weights(torch.tensor(labels), 5)
    there = np.unique(labels)
    assert np.allclose(found[there], compute_class_weight("balanced", classes=there, y=labels))
    assert found[torch.tensor(labels)].mean() == pytest.approx(1)
    assert float(found.sum()) == pytest.approx(float(found[there].sum()))


def weighted(privacy=None):
    """Take one full step of two clients with class weights of their own; return model, weights, before and after."""
    model = Linear().bind(3, 2).with_precision("float64")
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0] * 5 + [1] + [1] * 4 + [0] * 2)
    before = stack([model.init(0), model.init(1)])
    rows = [np.arange(6), np.arange(6, 12)]
    weights = torch.stack([balanced_weights(labels[some], 2) for some in rows])
    lanes = [Lane(some, np.random.default_rng(0), Sgd(lr=0.1), np.random.default_rng(1)) for some in rows]
    after = train_cohort(
        model, before, table, labels, lanes, batch_size=6, class_weights=weights, privacy=privacy
    )  # fmt: skip
    return model, table, labels, rows, weights, before, after


def test_a_weighted_step_is_that_of_torchs_weighted_loss():
    model, table, labels, rows, weights, before, after = weighted()
    for client, mine in enumerate(rows):
        leaves = {name: tensor[client : client + 1].clone().requires_grad_() for name, tensor in before.items()}
        outputs = model.apply(leaves, table[mine].unsqueeze(0))[0]
        loss = cross_entropy(outputs, labels[mine], weight=weights[client], reduction="sum") / len(mine)
        loss.backward()
        assert float(after.loss[client]) == pytest.approx(loss.item(), abs=1e-12)
        for name, leaf in leaves.items():
            wanted = leaf.detach()[0] - 0.1 * leaf.grad[0]
            assert torch.allclose(after.params[name][client], wanted, rtol=0, atol=1e-12)


def test_private_training_without_noise_or_clipping_is_the_same_weighted_step():
    plain, private = weighted()[-1], weighted(DpSgd(clip=1e6, sigma=1e-12, sampling="permutation"))[-1]
    for name, tensor in plain.params.items():
        assert torch.allclose(private.params[name], tensor, rtol=0, atol=1e-5)


def test_per_example_gradients_are_weighted_row_by_row():
    model = Linear().bind(3, 2).with_precision("float64")
    params, features = stack([model.init(0)]), torch.randn(1, 2, 3, dtype=torch.float64)
    labels, weights = torch.tensor([[0, 1]]), torch.tensor([[2.0, 0.5]], dtype=torch.float64)
    names = list(params)
    losses, each = per_example_gradients(model, params, features, labels, names)
    heavier, more = per_example_gradients(model, params, features, labels, names, weights)
    assert torch.allclose(heavier, weights * losses)
    assert torch.allclose(more["readout.bias"], weights.unsqueeze(-1) * each["readout.bias"])


def test_balanced_weights_help_the_rare_class(tmp_path):
    labels = (np.arange(200) % 10 == 0).astype(int)
    points = np.random.default_rng(0).normal(size=(200, 3)) + labels[:, None]
    rare = tiny.experiment(data=from_arrays(points, labels), rounds=6)
    scores = {}
    for weights in ("none", "balanced", (1.0, 9.0)):
        moved = replace(rare, training=replace(rare.training, class_weights=weights), name=f"w{len(scores)}")
        scores[weights] = run(moved, tmp_path / moved.name, progress=False).rounds[-1]["test"]["balanced_accuracy"]
    assert scores["balanced"] > scores["none"] + 0.1
    assert scores[1.0, 9.0] > scores["none"] + 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"class_weights": "balanced", "privacy": DpSgd()}, "counts of its classes are private"),
        ({"class_weights": (0.0, 0.0)}, "not all zero"),
        ({"class_weights": (1.0, -1.0)}, "greater than or equal to 0"),
        ({"class_weights": "balnced"}, "balnced"),
    ],
)
def test_class_weights_that_cannot_be_are_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        Training(**given)


def test_a_weight_for_each_class_is_needed_before_the_run_begins(tmp_path):
    wrong = tiny.experiment(training=Training(class_weights=(1.0, 2.0, 3.0)))
    with pytest.raises(ConfigurationError, match="one weight for each of the 2 classes; got 3"):
        run(wrong, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("metric", ["auroc", "ece", "f1"])
def test_arms_are_compared_by_any_metric_of_their_task(metric, tmp_path):
    arms = {"linear": tiny.experiment(), "mlp": tiny.experiment(head=Mlp((3,)))}
    chosen = {"seeds": 2, "rates": (0.05,), "metric": metric, "progress": False}
    done = compare(arms["linear"], arms, directory=tmp_path / "c", **chosen)
    label = {"auroc": "AUROC", "ece": "expected calibration error", "f1": "macro F1"}[metric]
    assert f" in {label}" in done.verdict
    assert f"test {label}" in done.table()
    assert f"test_{metric}" in done.to_frame()
    assert done.clients().shape == (3, 3)
    assert done.plot_differences().get_xlabel().endswith(f"test {label}{'' if metric == 'auroc' else ', points'}")


def test_numbers_are_compared_by_their_error(tmp_path):
    arms = {"linear": regression(), "mlp": regression(head=Mlp((3,)))}
    done = compare(
        arms["linear"], arms, seeds=2, rates=(0.01, 0.1), metric="rmse", margin=0.1, directory=tmp_path / "c",
        progress=False
    )  # fmt: skip
    assert " in RMSE" in done.verdict
    chosen = done.arms[0].chosen("rmse")
    for seed, trial in chosen.items():
        rivals = [t.score("rmse", "validation") for t in done.arms[0].trials if t.seed == seed]
        assert trial.score("rmse", "validation") == min(rivals)
    with pytest.raises(RunError, match="f1 is no metric of this task; it has loss, rmse, r2"):
        chosen[3].score("f1", "test")


@pytest.mark.parametrize(
    ("base", "metric", "message"),
    [
        (regression(), "accuracy", "numbers to be predicted, and 'accuracy' does not judge those; use loss, rmse, r2"),
        (tiny.experiment(), "rmse", "classes to be told apart, and 'rmse' does not judge those; use accuracy, loss"),
    ],
)
def test_a_metric_of_another_task_is_refused_before_anything_is_trained(base, metric, message, tmp_path):
    arms = {"a": base, "b": replace(base, head=Mlp((3,)))}
    with pytest.raises(ConfigurationError, match=message):
        compare(base, arms, seeds=2, metric=metric, directory=tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


def test_a_score_that_its_rows_do_not_define_is_no_figure(tmp_path):
    one_positive = from_arrays(np.arange(20.0)[:, None], [0] * 19 + [1])
    clients = Clients(count=2, min_rows=2, partition=QuantitySkew(alpha=5.0))
    base = tiny.experiment(data=one_positive, clients=clients)
    seed = next(s for s in range(20) if 19 in split(base.data.load(), s).train)
    arms = {"a": replace(base, seed=seed), "b": replace(base, seed=seed, head=Mlp((3,)))}
    with pytest.raises(RunError, match=f"AUROC is not defined on the test rows of seed {seed}"):
        compare(arms["a"], arms, seeds=1, metric="auroc", rates=(0.1,), directory=tmp_path / "c", progress=False)
