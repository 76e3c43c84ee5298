"""Metrics against scikit-learn, which computes them one set of rows at a time, and by hand."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from sklearn.exceptions import UndefinedMetricWarning

from qfedfm.evidence import METRICS, by_client, by_model, confusion, reliability, score, tables
from qfedfm.federation import Evaluation


def softmax(outputs):
    powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def by_scikit_learn(outputs, labels):
    share, guess = softmax(outputs), outputs.argmax(1)
    there, classes = np.unique(labels), outputs.shape[1]
    if len(there) < 2:
        auroc = math.nan
    elif classes == 2:
        auroc = sklearn.roc_auc_score(labels, share[:, 1])
    else:
        auroc = np.mean([sklearn.roc_auc_score(labels == one, share[:, one]) for one in there])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes that are not there
        balanced = sklearn.balanced_accuracy_score(labels, guess)
    return {
        "accuracy": sklearn.accuracy_score(labels, guess),
        "balanced_accuracy": balanced,
        "f1": sklearn.f1_score(labels, guess, average="macro"),
        "auroc": auroc,
        "brier": sklearn.brier_score_loss(labels, share, labels=range(classes), scale_by_half=False),
        "loss": sklearn.log_loss(labels, share, labels=range(classes)),
    }


@given(seed=st.integers(0, 2**32), classes=st.integers(2, 5), rows=st.integers(1, 80), coarse=st.booleans())
def test_all_metrics_of_classes_are_scikit_learns_for_every_segment_at_once(seed, classes, rows, coarse):
    generator = np.random.default_rng(seed)
    outputs = generator.normal(size=(rows, classes))
    outputs = outputs.round() if coarse else outputs  # coarse ones have many ties
    labels, segment = generator.integers(classes, size=rows), generator.integers(4, size=rows)
    losses = -np.log(softmax(outputs)[np.arange(rows), labels])
    found = score(outputs, labels, losses, segment, 4)
    assert set(found) == {name for name, kind in METRICS.items() if "classes" in kind.tasks}
    for one in range(4):
        mine = segment == one
        if not mine.any():
            assert all(np.isnan(values[one]) for values in found.values())
            continue
        for name, wanted in by_scikit_learn(outputs[mine], labels[mine]).items():
            assert found[name][one] == pytest.approx(wanted, abs=1e-9, nan_ok=True), name


def test_auroc_of_several_classes_is_scikit_learns_one_versus_rest():
    generator = np.random.default_rng(1)
    labels = np.arange(60) % 3
    outputs = generator.normal(size=(60, 3)) + np.eye(3)[labels]
    found = score(outputs, labels, np.ones(60), np.zeros(60, dtype=np.int64), 1)["auroc"][0]
    wanted = sklearn.roc_auc_score(labels, softmax(outputs), multi_class="ovr", average="macro")
    assert found == pytest.approx(wanted, abs=1e-12)


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 40))
def test_metrics_of_numbers_are_scikit_learns(seed, rows):
    generator = np.random.default_rng(seed)
    labels = generator.normal(5, 2, rows)
    outputs = (labels + generator.normal(size=rows))[:, None]
    segment = generator.integers(3, size=rows)
    found = score(outputs, labels, np.square(outputs[:, 0] - labels), segment, 3)
    assert set(found) == {name for name, kind in METRICS.items() if "numbers" in kind.tasks}
    for one in np.unique(segment):
        mine = segment == one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # of a single row
            r2 = sklearn.r2_score(labels[mine], outputs[mine, 0])
        assert found["rmse"][one] == pytest.approx(sklearn.root_mean_squared_error(labels[mine], outputs[mine, 0]))
        assert found["r2"][one] == pytest.approx(r2, rel=1e-6, abs=1e-6, nan_ok=True)


def logits(*confidences):
    """Return logits of two classes whose second one has these probabilities."""
    return np.array([[0.0, math.log(p / (1 - p))] for p in confidences])


def test_the_calibration_error_worked_by_hand():
    # confidences .9, .9, .9 (two right) and .6 (wrong): 3/4 |2/3 - .9| + 1/4 |0 - .6|
    outputs, labels, whole = logits(0.9, 0.9, 0.1, 0.6), np.array([1, 0, 0, 0]), np.zeros(4, dtype=np.int64)
    found = score(outputs, labels, np.zeros(4), whole, 1)
    assert found["ece"][0] == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.6)
    bins = reliability(outputs, labels, whole, 1)
    assert bins.rows[0].nonzero()[0].tolist() == [8, 13]  # .6 lies in (8/15, 9/15], .9 in (13/15, 14/15]
    assert bins.rows[0, [8, 13]].tolist() == [1, 3]
    assert bins.right[0, [8, 13]].tolist() == [0, 2]
    assert bins.confidence[0, [8, 13]].tolist() == pytest.approx([0.6, 2.7])


def test_confusion_worked_by_hand_for_two_models():
    outputs, labels = logits(0.9, 0.9, 0.1, 0.6), np.array([1, 0, 0, 0])
    found = confusion(outputs, labels, np.array([0, 0, 0, 1]), 2)
    assert found.tolist() == [[[1, 1], [0, 1]], [[0, 1], [0, 0]]]


def evaluations(sizes, classes=3):
    generator = np.random.default_rng(0)
    found = []
    for rows in sizes:
        outputs, labels = generator.normal(size=(rows, classes)), generator.integers(classes, size=rows)
        found.append(Evaluation(outputs, labels, -np.log(softmax(outputs)[np.arange(rows), labels])))
    return found


def test_models_and_clients_together_are_each_alone():
    many = evaluations([40, 7, 25])
    owners = [np.arange(len(one.labels)) % 3 for one in many]
    names = [["anna", "bert", "cleo", "nobody"]] * 3
    for i, one in enumerate(many):
        assert by_model(many)[i] == pytest.approx(by_model([one])[0])
        assert by_client(many, owners, names)[i] == {
            name: pytest.approx(
                {"rows": int(mine.sum())}
                | by_model([Evaluation(one.outputs[mine], one.labels[mine], one.losses[mine])])[0]
            )
            for name, mine in ((name, owners[i] == place) for place, name in enumerate(names[i]))
            if mine.any()
        }
        assert tables(many)[i] == tables([one])[0]


def test_what_a_clients_rows_do_not_define_is_none_and_not_a_number():
    one = Evaluation(logits(0.9, 0.4), np.array([1, 1]), np.array([0.1, 0.9]))
    (found,) = by_client([one], [np.array([0, 0])], [["anna"]])
    assert found["anna"]["auroc"] is None
    assert found["anna"]["accuracy"] == 0.5
    number = Evaluation(np.array([[1.0]]), np.array([3.0]), np.array([4.0]))
    (found,) = by_client([number], [np.array([0])], [["anna"]])
    assert found["anna"] == {"rows": 1, "loss": 4.0, "rmse": 2.0, "r2": None}
    assert tables([number]) == [{}]


def test_outputs_that_are_not_finite_leave_a_loss_that_says_so():
    broken = Evaluation(np.full((2, 2), np.nan), np.array([0, 1]), np.full(2, np.nan))
    (found,) = by_model([broken])
    assert math.isnan(found["loss"])
    assert found["brier"] is None
