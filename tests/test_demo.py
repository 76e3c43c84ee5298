"""The demonstration: what it declares, what it compares, and once the whole of it, made small."""

from dataclasses import replace

import pytest

from qfedfm.backbones import MiniLM
from qfedfm.data import NaturalSplit, Sentiment
from qfedfm.demo import RATES, demo, experiment
from qfedfm.heads import Variational


def test_the_experiment_is_the_one_that_is_promised():
    setting = experiment()
    assert setting.data == Sentiment(per_domain=600)
    assert len(setting.data.domains) == 4
    assert setting.backbone == MiniLM()
    assert (setting.clients.count, setting.clients.partition) == (20, NaturalSplit())
    assert setting.rounds == 15
    assert isinstance(setting.head, Variational)
    setting.check()


def test_smoke_is_the_same_thing_made_small():
    small, whole = experiment(smoke=True), experiment()
    assert replace(small, data=whole.data, clients=whole.clients, rounds=whole.rounds) == whole
    assert small.data.per_domain < whole.data.per_domain
    assert small.clients.count < whole.clients.count


@pytest.mark.parametrize(("smoke", "seeds"), [(True, 2), (False, 10)])
def test_all_arms_are_compared_on_ten_seeds_or_two(monkeypatch, tmp_path, smoke, seeds):
    asked = {}
    monkeypatch.setattr("qfedfm.demo.compare", lambda setting, **options: asked.update(options, setting=setting))
    demo(smoke, tmp_path / "d", resume=True)
    assert asked == {
        "setting": experiment(smoke),
        "seeds": seeds,
        "rates": RATES,
        "directory": tmp_path / "d",
        "resume": True,
    }


@pytest.mark.slow
def test_made_small_it_runs_on_real_sentences(tmp_path):
    comparison = demo(smoke=True, directory=tmp_path / "demo")
    assert [arm.name for arm in comparison.arms] == ["quantum head", "matched classical head", "linear probe"]
    assert comparison.seeds == [1, 2]
    domains = {client.rpartition("-")[0] for client in comparison.clients()["client"]}
    assert domains == {"tweets", "movies", "products", "editorials"}
    assert comparison.scores("linear probe").mean() > 0.6  # with chance at one half; two rounds reach about .7
    assert comparison.verdict in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
