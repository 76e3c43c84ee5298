"""The fairness frontier: measures by hand, and a federation in which q-FFL lifts the clients that the mean leaves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from tiny import experiment

import qfedfm
from qfedfm.aggregation import AngularMean, QFedAvg
from qfedfm.client_rules import Scaffold
from qfedfm.data import from_arrays
from qfedfm.errors import ConfigurationError
from qfedfm.evidence import fairness
from qfedfm.federation import Clients, Training
from qfedfm.training import Sgd
from qfedfm.trust import frontier


def test_fairness_by_hand():
    # twelve clients: a tenth of them is two
    values = [0.5, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.3, 1.0]
    of = fairness(values)
    assert of.mean == pytest.approx(9.1 / 12)
    assert of.spread == pytest.approx(np.sqrt(np.mean((np.array(values) - 9.1 / 12) ** 2)))
    assert (of.worst_decile, of.best_decile, of.worst) == pytest.approx((0.4, 0.95, 0.3))
    losses = fairness(values, higher_is_better=False)
    assert (losses.worst_decile, losses.worst) == pytest.approx((0.95, 1.0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_worst_is_below_the_worst_decile_below_the_mean_below_the_best(values):
    of = fairness(values)
    assert of.worst <= of.worst_decile + 1e-12
    assert of.worst_decile <= of.mean + 1e-12 <= of.best_decile + 2e-12


@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [[0.1]]])
def test_a_client_without_a_value_is_no_client(values):
    with pytest.raises(ConfigurationError, match="one finite value for each"):
        fairness(values)


def unequal():
    """Nine clients follow one rule and one follows its opposite on its own half of the line."""
    rng = np.random.default_rng(3)
    client = np.arange(600) % 10
    odd = client == 9
    points = rng.normal(size=(600, 2)) + np.array([0, 1.5])[None] * odd[:, None]
    labels = np.where(odd, points[:, 0] < 0, points[:, 0] > 0).astype(int)
    return experiment(
        data=from_arrays(points, labels, clients=[f"c{i}" for i in client]),
        clients=Clients(),
        training=Training(Sgd(lr=0.3), batch_size=60),
        rounds=30,
    )


def test_q_pays_the_client_served_worst_and_others_pay_for_it():
    found = frontier(unequal(), {"mean": AngularMean(), "q = 5": QFedAvg(q=5.0, lr=0.3)}, seeds=2, progress=False)
    assert len(found.frame) == 2 * 2 * 10
    accuracy, loss = (found.table(metric).set_index("rule") for metric in ("accuracy", "loss"))
    assert loss.loc["q = 5", "worst"] < 0.7 * loss.loc["mean", "worst"]
    assert accuracy.loc["q = 5", "best_decile"] <= accuracy.loc["mean", "best_decile"]
    assert loss.loc["q = 5", "mean"] != loss.loc["mean", "mean"]
    ax = found.plot("loss", Figure().subplots())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mean", "q = 5"]
    points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    assert [line.get_ydata()[0] for line in points] == pytest.approx(list(loss["worst_decile"]))
    curves = found.plot_clients(ax=Figure().subplots()).get_lines()
    assert [len(line.get_ydata()) for line in curves] == [10, 10]
    assert all((np.diff(line.get_ydata()) >= 0).all() for line in curves)
    assert "worst_decile" in repr(found)


def test_a_cell_is_what_a_run_of_its_own_gives(tmp_path):
    short = replace(unequal(), rounds=2)
    found = frontier(short, {"mean": AngularMean()}, seeds=1, progress=False)
    result = qfedfm.run(replace(short, aggregation=AngularMean()), tmp_path / "run", progress=False)
    assert found.frame["accuracy"].tolist() == result.per_client()["accuracy"].tolist()


def test_the_default_is_q_ffl_and_what_cannot_run_is_refused():
    assert set(frontier(replace(unequal(), rounds=1), seeds=1, progress=False).frame["rule"]) == {
        "q = 0", "q = 0.1", "q = 1", "q = 2", "q = 5",
    }  # fmt: skip
    controlled = replace(unequal(), training=replace(unequal().training, rule=Scaffold()))
    with pytest.raises(ConfigurationError, match="Scaffold needs aggregation"):
        frontier(controlled, seeds=1, progress=False)
    with pytest.raises(ConfigurationError, match="at least one rule"):
        frontier(unequal(), {}, progress=False)
