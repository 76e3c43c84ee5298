"""A federation as an estimator of scikit-learn: `FederatedClassifier().fit(X, y).predict(X)`.

For pipelines, grid searches and cross-validation (Buitinck et al. 2013, arXiv:1309.0238, has the contract). Everything
that happens is a run of an `Experiment`, which the fitted estimator holds. scikit-learn is imported here alone, when
this module is.
"""

import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .aggregation import Aggregator
from .assembly import bind, federate, prepare
from .backbones import Identity
from .data import IID, from_arrays
from .errors import ConfigurationError, MissingExtraError
from .experiment import Experiment
from .federation import Clients, Training, run_round
from .heads import Head
from .result import FittedModel
from .runs import run
from .seal import Seal
from .training import Adam

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError:  # said by the constructor, so that the package can be looked through without scikit-learn
    BaseEstimator, ClassifierMixin = type("BaseEstimator", (), {}), type("ClassifierMixin", (), {})

COUNT = 5
FEWEST = 4
"""Rows below which there is none left to train on."""


class FederatedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of numbers that is trained by a federation, in this process.

    head, training, aggregation, seal: as in `Experiment`; None takes its defaults, but for training Adam at 0.05, since
    few rows give few steps. clients: how many share the rows equally, or a `Clients`; None takes the names given to
    `fit`, or 5 without names. rounds: how many. validation: the share of rows that `fit` keeps from training for rules
    that judge updates (at least one row; one or two more are the run's test rows: scikit-learn tests elsewhere).
    random_state: an int is the experiment's seed; anything else of scikit-learn's draws one. directory: a folder where
    every `fit` leaves a run directory with its report; None leaves nothing.

    Features are not scaled and reach the head as float32: put a `StandardScaler` in front, in a pipeline, and remember
    that it sees the rows of all clients, which in a real federation would have to agree on means and variances.

    After `fit`: classes_, n_features_in_; experiment_, what was run; params_, the trained parameters by name; history_,
    the mean training loss of each round; directory_, of the run, or None.
    """

    def __init__(
        self,
        head: Head | None = None,
        *,
        clients: int | Clients | None = None,
        rounds: int = 30,
        training: Training | None = None,
        aggregation: Aggregator | None = None,
        seal: Seal | None = None,
        validation: float = 0.1,
        random_state: Any = None,
        directory: str | Path | None = None,
    ) -> None:
        if not BaseEstimator.__module__.startswith("sklearn"):
            raise MissingExtraError("scikit-learn", "sklearn", "FederatedClassifier")
        self.head = head
        self.clients = clients
        self.rounds = rounds
        self.training = training
        self.aggregation = aggregation
        self.seal = seal
        self.validation = validation
        self.random_state = random_state
        self.directory = directory

    def fit(self, X: ArrayLike, y: ArrayLike, clients: ArrayLike | None = None) -> "FederatedClassifier":
        """Train on rows X (rows, features) with labels y (rows,); clients: (rows,) names of whose each row is.

        Raises `ConfigurationError` (a ValueError) for rows that cannot be dealt out, and what `qf.run` raises.
        """
        from sklearn.utils import check_consistent_length
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import validate_data

        rows, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        if clients is not None:
            check_consistent_length(rows, clients)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ConfigurationError(
                f"FederatedClassifier needs at least 2 classes; got 1 class, {classes.tolist()[0]!r}"
            )
        if len(rows) < FEWEST:
            raise ConfigurationError(f"FederatedClassifier needs at least {FEWEST} rows; got n_samples={len(rows)}")
        experiment = self._experiment(rows, numbers, classes, clients)
        if experiment.head.bind(rows.shape[1], len(classes)).kept:
            raise ConfigurationError(
                "FederatedClassifier predicts rows of nobody in particular, and a personalised head has a model for "
                "each client and none for the others: use qf.run and result.client_models"
            )
        self.classes_, self.experiment_ = classes, experiment
        self.params_, self.history_, self.directory_ = self._train(experiment)
        return self

    def _experiment(
        self, X: np.ndarray, numbers: np.ndarray, classes: np.ndarray, clients: ArrayLike | None
    ) -> Experiment:
        """Return the experiment that `fit` runs."""
        data = from_arrays(X, numbers, clients, classes=[str(name) for name in classes.tolist()])
        one = 1.5 / np.unique(data.dataset.domains, return_counts=True)[1].max()  # at least a row of the largest domain
        given = {name: getattr(self, name) for name in ("head", "aggregation", "seal")}
        return Experiment(
            data=data,
            backbone=Identity(),
            clients=self._clients(clients is not None),
            training=Training(optimizer=Adam(lr=0.05)) if self.training is None else self.training,
            rounds=self.rounds,
            validation=max(self.validation, one),
            test=one,
            seed=self._seed(),
            **{name: piece for name, piece in given.items() if piece is not None},
        )

    def _clients(self, named: bool) -> Clients:
        if isinstance(self.clients, Clients):
            return self.clients
        if named:
            if self.clients is not None:
                raise ConfigurationError(
                    f"fit was given the clients' names, and clients={self.clients} deals the rows out anew: leave one "
                    "out, or divide each client with clients=qf.Clients(count=..., partition=qf.NaturalSplit())"
                )
            return Clients(min_rows=1)
        return Clients(count=COUNT if self.clients is None else self.clients, partition=IID(), min_rows=1)

    def _seed(self) -> int:
        from sklearn.utils import check_random_state

        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _train(self, experiment: Experiment) -> tuple[dict[str, Any], list[float], Path | None]:
        """Return parameters, mean training losses by round, and the run's directory if one was asked for."""
        if self.directory is not None:
            folder = Path(self.directory) / f"fit-{experiment.identity[:8]}-{secrets.token_hex(4)}"
            result = run(experiment, folder, progress=False)
            return result.params, [line["train_loss"] for line in result.rounds[1:]], folder
        experiment.check()
        prepared = prepare(experiment, progress=False)
        run_id = f"{experiment.identity[:16]}-{secrets.token_hex(8)}"
        federation = federate(experiment, prepared, bind(experiment, prepared), run_id=run_id)
        losses = [run_round(federation.server, federation.engine).train_loss for _ in range(experiment.rounds)]
        return federation.server.params, losses, None

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return each class's probability, (rows, classes) float64, in the order of `classes_`."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        experiment, names = self.experiment_, tuple(map(str, self.classes_.tolist()))
        model = experiment.head.bind(self.n_features_in_, len(names)).with_precision(experiment.precision)
        params = {spec.name: self.params_[spec.name] for spec in model.specs}
        return FittedModel(experiment.backbone, model, params, names, self.n_features_in_).predict_proba(X)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable class of each row, as it was in y."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])
