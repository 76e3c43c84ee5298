"""Results: tables, plots, ledger, the model that predicts, and what they say of themselves."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from tiny import arrays, experiment

from qfedfm import Result, run
from qfedfm.data import Dirichlet, Natural, assign, from_arrays, split
from qfedfm.declaration import declared
from qfedfm.errors import ConfigurationError, DataError, RunError
from qfedfm.evidence import METRICS
from qfedfm.federation import Clients
from qfedfm.heads import Variational

OF_CLASSES = [name for name, kind in METRICS.items() if "classes" in kind.tasks]


@declared
class WordLengths:
    """A backbone for texts that needs no weights: number of letters, and of words."""

    def specs(self):
        return ()

    def fingerprint(self):
        return "word lengths"

    def embed(self, items, progress=True):
        return np.array([[len(text) / 10, len(text.split())] for text in items], dtype=np.float32)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return run(experiment(rounds=4), tmp_path_factory.mktemp("result") / "run", progress=False)


def test_one_row_a_round(result):
    frame = result.to_frame()
    assert list(frame.columns) == [
        "round",
        "train_loss",
        *(f"{part}_{name}" for part in ("validation", "test") for name in OF_CLASSES),
        "clients",
        "bytes",
    ]
    assert frame["round"].tolist() == [0, 1, 2, 3, 4]
    assert frame["clients"].tolist() == [0, 3, 3, 3, 3]
    assert np.isnan(frame["train_loss"][0])
    assert frame["train_loss"][1:].notna().all()


def test_the_ledger_totals_are_the_sums(result):
    ledger, frame = result.ledger, result.ledger.to_frame()
    totals = ledger.totals()
    assert len(ledger) == len(frame) == 4 * 3
    assert totals["rounds"] == 4
    for name in ("bytes_down", "bytes_up", "steps", "executions", "shots"):
        assert totals[name] == frame[name].sum()
    assert totals["key_bits"] == frame["key_bits_model"].sum() + frame["key_bits_update"].sum() == 2 * 12 * 256
    assert totals["bytes_down"] + totals["bytes_up"] == result.to_frame()["bytes"].sum()
    assert totals["executions"] == 0
    # a client passes once over its rows in batches of eight
    assert (frame["steps"] == np.ceil(frame["rows"] / 8)).all()


def test_a_quantum_head_counts_its_circuit_executions(tmp_path):
    quantum = run(experiment(head=Variational("angle_ring", {"n": 2}), rounds=1), tmp_path / "run", progress=False)
    frame = quantum.ledger.to_frame()
    assert frame["executions"].tolist() == frame["rows"].tolist()
    assert "exact simulation" in quantum.summary()["circuit executions"]
    assert quantum.summary()["parameters"] == "14 classical, 6 quantum"


def test_predictions_of_arrays(result):
    rows = arrays().dataset.items[:20]
    probabilities = result.model.predict_proba(rows)
    weight, bias = (result.params[name].double().numpy() for name in ("readout.weight", "readout.bias"))
    odds = np.exp(rows.astype(float) @ weight.T + bias)
    assert np.allclose(probabilities, odds / odds.sum(1, keepdims=True), atol=1e-6)
    assert result.model.predict(rows) == [("low", "high")[i] for i in odds.argmax(1)]
    assert result.model.predict(rows[:0]) == []
    assert result.model.predict_proba([]).shape == (0, 2)
    assert result.model.predict(rows.tolist()) == result.model.predict(pd.DataFrame(rows)) == result.model.predict(rows)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (np.zeros((2, 4)), ConfigurationError, "trained on 3 features a row; got 4"),
        (np.zeros(3), DataError, r"numbers \(rows, features\) or one text per row; got float64 \(3,\)"),
        ([[1.0, 2.0, 3.0], [4.0]], DataError, "rows of equal length"),
        ("a text", DataError, "one text per row"),
        (["a text"], ConfigurationError, "the items are texts"),
    ],
)
def test_what_the_model_cannot_predict_is_said(result, items, error, message):
    with pytest.raises(error, match=message):
        result.model.predict(items)


def test_predictions_of_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path / "cache"))
    short, long = [f"ok {i}" for i in range(40)], [f"a much longer sentence than the others {i}" for i in range(40)]
    data = from_arrays([*short, *long], ["short"] * 40 + ["long"] * 40)
    setting = experiment(data=data, backbone=WordLengths(), rounds=20)
    fitted = run(setting, tmp_path / "run", progress=False).model
    assert fitted.predict(["ok then", "this one is longer than all of the short ones"]) == ["short", "long"]
    assert fitted.predict_proba(("ok then",)).sum() == pytest.approx(1)


def test_saved_and_loaded_it_is_the_same(result, tmp_path):
    copy = Result.load(result.save(tmp_path / "copy"))
    assert copy.rounds == result.rounds
    assert copy.experiment.identity == result.experiment.identity
    assert copy.params.keys() == result.params.keys()
    assert all(torch.equal(copy.params[name], result.params[name]) for name in result.params)
    rows = arrays().dataset.items
    assert copy.model.predict(rows) == result.model.predict(rows)
    with pytest.raises(RunError, match="never overwritten"):
        result.save(tmp_path / "copy")


def test_a_directory_without_result_is_refused(result, tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        Result.load(tmp_path)
    begun = result.save(tmp_path / "begun")
    (begun / "checkpoint.safetensors").unlink()
    with pytest.raises(RunError, match="has no checkpoint yet: resume the run first"):
        Result.load(begun)


def test_what_it_says_of_itself(result):
    text, page = repr(result), result._repr_html_()
    assert "seed 3" in text
    assert "4 of 4" in text
    assert "(not QKD)" in text
    assert "no interval" in text
    final = result.rounds[-1]["test"]["accuracy"]
    assert f"{final:.3f}" in text
    assert f"{final:.3f}" in page
    HTMLParser().feed(page)


def test_the_worst_client_is_the_one_with_the_lowest_accuracy(result):
    table = result.per_client()
    worst = table.loc[table["accuracy"].idxmin()]
    assert result.summary()["worst client"].startswith(f"{worst['accuracy']:.3f} ({worst['client']}")


def test_hostile_names_stay_text(tmp_path):
    names = ["<script>alert(1)</script>" if i % 4 < 2 else "b&b" for i in range(90)]
    setting = experiment(data=arrays(clients=names), clients=Clients(partition=Natural()), rounds=1)
    made = run(setting, tmp_path / "run", progress=False)
    for page in (made._repr_html_(), (tmp_path / "run" / "report.html").read_text()):
        assert "<script" not in page
    assert "&lt;script&gt;" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("metric", [*OF_CLASSES, "train_loss", "validation_auroc", "test_accuracy"])
def test_plots_are_drawn_on_the_given_axes(result, metric):
    given = Figure().subplots()
    assert result.plot(metric, ax=given) is given
    (line,) = given.get_lines()
    frame = result.to_frame()
    column = f"test_{metric}" if metric in OF_CLASSES else metric
    assert np.allclose(line.get_ydata(), frame[column].dropna())
    assert given.get_title() == "one seed, no interval"


def test_an_unknown_metric_is_named(result):
    with pytest.raises(ConfigurationError, match=r"no metric 'acuracy' \(did you mean 'accuracy'\?\); known are"):
        result.plot("acuracy")


def test_the_partition_is_the_one_that_was_trained_on(tmp_path):
    data = from_arrays(np.random.default_rng(0).normal(size=(90, 2)), np.arange(90) % 2, clients=["x", "y", "z"] * 30)
    one = experiment(data=data, clients=Clients(count=4, partition=Dirichlet(alpha=2.0), min_rows=2), rounds=1)
    result = run(one, tmp_path / "run", progress=False)
    dataset = data.load()
    parts = split(dataset, one.seed, one.validation, one.test)
    dealt = assign(one.clients.partition, dataset, parts, 4, one.seed, 2)
    found = result.partition()
    assert (found.to_numpy() == dealt.table(dataset, parts).to_numpy()).all()
    assert found.columns.to_list() == dealt.table(dataset, parts).columns.to_list()
    assert found.sum().sum() == 90
    domains = result.partition("domains")
    assert (domains.T.groupby("part").sum().T == found.T.groupby("part").sum().T).all().all()
    assert domains.columns.unique(1).to_list() == ["x", "y", "z"]
    for ax in (Figure().subplots(), Figure().subplots()):
        assert result.plot_partition("domains", "test", ax=ax) is ax
        assert result.plot_clients("loss", ax=ax) is ax
    with pytest.raises(ConfigurationError, match="by is"):
        result.partition("rows")
    with pytest.raises(ConfigurationError, match="parts are train, validation, test"):
        result.plot_partition(part="all")
    with pytest.raises(ConfigurationError, match="did you mean 'loss'"):
        result.plot_clients("los")


def test_latex_has_every_metric_and_says_that_there_is_no_interval(result):
    text = result.to_latex(label="tab:run")
    assert text.count(r" \\") == 1 + len(OF_CLASSES)
    assert "no interval" in text
    assert r"\label{tab:run}" in text
    assert f"accuracy & {result.rounds[-1]['validation']['accuracy']:.4g} &" in text
    assert r"\caption{mine \& yours}" in result.to_latex("mine & yours")
