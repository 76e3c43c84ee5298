"""Callbacks: called in one order; one that fails is named and spoils nothing; early stopping; charts; MLflow."""

import json
import sys
from types import SimpleNamespace

import pytest
from tiny import experiment

import qfedfm as qf
from qfedfm.callbacks import Callbacks
from qfedfm.data import IID
from qfedfm.errors import ClientError, ConfigurationError
from qfedfm.federation import Clients


class Watcher:
    def __init__(self):
        self.seen = []

    def run_started(self, experiment, directory, rounds):
        self.seen.append(("run_started", [line["round"] for line in rounds]))

    def round_started(self, round):
        self.seen.append(("round_started", round))

    def client_failed(self, round, client, reason):
        self.seen.append(("client_failed", round, client))

    def round_ended(self, line):
        self.seen.append(("round_ended", line["round"]))

    def checkpoint(self, round, path):
        assert path.exists()
        self.seen.append(("checkpoint", round))

    def run_ended(self, reason):
        self.seen.append(("run_ended", reason))


def events(directory):
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def test_everything_is_called_in_order(tmp_path):
    watcher = Watcher()
    qf.run(experiment(), tmp_path / "run", callbacks=[watcher], progress=False)
    each = [[("round_started", n), ("round_ended", n), ("checkpoint", n)] for n in (1, 2)]
    assert watcher.seen == [("run_started", [0]), *each[0], *each[1], ("run_ended", None)]


def test_watching_changes_nothing_that_is_remembered(tmp_path):
    qf.run(experiment(), tmp_path / "watched", callbacks=[Watcher()], progress=False)
    qf.run(experiment(), tmp_path / "alone", progress=False)
    assert (tmp_path / "watched" / "rounds.jsonl").read_bytes() == (tmp_path / "alone" / "rounds.jsonl").read_bytes()


def test_a_callback_that_writes_into_a_record_changes_its_own(tmp_path):
    class Meddler:
        def round_ended(self, line):
            line["round"] = 99
            line["test"].clear()

    result = qf.run(experiment(), tmp_path / "run", callbacks=[Meddler()], progress=False)
    assert [line["round"] for line in result.rounds] == [0, 1, 2]
    assert all("accuracy" in line["test"] for line in result.rounds)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qf.EarlyStopping(patience="5"), "patience: expected at least one round; got '5'"),
        (lambda: qf.EarlyStopping(min_delta=None), "min_delta: expected 0 or more; got None"),
        (lambda: Callbacks(qf.EarlyStopping()), r"write callbacks=\[EarlyStopping\("),
    ],
)
def test_callbacks_of_a_wrong_kind_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def failing(client, round, delta):
    if client == "client-001" and round == 2:
        raise RuntimeError("on holiday")
    return delta


def test_failing_clients_are_told_excluded_or_not(tmp_path):
    watcher = Watcher()
    lenient = experiment(clients=Clients(count=3, partition=IID(), failing="exclude", quorum=2))
    qf.run(lenient, tmp_path / "lenient", callbacks=[watcher], intervene=failing, progress=False)
    assert ("client_failed", 2, "client-001") in watcher.seen
    strict = Watcher()
    with pytest.raises(ClientError):
        qf.run(experiment(), tmp_path / "strict", callbacks=[strict], intervene=failing, progress=False)
    assert strict.seen[-2] == ("client_failed", 2, "client-001")
    assert "on holiday" in strict.seen[-1][1]


def test_a_callback_that_fails_is_named_and_does_not_spoil_the_run(tmp_path):
    class Broken:
        calls = 0

        def round_ended(self, line):
            Broken.calls += 1
            raise ZeroDivisionError("oh")

    watcher = Watcher()
    with pytest.warns(RuntimeWarning, match=r"callback Broken failed in round_ended.*ZeroDivisionError: oh"):
        result = qf.run(experiment(), tmp_path / "run", callbacks=[Broken(), watcher], progress=False)
    assert result.finished
    assert Broken.calls == 1
    assert ("round_ended", 2) in watcher.seen
    (event,) = [e for e in events(result.directory) if e["event"] == "callback failed"]
    assert (event["callback"], event["during"]) == ("Broken", "round_ended")


@pytest.mark.parametrize("wrong", [Watcher, object(), "chart"])
def test_what_is_no_callback_is_refused_before_anything_runs(wrong, tmp_path):
    with pytest.raises(ConfigurationError, match="callbacks: expected objects"):
        qf.run(experiment(), tmp_path / "run", callbacks=[wrong], progress=False)
    assert not (tmp_path / "run").exists()


