"""A callback that logs a run to MLflow; the only module that imports it (extra `mlflow`, the package mlflow-skinny)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .callbacks import Line
from .errors import MissingExtraError
from .experiment import Experiment
from .records import EXPERIMENT, REPORT


class MlflowLogger:
    """Logs parameters, the metrics of every round, costs and the run's files.

    tracking_uri: of the tracking server, or a "sqlite:///..." address; None takes MLflow's own setting.
    experiment_name: in MLflow; None takes the experiment's name.
    """

    def __init__(self, tracking_uri: str | None = None, experiment_name: str | None = None) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise MissingExtraError("mlflow-skinny", "mlflow", "MlflowLogger") from None
        self._client: Any = MlflowClient(tracking_uri)
        self._name, self._run, self._directory = experiment_name, "", Path()

    def run_started(self, experiment: Experiment, directory: Path, rounds: Sequence[Line]) -> None:
        """Open a run with the experiment's values as parameters, and log the rounds that are there."""
        name = self._name or experiment.name
        known = self._client.get_experiment_by_name(name)
        number = known.experiment_id if known else self._client.create_experiment(name)
        run = self._client.create_run(number, run_name=directory.name)
        self._run, self._directory = run.info.run_id, directory
        import tomllib

        declared = tomllib.loads((directory / EXPERIMENT).read_text(encoding="utf-8"))
        for key, value in _flat(declared):
            self._client.log_param(self._run, key, str(value)[:6000])
        for line in rounds:
            self.round_ended(line)

    def round_ended(self, line: Line) -> None:
        """Log a round's metrics, bytes, circuits and shots."""
        numbers = {f"{part}_{name}": value for part in ("validation", "test") for name, value in line[part].items()}
        if "train_loss" in line:
            numbers["train_loss"] = line["train_loss"]
        for name in ("bytes_up", "bytes_down", "executions", "shots"):
            numbers[name] = sum(entry[name] for entry in line.get("ledger", ()))
        for name, value in numbers.items():
            if value is not None:
                self._client.log_metric(self._run, name, float(value), step=line["round"])

    def run_ended(self, reason: str | None) -> None:
        """Log the experiment file, and the report of a finished run, and close the run."""
        for file in (EXPERIMENT, REPORT):
            if (self._directory / file).exists():
                self._client.log_artifact(self._run, str(self._directory / file))
        if reason:
            self._client.set_tag(self._run, "ended", reason[:5000])
        self._client.set_terminated(self._run, "FINISHED" if reason is None else "KILLED")


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
