"""Whole federations on a machine: shots are counted, runs resume, and what cannot run there is refused."""

import dataclasses
import json

import numpy as np
import pytest
from tiny import cut_short, experiment

import qfedfm as qf
from qfedfm.aggregation import FLTrust
from qfedfm.backends import Exact, Fake, Mitigated, NoiseModel, Noisy, ParameterShift, PennyLane, Session, Shots, Spsa
from qfedfm.backends.simulated import ShotsMachine
from qfedfm.data import IID
from qfedfm.errors import BackendError, ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training
from qfedfm.heads import Kernel, Mlp, Variational
from qfedfm.privacy import DpSgd
from qfedfm.training import Adam

HEAD = Variational("angle_ring", {"n": 2})


def sampled(**changes):
    return experiment(**{"head": HEAD, "backend": Shots(64)} | changes)


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def training(**changes):
    return Training(**{"optimizer": Adam(lr=0.05), "batch_size": 8} | changes)


def test_shifted_gradients_on_exact_values_train_like_torchs(tmp_path):
    ordinary = qf.run(experiment(head=HEAD, precision="float64"), tmp_path / "torch", progress=False)
    shifting = experiment(head=HEAD, precision="float64", training=training(gradient=ParameterShift()))
    shifted = qf.run(shifting, tmp_path / "shift", progress=False)
    for name, tensor in ordinary.params.items():
        assert (tensor - shifted.params[name]).abs().max() < 1e-8


def test_circuits_and_shots_are_counted_as_they_were_run(tmp_path):
    result = qf.run(sampled(), tmp_path / "run", progress=False)
    totals = result.ledger.totals()
    model = HEAD.bind(3, 2)
    angles = len(qf.backends.flatten(model.circuit.program, model.circuit.observables).source)
    rows = sum(entry.rows for entry in result.ledger.entries)
    assert totals["executions"] == rows * (1 + 2 * angles)  # no row that only fills up a batch
    assert totals["shots"] == 64 * totals["executions"]
    evaluated = result.rounds[-1]["evaluation"]
    assert evaluated["shots"] == 64 * evaluated["executions"] > 0
    assert "Shots(shots=64)" in repr(result)


def test_exact_evaluation_of_a_sampled_training_costs_no_shots_and_says_so(tmp_path):
    result = qf.run(sampled(evaluation="exact"), tmp_path / "run", progress=False)
    assert "evaluation" not in result.rounds[-1]
    assert "evaluated by exact simulation" in repr(result)
    exact = qf.run(experiment(head=HEAD), tmp_path / "exact", progress=False)
    assert result.rounds[0] == exact.rounds[0]  # the untrained model


MISREAD = Noisy(NoiseModel(p01=0.1, p10=0.05), shots=64)


@pytest.mark.parametrize(
    "changes",
    [{}, {"backend": Mitigated(MISREAD)}, {"aggregation": FLTrust()}],
    ids=["shots", "a calibrated machine", "a server that trains too"],
)
def test_a_run_that_stops_goes_on_as_if_it_had_not(changes, tmp_path):
    three = sampled(rounds=3, **changes)
    whole = qf.run(three, tmp_path / "whole", progress=False)
    cut = cut_short(three, tmp_path / "cut", 3)
    if isinstance(three.backend, Mitigated):  # the second attempt calibrated too, and its ledger says so
        assert [line["params"] for line in cut.rounds] == [line["params"] for line in whole.rounds]
        assert cut.ledger.totals()["shots"] > whole.ledger.totals()["shots"]
    else:
        assert (tmp_path / "cut" / "rounds.jsonl").read_bytes() == (tmp_path / "whole" / "rounds.jsonl").read_bytes()
    assert len(whole.rounds) == 4


def test_a_run_on_a_fake_device_that_stops_goes_on_with_the_same_model(tmp_path, monkeypatch):
    # its readout is calibrated again, with the same outcome and a cost of its own
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path / "cache"))
    asked = sampled(backend=Fake("manila", 64, transpilations=1), training=training(gradient=Spsa(), steps=1), rounds=2)
    whole = qf.run(asked, tmp_path / "whole", progress=False)
    cut = cut_short(asked, tmp_path / "cut", 2)
    assert [line["params"] for line in cut.rounds] == [line["params"] for line in whole.rounds]
    assert cut.ledger.totals()["executions"] == whole.ledger.totals()["executions"]
    assert cut.ledger.totals()["shots"] == whole.ledger.totals()["shots"] + 2 * 8192
    assert "mitigated=True" in repr(whole)
    assert "QPU seconds (estimated, none billed)" in repr(whole)


