"""What notebooks show: an experiment by its differences, figures without pyplot."""

import numpy as np
import pennylane as qml
import pytest
from matplotlib.figure import Figure

import qfedfm as qf
from qfedfm.differences import code, differences
from qfedfm.figures import showing


def test_an_experiment_shows_what_differs_from_its_defaults():
    assert differences(qf.Experiment()) == {}
    changed = qf.Experiment(
        rounds=3,
        head=qf.heads.Variational("iqp", {"n": 3}),
        training=qf.Training(optimizer=qf.training.Adam(lr=0.1), steps=2),
        aggregation=qf.aggregation.Bucketing(rule=qf.aggregation.Krum(f=2)),
    )
    assert differences(changed) == {
        "head": "Variational(circuit='iqp', sizes={'n': 3})",
        "training": "Training(optimizer=Adam(lr=0.1), steps=2)",
        "aggregation": "Bucketing(rule=Krum(f=2))",
        "rounds": "3",
    }
    page = changed._repr_html_()
    assert "Adam(lr=0.1)" in page
    assert "batch_size" not in page


def test_what_shows_can_be_evaluated_again():
    for piece in (
        qf.Clients(count=4, partition=qf.IID()),
        qf.Training(epochs=3),
        qf.data.Sentiment(domains=("tweets",)),
    ):
        names = {**vars(qf.data), "Training": qf.Training, "Clients": qf.Clients, "IID": qf.IID}
        assert eval(code(piece), names) == piece


def test_arrays_and_functions_are_named_and_not_spelled_out():
    def circuit(x):
        qml.RX(x[0], wires=0)

    shown = differences(qf.Experiment(data=qf.data.from_arrays(np.zeros((30, 2)), [0, 1] * 15)))["data"]
    assert "items=<30 x 2 values>" in shown
    assert len(shown) < 200
    assert code(qf.heads.Variational(circuit, {"x": 1})) == "Variational(circuit=circuit, sizes={'x': 1})"


@pytest.mark.parametrize("figure", [showing(Figure()), qf.quantum.draw(qf.quantum.load("iqp", {"n": 2}))])
def test_a_figure_shows_itself_without_pyplot(figure):
    formatter = pytest.importorskip("IPython.core.formatters").PNGFormatter()
    shown = formatter(figure)
    data = shown if isinstance(shown, bytes) else shown[0]
    assert data.startswith(b"\x89PNG")