def line(round, loss):
    return {"round": round, "validation": {"loss": loss, "accuracy": -loss}, "test": {"loss": 0.0, "accuracy": 0.0}}


def test_early_stopping_by_hand():
    stop = qf.EarlyStopping(patience=2, min_delta=0.1)
    answers = [stop.round_ended(line(i, loss)) for i, loss in enumerate([1.0, 0.8, 0.75, 0.5, 0.45, 0.41])]
    assert answers[:5] == [None] * 5
    assert answers[5] == "no better validation loss for 2 rounds"
    higher = qf.EarlyStopping("accuracy", patience=1)
    assert higher.round_ended(line(0, 1.0)) is None
    assert higher.round_ended(line(1, 0.9)) is None
    assert higher.round_ended(line(2, 0.9)) is not None


def test_a_run_that_was_stopped_early_says_so_and_stays_stopped_when_resumed(tmp_path):
    def impatient():
        return qf.EarlyStopping("loss", patience=2, min_delta=10.0)

    result = qf.run(experiment(rounds=9), tmp_path / "run", callbacks=[impatient()], progress=False)
    assert [line["round"] for line in result.rounds] == [0, 1, 2]
    assert not result.finished
    assert events(result.directory)[-1]["reason"] == "no better validation loss for 2 rounds"
    again = qf.run(experiment(rounds=9), tmp_path / "run", resume=True, callbacks=[impatient()], progress=False)
    assert len(again.rounds) == 3
    whole = qf.run(experiment(rounds=9), tmp_path / "run", resume=True, progress=False)
    assert whole.finished


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"metric": "los"}, "did you mean 'loss'"), ({"part": "train"}, "part"), ({"patience": 0}, "patience")],
)
def test_early_stopping_refuses_nonsense(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        qf.EarlyStopping(**changes)


class Shown:
    def __init__(self):
        self.figures = []

    def update(self, figure):
        self.figures.append(figure)


@pytest.fixture
def notebook(monkeypatch):
    """Pretend to be the kernel of a notebook; return what is displayed."""
    import IPython
    import IPython.display

    shown = Shown()
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", lambda figure, display_id: shown.update(figure) or shown)
    assert "IPython" in sys.modules
    return shown


def test_a_live_chart_grows_and_stays(notebook, tmp_path):
    qf.run(experiment(), tmp_path / "run", callbacks=[qf.LiveChart("loss", every=0)], progress=False)
    axes = notebook.figures[-1].axes[0]
    assert len(notebook.figures) == 4  # at the start, after two rounds, at the end
    assert [len(drawn.get_xdata()) for drawn in axes.lines] == [3, 3]
    assert axes.get_xlabel() == "round (2 of 2)"


def test_a_notebook_has_a_chart_by_itself_and_nothing_else_has(notebook, tmp_path, monkeypatch, capsys):
    qf.run(experiment(), tmp_path / "run", progress=True)
    assert notebook.figures
    notebook.figures.clear()
    qf.run(experiment(), tmp_path / "quiet", progress=False)
    assert not notebook.figures
    monkeypatch.undo()
    qf.run(experiment(), tmp_path / "terminal", progress=True)
    assert not notebook.figures


def test_a_live_chart_of_an_unknown_metric_is_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'accuracy'"):
        qf.LiveChart("acuracy")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_mlflow_gets_parameters_metrics_and_files(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    uri = f"file:{tmp_path / 'mlruns'}"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    result = qf.run(experiment(), tmp_path / "run", callbacks=[qf.MlflowLogger(uri)], progress=False)
    client = mlflow.tracking.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert found.data.params["rounds"] == "2"
    assert found.data.metrics["test_accuracy"] == pytest.approx(result.rounds[-1]["test"]["accuracy"])
    history = client.get_metric_history(found.info.run_id, "bytes_up")
    assert [metric.step for metric in history] == [0, 1, 2]
    assert found.info.status == "FINISHED"
    assert "experiment.toml" in {file.path for file in client.list_artifacts(found.info.run_id)}


def test_mlflow_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(qf.QfedfmError, match=r"pip install 'qfedfm\[mlflow\]'"):
        qf.MlflowLogger()


def test_a_rule_with_too_few_clients_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigurationError, match="needs n >= 2f \\+ 3"):
        qf.run(experiment(aggregation=qf.aggregation.Krum(f=1)), tmp_path / "run", progress=False)
    wrapped = qf.aggregation.Bucketing(rule=qf.aggregation.Krum(f=1), size=2)
    with pytest.raises(ConfigurationError, match="got n = 2"):
        qf.run(experiment(aggregation=wrapped), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    assert Callbacks([]).call("round_started", 1) == []