def test_a_plateau_is_told_before_the_run_and_recorded(tmp_path, capsys):
    head = Variational("strongly_entangling", {"n": 6, "layers": 2})
    flat = sampled(head=head, backend=Shots(4), evaluation="exact", training=training(steps=1), rounds=1)
    result = qf.run(flat, tmp_path / "run")
    (event,) = (some for some in events(result.directory) if some["event"] == "plateau")
    assert event["text"].startswith("Plateau")
    assert event["text"] in capsys.readouterr().err
    assert dataclasses.replace(flat, backend=Shots(100_000)).plateau() is None
    assert dataclasses.replace(flat, backend=Exact()).plateau() is None
    assert dataclasses.replace(flat, head=Mlp()).plateau() is None


def test_private_training_runs_on_a_machine_row_by_row(tmp_path):
    private = training(privacy=DpSgd(sampling="permutation"), gradient=Spsa())
    result = qf.run(sampled(training=private), tmp_path / "run", progress=False)
    rows = sum(entry.rows for entry in result.ledger.entries)
    assert result.ledger.totals()["shots"] == 64 * 3 * rows


def test_a_machine_that_fails_stops_the_run_and_excludes_nobody(tmp_path, monkeypatch):
    def fail(self, compiled, angles, shots, key):
        if key.startswith("round-1/train"):
            raise BackendError("the machine is on fire")
        return measure(self, compiled, angles, shots, key)

    measure = ShotsMachine.measure
    monkeypatch.setattr(ShotsMachine, "measure", fail)
    clients = Clients(count=3, partition=IID(), failing="exclude", quorum=1)
    with pytest.raises(BackendError, match="on fire"):
        qf.run(sampled(clients=clients), tmp_path / "run", progress=False)
    assert "on fire" in events(tmp_path / "run")[-1]["reason"]
    monkeypatch.undo()
    assert qf.run(sampled(clients=clients), tmp_path / "run", resume=True, progress=False).finished


def test_what_cannot_run_on_a_machine_is_refused_before_anything_runs():
    with pytest.raises(ConfigurationError, match="only be simulated exactly"):
        experiment(head=Kernel("iqp"), backend=Shots(10)).check()
    with pytest.raises(ConfigurationError, match="shots"):
        Shots(0)
    experiment(head=Mlp(), backend=Shots(10)).check()  # a classical twin needs no machine


def test_backends_and_gradients_are_declared_in_toml():
    ours = dataclasses.replace(sampled(training=training(gradient=Spsa(step=0.1, repeats=2))), data=qf.data.Sentiment())
    assert Experiment.from_toml(ours.to_toml()) == ours
    assert experiment(head=HEAD, backend=Exact()).identity != sampled().identity


def test_compare_runs_its_quantum_arm_on_the_machine(tmp_path):
    result = qf.compare(sampled(), seeds=2, rates=[0.05], directory=tmp_path / "compare", progress=False)
    costs = result.costs().set_index("arm")
    assert costs["shots"].iloc[0] > 0
    assert np.all(costs["shots"].iloc[1:].to_numpy() == 0) or "frozen" in costs.index[1]


@pytest.mark.parametrize("backend", [Exact(), Shots(8), Fake("manila"), Mitigated(Shots(8))])
def test_a_budget_that_nothing_would_keep_is_refused(backend, tmp_path):
    with pytest.raises(ConfigurationError, match="keeps no budget"):
        qf.run(sampled(backend=backend), tmp_path / "run", progress=False, max_qpu_seconds=5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("budget", [-1.0, float("nan")])
def test_a_budget_is_a_number_of_seconds(budget):
    """Nothing is larger than "not a number": as a budget it would be none."""
    with pytest.raises(BackendError, match="expected 0 or more seconds"):
        Session(max_qpu_seconds=budget)


def test_a_device_that_pennylane_does_not_know_is_found_before_a_run():
    with pytest.raises(BackendError, match=r"default\.qbit"):
        sampled(backend=PennyLane("default.qbit")).check()
