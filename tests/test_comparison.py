"""Comparisons: fair arms, rates chosen on validation rows, verdicts that say what the numbers allow."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from tiny import arrays, experiment

from qfedfm import Comparison, compare, run, twins
from qfedfm.arms import Arm, Trial
from qfedfm.data import Dirichlet
from qfedfm.errors import ConfigurationError, RunError
from qfedfm.evidence import paired, verdict
from qfedfm.federation import Clients, Training
from qfedfm.heads import Kernel, Linear, Mlp, Rbf, Variational
from qfedfm.records import RunDirectory
from qfedfm.training import Adam, Sgd

SEEDS, RATES = 3, (0.05, 0.3)
SETTING = experiment(
    data=arrays(shift=0.8),
    head=Variational("angle_ring", {"n": 2}),
    clients=Clients(count=4, partition=Dirichlet(alpha=1.0), per_round=3, min_rows=4),
    training=Training(optimizer=Adam(lr=0.1, rates={"core": 0.2}), batch_size=8, keep_state=True),
)
OWN = {"wide": experiment(head=Mlp(hidden=(6,))), "narrow": experiment()}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison") / "c"
    return compare(SETTING, seeds=SEEDS, rates=RATES, directory=folder, progress=False)


def trial(seed, rate, accuracy, loss, failed=""):
    scores = {"accuracy": accuracy, "loss": loss}
    return Trial(seed, rate, ({"validation": scores, "test": {"accuracy": 0.0, "loss": 0.0}},), failed)


def test_the_rate_is_chosen_on_validation_rows():
    trials = (
        trial(0, 0.1, 0.7, 0.6),
        trial(0, 0.2, 0.8, 0.9),
        trial(0, 0.3, 0.99, 0.1, failed="diverged"),
        trial(1, 0.1, 0.8, 0.6),
        trial(1, 0.2, 0.8, 0.5),  # a tie, and the lower loss
        trial(1, 0.3, 0.8, 0.5),
    )
    arm = Arm("a", {}, "", trials)
    assert {seed: t.rate for seed, t in arm.chosen("accuracy").items()} == {0: 0.2, 1: 0.2}
    assert {seed: t.rate for seed, t in arm.chosen("loss").items()} == {0: 0.1, 1: 0.2}


def test_the_arms_are_the_head_and_its_twins(comparison):
    assert [arm.name for arm in comparison.arms] == ["quantum head", "matched classical head", "linear probe"]
    assert [arm.parameters["quantum"] for arm in comparison.arms] == [6, 0, 0]
    assert comparison.arms[2].parameters["classical"] == 3 * 2 + 2
    assert isinstance(twins(SETTING)["matched classical head"].head, Mlp)
    kernel = Kernel(landmarks=4)
    assert [arm.head for arm in twins(replace(SETTING, head=kernel)).values()] == [kernel, Rbf(kernel), Linear()]


def test_all_arms_run_the_same_seeds_splits_and_clients(comparison):
    assert comparison.seeds == [3, 4, 5]
    for arm in comparison.arms:
        assert [(t.seed, t.rate) for t in arm.trials] == [(seed, rate) for seed in (3, 4, 5) for rate in RATES]
    for trials in zip(*(arm.trials for arm in comparison.arms), strict=True):
        for lines in zip(*(t.rounds for t in trials), strict=True):
            for field in ("round", "clients"):
                assert len({json.dumps(line.get(field)) for line in lines}) == 1
            assert len({json.dumps([entry["rows"] for entry in line.get("ledger", ())]) for line in lines}) == 1
    assert len({arm.fingerprint for arm in comparison.arms}) == 1


@pytest.mark.parametrize(("number", "seed", "rate"), [(0, 3, 0.3), (0, 5, 0.05), (1, 4, 0.05), (2, 5, 0.3)])
def test_trained_together_or_alone_is_the_same(comparison, tmp_path, number, seed, rate):
    arm = comparison.arms[number]
    (together,) = [t for t in arm.trials if (t.seed, t.rate) == (seed, rate)]
    optimizer = Adam(lr=rate, rates={"core": 2 * rate})  # the core's rate moves in proportion
    training = replace(SETTING.training, optimizer=optimizer)
    alone = run(replace(twins(SETTING)[arm.name], seed=seed, training=training), tmp_path / "run", progress=False)
    for one, other in zip(together.rounds, alone.rounds, strict=True):
        assert one.get("clients") == other.get("clients")
        assert one.get("ledger") == other.get("ledger")
        for part in ("validation", "test"):
            assert one[part]["loss"] == pytest.approx(other[part]["loss"], abs=1e-5)
            assert one[part]["accuracy"] == pytest.approx(other[part]["accuracy"])


def test_scores_are_the_last_rounds_test_metric_at_the_chosen_rate(comparison):
    for arm in comparison.arms:
        expected = []
        for seed in comparison.seeds:
            of_seed = [t for t in arm.trials if t.seed == seed]
            last = [t.rounds[-1] for t in of_seed]
            best = max(last, key=lambda line: (line["validation"]["accuracy"], -line["validation"]["loss"]))
            expected.append(best["test"]["accuracy"])
        assert comparison.scores(arm.name).tolist() == expected


def test_the_verdict_follows_from_the_scores(comparison):
    subject, twin = comparison.scores("quantum head"), comparison.scores("matched classical head")
    sentence = verdict("quantum head", "matched classical head", "accuracy", paired(subject, twin, 0.02))
    assert comparison.verdict == sentence[0].upper() + sentence[1:]
    assert len(comparison.verdicts) == 2
    difference = subject.mean() - twin.mean()
    assert comparison.results["matched classical head"].difference == pytest.approx(difference)
    assert repr(comparison).startswith(comparison.verdict)
    assert comparison.verdict in comparison._repr_html_()


def test_tables(comparison):
    table = comparison.table().set_index("arm")
    for arm in comparison.arms:
        scores = comparison.scores(arm.name)
        row = table.loc[arm.name]
        half = 4.302652729911275 * scores.std(ddof=1) / np.sqrt(3)  # t quantile .975 with two degrees of freedom
        assert row["test accuracy"] == pytest.approx(scores.mean())
        assert row["95 % high"] - row["95 % low"] == pytest.approx(2 * half)
    frame = comparison.to_frame()
    assert len(frame) == 3 * SEEDS * 3
    last = frame[(frame["arm"] == "linear probe") & (frame["round"] == 2)]
    assert last["test_accuracy"].tolist() == comparison.scores("linear probe").tolist()
    costs = comparison.costs().set_index("arm")
    assert costs.loc["quantum head", "envelopes"] == 2 * 2 * 3
    assert costs.loc["quantum head", "key bits"] == 2 * 2 * 3 * 256
    assert costs.loc["linear probe", "circuit executions in training"] == 0
    chosen = comparison.chosen["quantum head"].values()
    sent = np.mean([sum(e["bytes_up"] for line in t.rounds for e in line.get("ledger", ())) for t in chosen])
    assert costs.loc["quantum head", "MB to server"] == pytest.approx(sent / 1e6)
    assert comparison.clients()["client"].tolist() == sorted(comparison.clients()["client"])


def test_plots(comparison):
    curves, rows = (Figure().subplots() for _ in range(2))
    assert comparison.plot(ax=curves) is curves
    assert len(curves.get_lines()) == 3
    assert len(curves.collections) == 3
    assert comparison.plot_differences(ax=rows) is rows
    assert [label.get_text() for label in rows.get_yticklabels()] == [
        "minus\nmatched classical head",
        "minus\nlinear probe",
    ]


def test_loaded_it_says_the_same(comparison):
    again = Comparison.load(comparison.directory)
    assert again.verdicts == comparison.verdicts
    assert again.table().equals(comparison.table())
    with pytest.raises(RunError, match="holds no finished comparison"):
        Comparison.load(comparison.directory.parent)


def test_resumed_it_keeps_the_arms_that_were_finished(comparison, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    trained = []
    original = compare.__globals__["train_arm"]

    def stop_in_the_third(name, *rest):
        if name == "linear probe":
            raise KeyboardInterrupt
        return original(name, *rest)

    monkeypatch.setitem(compare.__globals__, "train_arm", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        compare(SETTING, seeds=SEEDS, rates=RATES, directory=folder, progress=False)
    with pytest.raises(RunError, match="finish it with resume=True"):
        Comparison.load(folder)
    before = {file: (folder / file).read_bytes() for file in ("arm-0.json", "arm-1.json")}
    monkeypatch.setitem(
        compare.__globals__, "train_arm", lambda name, *rest: trained.append(name) or original(name, *rest)
    )
    resumed = compare(SETTING, seeds=SEEDS, rates=RATES, directory=folder, resume=True, progress=False)
    assert trained == ["linear probe"]
    assert {file: (folder / file).read_bytes() for file in before} == before
    assert resumed.verdicts == comparison.verdicts


@pytest.mark.parametrize(
    "change",
    [{"seeds": 2}, {"rates": (0.1,)}, {"margin": 0.5}, {"metric": "loss"}, {"arms": {"a": SETTING, "b": SETTING}}],
)
def test_a_directory_of_another_comparison_is_refused(comparison, change):
    asked = {"seeds": SEEDS, "rates": RATES, "directory": comparison.directory, "progress": False} | change
    with pytest.raises(RunError, match="belongs to another comparison"):
        compare(SETTING, **asked, resume=True)
    with pytest.raises(RunError, match="never overwritten"):
        compare(SETTING, **asked)


def test_arms_in_another_order_are_another_comparison(tmp_path):
    settings = {"seeds": 1, "rates": (0.1,), "directory": tmp_path / "c", "progress": False}
    compare(OWN["narrow"], OWN, **settings)
    with pytest.raises(RunError, match="belongs to another comparison"):
        compare(OWN["narrow"], dict(reversed(OWN.items())), **settings, resume=True)


def test_a_rate_that_diverges_is_reported_and_not_chosen(tmp_path):
    setting = experiment(training=Training(optimizer=Sgd(lr=0.1), batch_size=8), rounds=3)
    arms = {"wide": replace(setting, head=Mlp(hidden=(4,))), "linear": setting}
    made = compare(setting, arms, seeds=2, rates=(0.1, 1e38), directory=tmp_path / "c", progress=False)
    failed = [t for arm in made.arms for t in arm.trials if t.failed]
    assert {(t.seed, t.rate) for t in failed} == {(3, 1e38), (4, 1e38)}
    assert all("round" in t.failed and len(t.rounds) <= 3 for t in failed)
    for arm in made.arms:
        assert {t.rate for t in made.chosen[arm.name].values()} == {0.1}
        assert np.isfinite(made.scores(arm.name)).all()
    assert "Federations that failed" in (made.directory / "report.html").read_text()
    json.loads((made.directory / "arm-0.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_where_no_rate_trains_an_arm_the_seed_is_named(tmp_path):
    setting = experiment(training=Training(optimizer=Sgd(lr=1e38), batch_size=8))
    with pytest.raises(RunError, match=r"arm 'wide', seed 3: no learning rate of 1e\+38 trains it .*other rates"):
        compare(
            setting, {"wide": setting, "b": setting}, seeds=1, rates=(1e38,), directory=tmp_path / "c", progress=False
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"arms": {"only": OWN["narrow"]}}, "at least one twin; got 1 arms"),
        ({"arms": OWN | {"longer": experiment(rounds=9)}}, "arm 'longer' differs from the experiment in rounds"),
        ({"arms": OWN | {"other": experiment(data=arrays(shift=9))}}, "arm 'other' differs .* in data"),
        ({"arms": OWN | {"x": experiment(seed=8, test=0.3)}}, "arm 'x' differs .* in test, seed"),
        ({"arms": {name: replace(arm, rounds=9) for name, arm in OWN.items()}}, "arm 'wide' differs"),
        ({"seeds": 0}, "seeds: expected a whole number of at least 1; got 0"),
        ({"seeds": 2.5}, "seeds: expected a whole number of at least 1; got 2.5"),
        ({"rates": ["a"]}, r"rates: expected one or more positive learning rates; got \['a'\]"),
        ({"margin": "a"}, "margin: expected a positive difference"),
        ({"margin": 0.0}, "margin: expected a positive"),
        ({"metric": "f2"}, "metric: expected one of accuracy, loss, .*; got 'f2'"),
        ({"arms": None}, "twins of Variational, Parallel and Kernel heads; got Linear: pass arms="),
        ({"rates": (0.1, -1.0)}, r"positive learning rates; got \[0.1, -1.0\]"),
        ({"rates": ()}, r"one or more positive learning rates; got \[\]"),
    ],
)
def test_a_comparison_that_is_not_fair_or_makes_no_sense_is_refused(tmp_path, change, expected):
    with pytest.raises(ConfigurationError, match=expected):
        compare(OWN["narrow"], **({"arms": OWN, "directory": tmp_path / "c", "seeds": 1, "progress": False} | change))
    assert list(tmp_path.iterdir()) == []


def test_arms_of_ones_own_are_saved_with_the_comparison(tmp_path):
    made = compare(OWN["narrow"], OWN, seeds=1, metric="loss", directory=tmp_path / "c", progress=False)
    assert [arm.name for arm in made.arms] == ["wide", "narrow"]
    assert made.verdict.startswith("Nothing can be concluded on wide against narrow in loss from one seed")
    assert made.experiment.load(made.directory / "arm-0" / "experiment.toml").head == Mlp(hidden=(6,))
    assert made.experiment.load(made.directory / "arm-1" / "experiment.toml").head == Linear()


def test_data_that_changed_between_two_arms_are_noticed(tmp_path, monkeypatch):
    settings = {"seeds": 1, "rates": (0.1,), "directory": tmp_path / "c", "progress": False}
    compare(OWN["narrow"], OWN, **settings)
    file = tmp_path / "c" / "arm-0.json"
    file.write_text(file.read_text().replace(OWN["narrow"].data.load().fingerprint, "0" * 64))
    (tmp_path / "c" / "arm-1.json").unlink()
    with pytest.raises(RunError, match="the data has changed since"):
        compare(OWN["narrow"], OWN, **settings, resume=True)
    file.write_text("{")
    with pytest.raises(RunError, match=r"arm-0.json cannot be read .*delete it and resume"):
        compare(OWN["narrow"], OWN, **settings, resume=True)


def test_a_comparison_is_shown_in_notebooks_and_papers(comparison):
    page = comparison._repr_html_()
    assert page.count("<table") == 2
    assert "paired t, p" in page
    text = comparison.to_latex()
    assert text.count(r" \\") == 1 + len(comparison.arms)
    twin, result = next(iter(comparison.results.items()))
    assert f"{result.difference:.3f} [{result.low:.3f}, {result.high:.3f}]" in text
    assert twin in text
    ax = Figure().subplots()
    assert comparison.plot_differences(ax=ax) is ax


def test_what_was_dealt_and_how_long_it_took_is_kept(comparison):
    record = RunDirectory(comparison.directory)
    dealt = record.partition()
    assert dealt["rows"].sum() == len(comparison.experiment.data.load())
    spent = [event["wall_s"] for event in record.events() if event["event"] == "arm"]
    assert len(spent) == len(comparison.arms)
    assert min(spent) > 0
    assert comparison.excluded().empty
