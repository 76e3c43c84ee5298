"""Sweeps: any field by its path, points trained together as if alone, chosen on validation, killed and resumed."""

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from tiny import arrays, experiment

from qfedfm import Experiment, Sweep, run, sweep
from qfedfm.aggregation import FedAvgM, Krum, Mean, Median, TrimmedMean
from qfedfm.arms import Arm, Trial, cohort_key
from qfedfm.backends import Shots
from qfedfm.cli import main
from qfedfm.data import Dirichlet
from qfedfm.errors import ConfigurationError, MissingExtraError, RunError
from qfedfm.federation import Clients, Training
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.points import axis_of, axis_text, grid_points, label, moved, named
from qfedfm.swept import OUTCOME, SWEEP, Swept, point_folder
from qfedfm.training import Adam, Sgd

SETTING = experiment(
    data=arrays(shift=0.8),
    head=Variational("angle_ring", {"n": 2}),
    clients=Clients(count=4, partition=Dirichlet(alpha=1.0), per_round=3, min_rows=4),
)
GRID = {
    "training.optimizer.lr": [0.05, 0.3],
    "head.sizes.n": [2, 3],
    "clients.partition.alpha": [1.0, 5.0],
    "aggregation": [Mean(), Median()],
}
BATCHES = {"training.optimizer.lr": [0.03, 0.1, 0.3], "training.batch_size": [8, 16]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    return sweep(SETTING, GRID, seeds=2, directory=tmp_path_factory.mktemp("sweep") / "s", progress=False)


def small(directory, grid=BATCHES, **changes):
    return sweep(experiment(), grid, **({"seeds": 2, "directory": directory, "progress": False} | changes))


def outcomes(folder: Path) -> dict[str, bytes]:
    files = [folder / SWEEP, *sorted(folder.glob(f"point-*/{OUTCOME}"))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_every_combination_is_a_point_and_the_last_path_runs_fastest(swept):
    values = [tuple(point.values.values()) for point in swept.points]
    assert len(values) == len(set(values)) == 16
    assert values[:3] == [(0.05, 2, 1.0, "Mean()"), (0.05, 2, 1.0, "Median()"), (0.05, 2, 5.0, "Mean()")]
    assert swept.fields == tuple(GRID)
    assert swept.seeds == [3, 4]
    assert [point.arm.parameters["quantum"] for point in swept.points[3:5]] == [6, 9]


@pytest.mark.parametrize("number", [0, 5, 11, 14])
def test_trained_together_or_alone_is_the_same(swept, tmp_path, number):
    point = swept.points[number]
    alone = replace(
        SETTING,
        seed=4,
        head=Variational("angle_ring", {"n": point.values["head.sizes.n"]}),
        training=replace(SETTING.training, optimizer=Adam(lr=point.values["training.optimizer.lr"])),
        clients=replace(SETTING.clients, partition=Dirichlet(point.values["clients.partition.alpha"])),
        aggregation={"Mean()": Mean(), "Median()": Median()}[point.values["aggregation"]],
    )
    trial = point.arm.trials[1]
    assert trial.seed == 4
    for one, other in zip(trial.rounds, run(alone, tmp_path / "run", progress=False).rounds, strict=True):
        assert one.get("clients") == other.get("clients")
        for mine, its in zip(one.get("ledger", ()), other.get("ledger", ()), strict=True):
            assert mine["bytes_up"] == pytest.approx(
                its["bytes_up"], abs=3
            )  # a loss is sent as text: 0.61 or 0.6099999
            assert mine | {"bytes_up": 0} == its | {"bytes_up": 0}
        for part in ("validation", "test"):
            assert one[part]["loss"] == pytest.approx(other[part]["loss"], abs=1e-5)
            assert one[part]["accuracy"] == pytest.approx(other[part]["accuracy"])
    saved = Experiment.load(point_folder(swept.directory, number) / "experiment.toml")
    assert replace(saved, seed=4).identity == alone.identity


def test_what_trains_together_differs_only_in_what_a_cohort_may_differ_in():
    key = cohort_key(SETTING)
    alike = {
        "seed": 9,
        "clients": Clients(),
        "aggregation": Krum(),
        "validation": 0.2,
        "training": replace(SETTING.training, optimizer=Adam(lr=1.0, rates={"core": 3.0}), keep_state=True),
    }
    assert all(cohort_key(replace(SETTING, **{name: value})) == key for name, value in alike.items())
    unlike = {
        "rounds": 9,
        "head": Linear(),
        "precision": "float64",
        "data": arrays(shift=2),
        "backend": Shots(100),
        "training": replace(SETTING.training, optimizer=Adam(lr=0.05, beta1=0.5)),
    }
    assert all(cohort_key(replace(SETTING, **{name: value})) != key for name, value in unlike.items())
    assert cohort_key(replace(SETTING, training=replace(SETTING.training, batch_size=9))) != key


def test_a_machine_samples_the_same_for_a_point_whatever_else_is_in_the_sweep(tmp_path):
    setting = replace(SETTING, backend=Shots(50), rounds=1)
    both, one = (
        sweep(setting, {"training.optimizer.lr": rates}, seeds=1, directory=tmp_path / str(len(rates)), progress=False)
        for rates in ([0.1, 0.3], [0.3])
    )
    assert both.points[1].arm.trials == one.points[0].arm.trials


def trial(seed, validation, test, failed=""):
    scores = {"validation": {"accuracy": validation, "loss": 0.5}, "test": {"accuracy": test, "loss": 0.5}}
    return Trial(seed, 0.1, (scores,), failed)


def test_the_choice_is_made_on_validation_rows_and_never_falls_on_a_point_that_failed(tmp_path):
    trials = {
        1: (trial(0, 0.7, 0.9), trial(1, 0.8, 0.9)),
        2: (trial(0, 0.8, 0.6), trial(1, 0.8, 0.7)),
        3: (trial(0, 0.9, 0.9), trial(1, 0.99, 0.99, "diverged")),
    }
    points = [Swept({"rounds": value}, Arm(f"rounds={value}", {"q": 1}, "", each)) for value, each in trials.items()]
    made = Sweep(experiment(), points, "accuracy", tmp_path)
    assert made.chosen == 1
    # two seeds: mean .65, t quantile 12.706 times .05
    assert "rounds = 2 has the best mean validation accuracy, 0.800; its test accuracy, which took no" in made.verdict
    assert "is 0.650 (95 % interval 0.015 to 1.285, 2 seeds)" in made.verdict
    assert made.cautions[0] == "1 point failed on some seed and cannot be chosen."
    assert "The second choice, rounds = 1, is not told apart on test rows" in made.cautions[1]
    assert "-0.250" in made.cautions[1]
    table = made.table()
    assert table["chosen"].tolist() == ["", "yes", ""]
    assert table["failed"].tolist() == [0, 0, 1]
    assert table["validation accuracy"].tolist() == pytest.approx([0.75, 0.8, 0.9])
    assert Sweep(experiment(), points[2:], "accuracy", tmp_path).verdict.startswith("Nothing is chosen")
    with pytest.raises(RunError, match="no point finished on every seed"):
        _ = Sweep(experiment(), points[2:], "accuracy", tmp_path).best


def test_the_edge_of_a_range_is_pointed_out(tmp_path):
    points = [
        Swept({"lr": rate}, Arm("", {}, "", (trial(0, rate, rate),))) for rate in (0.1, 0.2, 0.3)
    ]  # fmt: skip
    assert Sweep(experiment(), points, "accuracy", tmp_path).cautions == (
        "It has the largest lr tried: a wider range might change the choice.",
    )
    assert "(one seed, no interval)" in Sweep(experiment(), points, "accuracy", tmp_path).verdict
    assert Sweep(experiment(), points[:2], "accuracy", tmp_path).cautions == ()


def test_the_best_is_an_experiment_that_runs(swept, tmp_path):
    point = swept.points[swept.chosen]
    best = swept.best
    assert best.training.optimizer.lr == point.values["training.optimizer.lr"]
    assert best.data.load() == SETTING.data.load()
    assert best.seed == SETTING.seed
    last = run(best, tmp_path / "run", progress=False).rounds[-1]
    assert last["test"]["loss"] == pytest.approx(point.arm.trials[0].rounds[-1]["test"]["loss"], abs=1e-5)
    assert not list(swept.directory.glob("point-*/data.safetensors"))  # the arrays are there once


def test_tables(swept):
    table, frame = swept.table(), swept.to_frame()
    assert len(table) == 16
    assert len(frame) == 32
    assert list(table.columns[:4]) == list(GRID)
    means = frame.groupby("point")[["validation_accuracy", "test_accuracy"]].mean()
    assert table["test accuracy"].to_numpy() == pytest.approx(means["test_accuracy"].to_numpy())
    assert means["validation_accuracy"].max() == means["validation_accuracy"][swept.chosen]
    half = 12.706204736432095 * frame[frame["point"] == 0]["test_accuracy"].std(ddof=1) / np.sqrt(2)
    assert table["95 % high"][0] - table["95 % low"][0] == pytest.approx(2 * half)
    entries = [e for line in swept.points[0].arm.trials[0].rounds for e in line.get("ledger", ())]
    assert frame["bytes"][0] == sum(e["bytes_up"] + e["bytes_down"] for e in entries) > 0
    assert swept.verdict in repr(swept)
    assert "<table" in swept._repr_html_()
    text = swept.to_latex()
    assert text.count(r" \\") == 1 + len(swept.points)
    assert text.count("*") == 2  # the choice, and what the star means
    assert r"head.sizes.n" in text


def test_plots(swept, tmp_path):
    ax = Figure().subplots()
    assert swept.plot("training.optimizer.lr", ax=ax) is ax
    assert ax.get_lines()[0].get_xdata().tolist() == [0.05, 0.3]
    assert "other fields at their best on validation" in ax.get_title()
    heat = swept.plot("training.optimizer.lr", "aggregation", ax=Figure().subplots())
    assert heat.collections[0].get_array().shape == (2, 2)
    assert [text.get_text() for text in heat.get_xticklabels()] == ["Mean()", "Median()"]
    frame = swept.table()
    alike = frame[(frame["training.optimizer.lr"] == 0.05) & (frame["aggregation"] == "Median()")]
    losses = [swept.points[i].rank("accuracy") for i in alike.index]
    shown = alike["test accuracy"].iloc[max(range(len(losses)), key=losses.__getitem__)]
    assert heat.collections[0].get_array()[0, 1] == pytest.approx(shown)
    for wrong, expected in (
        (("lr",), "got 'lr'"),
        (("head.size.n",), "did you mean 'head.sizes.n'"),
        (tuple(GRID), "4"),
    ):
        with pytest.raises(ConfigurationError, match=expected):
            swept.plot(*wrong)


def test_a_point_that_diverges_is_a_result(tmp_path):
    setting = experiment(training=Training(optimizer=Sgd(lr=0.1), batch_size=8))
    made = sweep(setting, {"training.optimizer.lr": [0.1, 1e38]}, seeds=2, directory=tmp_path / "s", progress=False)
    assert [point.whole for point in made.points] == [True, False]
    assert made.chosen == 0
    assert made.to_frame()["failed"].str.contains("round").tolist() == [False, False, True, True]
    assert np.isnan(made.table()["test accuracy"][1])
    page = (made.directory / "report.html").read_text()
    assert "Federations that failed" in page
    assert "cannot be chosen" in page
    assert len(made.plot(ax=Figure().subplots()).get_lines()[1].get_xdata()) == 1  # its cross


def test_a_rule_that_refuses_its_clients_spoils_no_other_point(tmp_path):
    made = small(tmp_path / "s", {"aggregation": [Krum(f=1), Mean()]})
    assert [point.whole for point in made.points] == [False, True]
    assert "Krum" in made.points[0].arm.trials[0].failed


def test_loaded_it_says_the_same(swept):
    again = Sweep.load(swept.directory)
    assert repr(again) == repr(swept)
    assert again.to_frame().equals(swept.to_frame())
    with pytest.raises(RunError, match="holds no finished sweep"):
        Sweep.load(swept.directory.parent)


def test_stopped_and_resumed_it_keeps_what_was_finished(tmp_path, monkeypatch):
    whole = small(tmp_path / "whole")
    original, trained = sweep.__globals__["_train"], []

    def stop_in_the_second(title, *rest):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(title)
        return original(title, *rest)

    monkeypatch.setitem(sweep.__globals__, "_train", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "s")
    with pytest.raises(RunError, match="finish it with resume=True"):
        Sweep.load(tmp_path / "s")
    monkeypatch.setitem(
        sweep.__globals__, "_train", lambda title, *rest: trained.append(title) or original(title, *rest)
    )
    resumed = small(tmp_path / "s", resume=True)
    assert trained == ["points 1, 3, 5", "points 2, 4, 6"]  # a batch size each
    assert outcomes(tmp_path / "s") == outcomes(tmp_path / "whole")
    assert resumed.table().equals(whole.table())


@pytest.mark.slow
def test_killed_at_any_operation_on_files_and_resumed_it_gives_the_same_table(tmp_path):
    experiment().save(tmp_path)
    script = Path(__file__).with_name("kill_server.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:

        def status(folder: Path, operation: int | None) -> int:
            words = ["sweep", str(tmp_path / "experiment.toml"), "--seeds", "2", "--directory", str(folder), "--resume"]
            words += ["--grid", "training.optimizer.lr=0.03,0.1", "--grid", "training.batch_size=8,16"]
            server.stdin.write(json.dumps({"arguments": words, "operation": operation, "report": False}) + "\n")
            server.stdin.flush()
            server.stdout.readline()  # its process id
            return int(server.stdout.readline())

        assert status(tmp_path / "whole", None) == 0
        expected, left = outcomes(tmp_path / "whole"), set()
        assert len(expected) == 5
        for operation in range(2, 1000, 13):
            folder = tmp_path / f"killed-{operation}"
            if (ended := status(folder, operation)) == 0:
                break
            assert ended == -signal.SIGKILL
            left.add(len(list(folder.glob(f"point-*/{OUTCOME}"))))
            assert status(folder, None) == 0
            assert outcomes(folder) == expected
        assert len(left) >= 3  # killed with so many points done
        server.stdin.close()


def test_a_directory_of_another_sweep_is_refused(tmp_path):
    made = small(tmp_path / "s")
    assert repr(small(tmp_path / "s", resume=True)) == repr(made)
    with pytest.raises(RunError, match="never overwritten"):
        small(tmp_path / "s")
    for change in ({"seeds": 3}, {"metric": "loss"}, {"grid": {"rounds": [1, 2]}}, {"together": 2}):
        with pytest.raises(RunError, match="belongs to another sweep"):
            small(tmp_path / "s", **change, resume=True)
    facts = json.loads((tmp_path / "s" / "run.json").read_text())
    (tmp_path / "s" / "run.json").write_text(json.dumps(facts | {"data": ["0" * 64]}))
    with pytest.raises(RunError, match="the data has changed since"):
        small(tmp_path / "s", resume=True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"grid": {}}, "the grid is empty"),
        ({"grid": {"rounds": []}}, "'rounds': expected at least one value"),
        ({"grid": {"rounds": 3}}, r"'rounds': expected a list of values, .* got 3"),
        ({"grid": {"name": ["a"]}}, "'name' is not swept"),
        ({"grid": {"seed": [1]}}, "'seed' is not swept: seeds=5 runs"),
        ({"grid": {"lr": [1]}}, r"Experiment has no field 'lr' \(did you mean 'training.optimizer.lr'\?\)"),
        ({"grid": {"training.optimiser.lr": [1]}}, r"no field 'optimiser' \(did you mean 'training.optimizer.lr'\?\)"),
        ({"grid": {"zzz": [1]}}, "Experiment has no field 'zzz'; fields are data, "),
        ({"grid": {"rounds.x": [1]}}, "'rounds.x': 2 has no fields"),
        ({"grid": {"training.optimizer.lr": [0.1, -1]}}, "training.optimizer.lr=-1: Adam: learning rates are positive"),
        ({"grid": {"head": [Linear(), Linear]}}, "got the class Linear"),
        ({"grid": {"rounds": [2, 2]}}, "the points rounds=2 and rounds=2 are the same experiment"),
        ({"grid": {"clients.count": [3, 50]}}, "clients.count=50: client .* needs min_rows=8"),
        ({"grid": {"clients.per_round": [2, 4]}}, "clients.per_round=4: .*choose at most 3"),
        ({"grid": {"head": [Linear(), Variational("nowhere")]}}, "circuit 'nowhere' is not in the library"),
        ({"grid": None}, "sweep needs a grid or a space"),
        ({"space": {"rounds": [1]}}, "and not both"),
        ({"grid": {"rounds": IntDistribution(1, 2)}}, "a distribution is of a space"),
        ({"grid": None, "space": {}}, "the space is empty"),
        ({"grid": None, "space": {"round": [1]}}, r"did you mean 'rounds'"),
        ({"grid": None, "space": {"rounds": [1], "training.optimizer.lr": FloatDistribution(0, 1)}}, "lr=0.0: Adam"),
        ({"seeds": 0}, "seeds: expected a whole number"),
        ({"together": 0}, "together: expected a whole number"),
        ({"metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"metric": "rmse"}, "the data are classes to be told apart, and 'rmse' does not judge those"),
        ({"grid": None, "space": {"training.optimizer.lr": (0.01, 0.1)}}, "may mean a range or a choice"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_starts(tmp_path, change, expected):
    with pytest.raises(ConfigurationError, match=expected):
        small(tmp_path / "s", **change)
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        small(tmp_path / "s", {"training.optimizer.lr": [-1], "roundz": [1], "training.batch_size": [0, 8]})
    assert len(caught.value.problems) == 3


def test_very_many_federations_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setitem(sweep.__globals__, "MANY", 3)
    with pytest.warns(UserWarning, match="2 points on 2 seeds, 4 federations of 2 rounds"):
        small(tmp_path / "s", {"rounds": [1, 2]}, together=1)


def test_paths_enter_objects_and_mappings_and_leave_the_rest():
    setting = replace(SETTING, training=Training(optimizer=Adam(rates={"core": 0.2})))
    changed = moved(setting, "training.optimizer.rates.readout", 0.5)
    assert changed.training.optimizer.rates == {"core": 0.2, "readout": 0.5}
    assert replace(changed, training=setting.training) == setting
    assert moved(replace(SETTING, head=Variational("angle_ring")), "head.sizes.n", 3).head.sizes == {"n": 3}
    assert moved(SETTING, "head", Linear()).head == Linear()


def test_labels_tell_objects_apart():
    assert label(Krum()) == "Krum()"
    assert label(TrimmedMean(f=2)) == "TrimmedMean(f=2)"
    assert label(Clients(count=4, partition=Dirichlet(0.5))) == "Clients(count=4, partition=Dirichlet(alpha=0.5))"
    assert label(np.mean) == "mean"
    assert named([lambda x: x, lambda y: y, 0.1, None]) == ["<lambda> #1", "<lambda> #2", 0.1, None]
    (point,) = grid_points(SETTING, {"training.optimizer.lr": np.array([0.25])})
    assert point.name == "training.optimizer.lr=0.25"


def test_axes_on_a_command_line(tmp_path):
    assert axis_of("a.b=0.01, 2,true", tmp_path) == ("a.b", [0.01, 2, True])
    assert axis_of("head.circuit=angle_ring,strongly_entangling", tmp_path)[1] == ["angle_ring", "strongly_entangling"]
    values = [Krum(f=2), Dirichlet(0.5), Mlp(hidden=(3, 4))]
    assert axis_of(axis_text("x", values), tmp_path) == ("x", values)
    assert axis_of(axis_text("x", ["a b", 'c"d']), tmp_path) == ("x", ["a b", 'c"d'])
    assert axis_text("x", [np.mean]) is None
    for wrong, expected in (
        ("rounds", "expected a.b=1,2,3"),
        ("x={kind='Krumm'}", "'Krum'"),
        ("x={kind='Krum',g=1}", "g"),
    ):
        with pytest.raises(ConfigurationError, match=expected):
            axis_of(wrong, tmp_path)


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment(rounds=1).save(tmp_path)
    words = ["sweep", "experiment.toml", "--grid", "training.optimizer.lr=0.01,0.3", "--directory", "s"]
    words += ["--grid", "aggregation={kind='Mean'},{kind='Median'}", "--seeds", "2"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("\nOf 4 points, training.optimizer.lr = 0.3, aggregation = M")
    assert "points 1, 2, 3, 4: round 1/1" in shown.err
    assert main(words) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert capsys.readouterr().out == shown.out
    assert main(["report", "s"]) == 0
    assert capsys.readouterr().out.strip() == shown.out.strip()
    assert main([*words, "--grid", "training.optimizer.lr=1"]) == 1
    assert "each path once" in capsys.readouterr().err


def test_the_reports_command_makes_the_same_sweep(tmp_path, monkeypatch):
    made = small(tmp_path / "s", {"aggregation": [Mean(), FedAvgM(beta1=0.5)], "rounds": [1, 2]})
    page = (made.directory / "report.html").read_text()
    assert "qfedfm sweep experiment.toml --grid" in page
    assert "took no part in it" in page
    command = Sweep.report.__globals__["_command"](made, json.loads((tmp_path / "s/run.json").read_text()))
    monkeypatch.chdir(tmp_path / "s")
    assert main([*shlex.split(command)[1:], "--directory", "again"]) == 0
    assert Sweep.load("again").table().equals(made.table())


SPACE = {
    "training.optimizer.lr": FloatDistribution(1e-3, 1.0, log=True),
    "training.batch_size": IntDistribution(4, 16),
    "aggregation": [Mean(), Median()],
    "training.keep_state": CategoricalDistribution([True, False]),
}


def searched(directory, **changes):
    given = {"space": SPACE, "trials": 5, "seeds": 1, "directory": directory, "progress": False}
    return sweep(experiment(), **(given | changes))


def test_optuna_proposes_the_same_points_for_the_same_seed(tmp_path):
    first, again = (searched(tmp_path / name) for name in ("a", "b"))
    assert outcomes(tmp_path / "a") == outcomes(tmp_path / "b")
    assert len({point.arm.name for point in first.points}) == 5
    other = searched(tmp_path / "c", sampler=TPESampler(seed=99))
    assert [p.values for p in other.points] != [p.values for p in first.points]
    rates = first.to_frame()["training.optimizer.lr"]
    assert ((rates >= 1e-3) & (rates <= 1)).all()
    assert set(first.to_frame()["aggregation"]) <= {"Mean()", "Median()"}
    assert again.best.identity == first.best.identity


def test_optuna_sees_validation_scores_and_learns_from_them(tmp_path):
    seen = []

    class Watching(RandomSampler):
        def after_trial(self, study, trial, state, values):
            seen.append(values and values[0])
            super().after_trial(study, trial, state, values)

    made = searched(tmp_path / "s", sampler=Watching(seed=1), metric="loss")
    assert seen == [point.scores("loss", "validation").mean() for point in made.points]
    assert made.chosen == int(np.argmin(seen))


def test_a_stopped_search_goes_on_as_if_it_had_not_been_and_may_be_made_longer(tmp_path, monkeypatch):
    searched(tmp_path / "whole", trials=6, together=2)
    searched(tmp_path / "s", trials=4, together=2)
    (point_folder(tmp_path / "s", 3) / OUTCOME).unlink()
    searched(tmp_path / "s", trials=6, together=2, resume=True)
    assert outcomes(tmp_path / "s") == outcomes(tmp_path / "whole")


def test_a_sampler_without_a_seed_cannot_be_resumed(tmp_path):
    searched(tmp_path / "s", trials=2, sampler=RandomSampler(seed=1))
    with pytest.raises(RunError, match="only a sampler with a seed repeats its draws"):
        searched(tmp_path / "s", trials=3, sampler=RandomSampler(seed=2), resume=True)


def test_a_proposal_that_cannot_run_has_failed(tmp_path):
    space = {"clients.count": IntDistribution(2, 4), "clients.per_round": IntDistribution(2, 3)}
    made = searched(tmp_path / "s", space=space, trials=6, sampler=RandomSampler(seed=3))
    impossible = [p for p in made.points if p.values["clients.per_round"] > p.values["clients.count"]]
    assert impossible
    assert all("choose at most 2" in p.arm.trials[0].failed and not p.whole for p in impossible)
    assert made.points[made.chosen] not in impossible
    assert "qfedfm run point-" in (tmp_path / "s" / "report.html").read_text()
    assert len(made.plot(ax=Figure().subplots()).texts) == 6  # a heat map of three by two


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'qfedfm\[optuna\]'"):
        searched(tmp_path / "s", space={"rounds": [1, 2]})
    assert list(tmp_path.iterdir()) == []
