"""The estimator: scikit-learn's own checks, its tools around it, and the experiment inside."""

import pickle
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import qfedfm as qf
from qfedfm import Clients, Dirichlet, FederatedClassifier, Training, run
from qfedfm.aggregation import Krum
from qfedfm.errors import ConfigurationError, MissingExtraError
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.result import Result
from qfedfm.training import Adam, Sgd

IRIS = load_iris(return_X_y=True)
NAMES = np.array(["north", "east", "south"])[np.arange(150) % 3]


def small(**changes):
    """Return an estimator that trains in milliseconds."""
    given = {"rounds": 5, "training": Training(optimizer=Adam(lr=0.1)), "random_state": 0}
    return FederatedClassifier(**({"head": Linear()} | given | changes))


def test_scikit_learns_own_checks_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = check_estimator(small(clients=2), on_skip=None)  # raises at the first that fails; none is expected to
    assert len(found) > 40
    left = {one["check_name"] for one in found if one["status"] != "passed"}
    assert left <= {
        "check_array_api_input"
    }  # runs where SCIPY_ARRAY_API is set, and is about other arrays than NumPy's
    assert list(tmp_path.iterdir()) == []


def test_a_quantum_head_learns_irises_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), FederatedClassifier(random_state=0))
    scores = cross_val_score(pipeline, *IRIS, cv=3)
    assert scores.min() > 0.8  # a third by guessing; fifty rows a fold, so .8 is seven standard errors above it
    fitted = pipeline.fit(*IRIS)[-1]
    assert isinstance(fitted.experiment_.head, Variational)
    assert fitted.history_[-1] < fitted.history_[0]
    assert len(fitted.history_) == 30


def test_a_grid_search_clones_it_and_finds_the_better_rate():
    grid = {
        "training": [Training(optimizer=Sgd(lr=rate)) for rate in (1e-6, 0.3)],
        "head": [Linear(), Mlp(hidden=(4,))],
    }
    X, y = StandardScaler().fit_transform(IRIS[0]), IRIS[1]
    search = GridSearchCV(small(), grid, cv=2, error_score="raise").fit(X, y, clients=NAMES)
    assert search.best_params_["training"].optimizer.lr == 0.3
    assert search.best_estimator_.experiment_.clients.count is None  # the clients of each fold are its rows' own
    assert set(search.best_estimator_.experiment_.data.dataset.domains) == set(NAMES)


def test_it_is_the_experiment_that_it_says(tmp_path):
    fitted = small(clients=Clients(count=4, partition=Dirichlet(1.0)), aggregation=Krum(f=0), random_state=9).fit(*IRIS)
    assert fitted.experiment_.seed == 9
    assert fitted.experiment_.aggregation == Krum(f=0)
    result = run(fitted.experiment_, tmp_path / "run", progress=False)
    assert all((result.params[name] == tensor).all() for name, tensor in fitted.params_.items())
    assert fitted.history_ == [line["train_loss"] for line in result.rounds[1:]]
    X = IRIS[0].astype(np.float32)
    assert (fitted.predict_proba(X) == result.model.predict_proba(X)).all()
    assert fitted.predict(X).tolist() == [int(name) for name in result.model.predict(X)]


def test_all_rows_train_but_those_it_says():
    fitted = small(validation=0.2, clients=3).fit(*IRIS)
    split = qf.data.dataset.split(
        fitted.experiment_.data.dataset, 0, fitted.experiment_.validation, fitted.experiment_.test
    )
    assert len(split.validation) == 30
    assert len(split.test) in (1, 2)


def test_named_clients_are_the_clients():
    fitted = small().fit(*IRIS, clients=NAMES)
    assert set(fitted.experiment_.data.dataset.domains) == {"north", "east", "south"}
    with pytest.raises(ConfigurationError, match="leave one out"):
        small(clients=2).fit(*IRIS, clients=NAMES)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        small().fit(*IRIS, clients=NAMES[:-1])


def test_labels_come_back_as_they_were():
    X, y = IRIS
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    fitted = small().fit(X, words)
    assert fitted.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert set(fitted.predict(X)) <= set(words)
    assert small().fit(X, y.astype(float) + 0.0).predict(X).dtype == float
    assert fitted.predict_proba(X).sum(axis=1) == pytest.approx(1)
    assert fitted.score(X, words) == np.mean(fitted.predict(X) == words)


def test_a_directory_keeps_each_fit(tmp_path):
    estimator = small(directory=tmp_path, rounds=1, clients=2)
    first, second = estimator.fit(*IRIS).directory_, estimator.fit(*IRIS).directory_
    assert first != second
    assert (first / "report.html").exists()
    assert Result.load(first).experiment.identity == estimator.experiment_.identity
    assert small(rounds=1).fit(*IRIS).directory_ is None


def test_the_seed_follows_the_random_state():
    X, y = IRIS
    a, b, c = (small(random_state=state).fit(X, y).predict_proba(X) for state in (1, 1, 2))
    assert (a == b).all()
    assert not (a == c).all()
    draws = [small(rounds=1, random_state=np.random.RandomState(4)).fit(X, y).experiment_.seed for _ in range(2)]
    assert draws[0] == draws[1] > 9


def test_it_can_be_cloned_pickled_and_set():
    estimator = small(head=Variational("angle_ring", {"n": 2}), rounds=1)
    twin = clone(estimator).set_params(rounds=2)
    assert (estimator.rounds, twin.rounds, twin.head) == (1, 2, estimator.head)
    fitted = estimator.fit(*IRIS)
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301  (what was pickled here)
    assert (again.predict_proba(IRIS[0]) == fitted.predict_proba(IRIS[0])).all()
    with pytest.raises(NotFittedError):
        twin.predict(IRIS[0])


@pytest.mark.parametrize(
    ("rows", "labels", "changes", "expected"),
    [
        (IRIS[0][:9], [1] * 9, {}, "at least 2 classes; got 1 class, 1"),
        (IRIS[0][:3], [1, 2, 1], {}, "at least 4 rows; got n_samples=3"),
        (IRIS[0][:9], IRIS[0][:9, 0], {}, "Unknown label type"),
        (*IRIS, {"clients": 400}, "use fewer clients"),
        (*IRIS, {"rounds": 0}, "Experiment.rounds: input should be greater than or equal to 1"),
        (*IRIS, {"head": Linear}, "got the class Linear"),
        (*IRIS, {"clients": "five"}, "Clients.count: input should be a valid integer"),
        (*IRIS, {"validation": 1.0}, "Experiment.validation"),
    ],
)
def test_what_cannot_be_trained_is_a_value_error(rows, labels, changes, expected):
    with pytest.raises(ValueError, match=expected):
        small(**changes).fit(rows, labels)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    for name in ("sklearn", "sklearn.base"):
        monkeypatch.setitem(sys.modules, name, None)
    kept = sys.modules.pop("qfedfm.estimator")
    try:
        from qfedfm.estimator import FederatedClassifier as Without

        with pytest.raises(MissingExtraError, match=r"pip install 'qfedfm\[sklearn\]'"):
            Without()
    finally:
        sys.modules["qfedfm.estimator"] = kept
