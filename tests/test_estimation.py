"""What a run would take, counted before it: the same as what the run then takes, and worked by hand."""

import dataclasses

import pytest
from tiny import experiment

import qfedfm as qf
from qfedfm.backends import Fake, FakeRuntime, RuntimeMitigation, Spsa
from qfedfm.cli import main
from qfedfm.client_rules import Ifca
from qfedfm.data import Csv
from qfedfm.errors import BudgetExceeded, ConfigurationError
from qfedfm.federation import Training
from qfedfm.heads import Linear, Variational
from qfedfm.training import Adam

HEAD = Variational("angle_ring", {"n": 2})
DEVICE = FakeRuntime("manila", shots=64, transpilations=1)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def short(**changes):
    training = Training(optimizer=Adam(lr=0.05), batch_size=8, steps=2, gradient=Spsa())
    return experiment(**{"head": HEAD, "backend": DEVICE, "rounds": 1, "training": training} | changes)


@pytest.mark.parametrize(
    "more", [{}, {"rule": Ifca()}, {"report_loss": "before"}], ids=["plain", "clients that look first", "losses before"]
)
def test_the_estimate_is_what_the_run_then_takes(more, tmp_path):
    asked = short(training=dataclasses.replace(short().training, **more))
    found = qf.estimate(asked, gradients=[Spsa()])
    result = qf.run(asked, tmp_path / "run", progress=False)
    totals, (method,) = result.ledger.totals(), found.methods
    assert method.training.circuits == totals["executions"]
    assert sum(entry.qpu_seconds for entry in result.ledger.entries) == pytest.approx(method.training.charged)
    evaluated = [line["evaluation"] for line in result.rounds]
    assert method.evaluation.circuits == sum(some["executions"] for some in evaluated)
    assert method.evaluation.charged == pytest.approx(sum(some["qpu_seconds"] for some in evaluated))


def test_a_run_stops_before_the_job_that_would_pass_its_budget(tmp_path):
    asked = short(rounds=3)
    (method,) = (found := qf.estimate(asked, gradients=[Spsa()])).methods
    budget = method.charged / 2
    with pytest.raises(BudgetExceeded, match="Nothing was sent"):
        qf.run(asked, tmp_path / "run", progress=False, max_qpu_seconds=budget)
    lines = (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
    assert len(lines) == 1 + found.rounds_within(method, budget)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"price": -1.0}, "price: expected a number, 0 or more"),
        ({"max_qpu_seconds": float("nan")}, "max_qpu_seconds: expected"),
        ({"gradients": []}, "one way to find gradients or more"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        qf.estimate(short(), **wrong)


def test_counts_of_a_small_run_worked_by_hand():
    # 3 clients, 2 steps of 8 rows: 6 x 8 rows, each with two points for every angle, or with two points.
    found = qf.estimate(short(evaluation="exact"), DEVICE, price=2.0, max_qpu_seconds=600)
    spsa, shift = found.methods  # the experiment's own first
    angles = len(qf.backends.flatten(HEAD.resolve().program, HEAD.resolve().observables).source)
    assert shift.training.submissions == shift.training.jobs == 2  # all clients in one
    assert shift.training.circuits == 6 * 8 * (1 + 2 * angles)
    assert spsa.training.circuits == 6 * 8 * 3
    assert spsa.training.executions == 64 * (6 * 8 * 3 + 2)  # readout is calibrated once in each job
    assert spsa.training.quick_seconds == pytest.approx(2 * 2 + 3.5e-4 * spsa.training.executions)
    assert spsa.evaluation.jobs == 0
    frame = found.to_frame().set_index(["gradient", "part", "span"])
    assert frame.loc[(repr(Spsa()), "training", "run"), "money"] == pytest.approx(2 * spsa.training.charged)
    assert frame.loc[(repr(Spsa()), "training", "step"), "circuits"] == 3 * 8 * 3
    assert "600 s pay for 1 of 1 rounds" in repr(found)


def test_mitigation_is_part_of_the_estimate():
    plain, extrapolated = (
        qf.estimate(short(evaluation="exact"), dataclasses.replace(DEVICE, mitigation=some), gradients=[Spsa()])
        for some in (RuntimeMitigation(readout=False), RuntimeMitigation(readout=False, zero_noise=True))
    )
    assert extrapolated.methods[0].training.executions == 3 * plain.methods[0].training.executions


def test_a_fake_device_is_counted_as_the_real_one():
    fake = Fake("manila", shots=64, transpilations=1)
    one, other = (qf.estimate(short(evaluation="exact"), device, gradients=[Spsa()]) for device in (fake, DEVICE))
    assert one == other
    raw = qf.estimate(short(evaluation="exact"), dataclasses.replace(fake, mitigated=False), gradients=[Spsa()])
    assert (one.readout_corrected, raw.readout_corrected) == (True, False)
    assert raw.methods[0].training.executions < one.methods[0].training.executions


def test_what_bills_nothing_cannot_be_estimated():
    with pytest.raises(ConfigurationError, match="--backend ibm:ibm_torino or fake:torino"):
        qf.estimate(experiment(head=HEAD))
    with pytest.raises(ConfigurationError, match="no circuit"):
        qf.estimate(experiment(head=Linear()), DEVICE)


def test_the_command_prints_both_methods_and_sends_nothing(tmp_path, capsys):
    table = tmp_path / "data.csv"
    rows = [f"{i % 7},{(i * i) % 5},{'ab'[i % 2]}" for i in range(80)]
    table.write_text("\n".join(["x,y,label", *rows]) + "\n")
    data = Csv(table, text=("x", "y"), label="label")
    (tmp_path / "exp.toml").write_text(short(data=data, backend=qf.backends.Exact()).to_toml())
    assert (
        main(["estimate", str(tmp_path / "exp.toml"), "--backend", "fake:manila", "--shots", "64", "--price", "2"]) == 0
    )
    printed = capsys.readouterr().out
    assert "nothing was sent" in printed
    assert "two-qubit gates, estimated fidelity 0." in printed
    assert "ParameterShift(" in printed
    assert "readout errors are corrected" in printed
    assert "Spsa(" in printed
    assert "money" in printed
    (tmp_path / "fake.toml").write_text(short(data=data, backend=Fake("manila", transpilations=1)).to_toml())
    assert main(["estimate", str(tmp_path / "fake.toml"), "--shots", "64"]) == 0  # of the file's device too
    again = capsys.readouterr().out
    assert again.split("Spsa(")[1].split("training    step")[1].splitlines()[0].split()[:3] == ["1", "72", "4,672"]
    assert main(["estimate", str(tmp_path / "exp.toml")]) == 1
    with pytest.raises(SystemExit):
        main(["estimate", str(tmp_path / "exp.toml"), "--backend", "manila"])
