"""Running an experiment in this process: what is recorded, what is refused, what survives a failure."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import arrays, experiment

from qfedfm import Result, run
from qfedfm.assembly import bind, federate, prepare
from qfedfm.backbones import MiniLM
from qfedfm.data import IID, Arrays, Csv, Natural
from qfedfm.errors import ClientError, ConfigurationError, RunError, UpdateError
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training
from qfedfm.heads import Mlp
from qfedfm.measuring import measure
from qfedfm.records import CHECKPOINT, EVENTS, ROUNDS, RunDirectory
from qfedfm.runs import choose
from qfedfm.seal import Aead, Header
from qfedfm.training import Adam, Sgd


def quiet(*arguments, **options):
    return run(*arguments, progress=False, **options)


def events(folder):
    return [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]


def interrupt_in(round_number):
    def intervene(client, number, delta):
        if number == round_number:
            raise KeyboardInterrupt
        return delta

    return intervene


def assert_equal_runs(folder, other):
    assert (folder / ROUNDS).read_bytes() == (other / ROUNDS).read_bytes()
    one, two = (RunDirectory(place).checkpoint() for place in (folder, other))
    assert one.round == two.round
    assert one.tensors.keys() == two.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, two.tensors[name]), name


def test_a_run_learns_and_records_every_round(tmp_path):
    result = quiet(experiment(rounds=6), tmp_path / "run")
    frame = result.to_frame()
    assert frame["round"].tolist() == list(range(7))
    assert frame["test_accuracy"].iloc[-1] > 0.75
    assert frame["test_loss"].iloc[-1] < frame["test_loss"].iloc[0]
    assert [event["event"] for event in events(tmp_path / "run")] == ["start", *["round"] * 6, "finished"]
    assert (tmp_path / "run" / "report.html").exists()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "data.safetensors",
        "environment.json",
        "events.jsonl",
        "experiment.toml",
        "lock",
        "partition.csv",
        "report.html",
        "rounds.jsonl",
        "run.json",
    ]


def test_the_recorded_accuracy_is_that_of_the_saved_parameters(tmp_path):
    setting = experiment()
    result = quiet(setting, tmp_path / "run")
    prepared = prepare(setting)
    federation = federate(setting, prepared, bind(setting, prepared), run_id="r")
    rows = federation.split.test
    weight, bias = (result.params[name].double().numpy() for name in ("readout.weight", "readout.bias"))
    data = prepared.dataset
    logits = data.items[rows].astype(float) @ weight.T + bias
    assert result.rounds[-1]["test"]["accuracy"] == pytest.approx((logits.argmax(1) == data.labels[rows]).mean())
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(rows)), data.labels[rows]]
    assert result.rounds[-1]["test"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    per_client = result.rounds[-1]["per_client"]
    assert sum(one["rows"] for one in per_client.values()) == len(rows)
    mean = sum(one["rows"] * one["accuracy"] for one in per_client.values()) / len(rows)
    assert mean == pytest.approx(result.rounds[-1]["test"]["accuracy"])


def test_equal_experiments_leave_equal_records(tmp_path):
    for name in ("a", "b"):
        quiet(experiment(training=Training(keep_state=True)), tmp_path / name)
    assert_equal_runs(tmp_path / "a", tmp_path / "b")


def test_a_directory_is_never_overwritten_and_no_work_is_done_first(tmp_path, monkeypatch):
    quiet(experiment(), tmp_path / "run")
    monkeypatch.setattr(Arrays, "load", lambda self: pytest.fail("data were loaded"))
    with pytest.raises(RunError, match="never overwritten"):
        quiet(experiment(data=Csv("none.csv", "t", "l")), tmp_path / "run")


def test_a_directory_of_something_else_is_refused(tmp_path):
    quiet(experiment(), tmp_path / "run")
    with pytest.raises(RunError, match="belongs to another experiment"):
        quiet(experiment(seed=4), tmp_path / "run", resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a run directory"):
        quiet(experiment(), tmp_path / "empty", resume=True)


def test_a_finished_run_is_loaded_without_its_data(tmp_path, monkeypatch):
    first = quiet(experiment(), tmp_path / "run")
    before = (tmp_path / "run" / EVENTS).read_bytes()
    (tmp_path / "run" / "report.html").unlink()
    monkeypatch.setattr("qfedfm.runs.prepare", lambda *_: pytest.fail("data were prepared"))
    again = quiet(experiment(), tmp_path / "run", resume=True)
    assert again.rounds == first.rounds
    assert (tmp_path / "run" / EVENTS).read_bytes() == before
    assert (tmp_path / "run" / "report.html").exists()


def test_what_was_saved_can_be_resumed_from_its_own_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet(experiment(), tmp_path / "run", intervene=interrupt_in(2))
    loaded = Experiment.load(tmp_path / "run" / "experiment.toml")
    assert quiet(loaded, tmp_path / "run", resume=True).finished


def test_changed_data_are_noticed(tmp_path):
    table = tmp_path / "rows.csv"
    lines = [f"{x / 7:.2f},{x % 2}" for x in range(60)]
    table.write_text("\n".join(["x,y", *lines]))
    setting = experiment(data=Csv(table, ("x",), "y"))
    with pytest.raises(KeyboardInterrupt):
        quiet(setting, tmp_path / "run", intervene=interrupt_in(2))
    table.write_text("\n".join(["x,y", *lines, "9.9,1"]))
    with pytest.raises(RunError, match="has changed since the run began"):
        quiet(setting, tmp_path / "run", resume=True)
    table.write_text("\n".join(["x,y", *lines]))
    assert quiet(setting, tmp_path / "run", resume=True).finished


def test_a_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet(experiment(), tmp_path / "run", intervene=interrupt_in(2))
    file = tmp_path / "run" / CHECKPOINT
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    with pytest.raises(RunError, match=r"checkpoint.safetensors cannot be read .*restore it or start a new run"):
        quiet(experiment(), tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    setting = experiment()
    prepared = prepare(setting)
    federation = federate(setting, prepared, bind(setting, prepared), run_id="r")
    with pytest.raises(RunError, match=r"lacks params/readout\.bias: another version"):
        federation.restore(1, {"params/readout.weight": torch.zeros(2, 3)})
    assert federation.server.round == 0


def test_an_interrupted_run_says_so_and_goes_on_as_if_unbroken(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet(experiment(rounds=3), tmp_path / "run", intervene=interrupt_in(2))
    last = events(tmp_path / "run")[-1]
    assert (last["event"], last["round"], last["reason"]) == ("stopped", 1, "KeyboardInterrupt")
    assert "raise KeyboardInterrupt" in last["trace"]
    assert not Result.load(tmp_path / "run").finished
    quiet(experiment(rounds=3), tmp_path / "run", resume=True)
    quiet(experiment(rounds=3), tmp_path / "unbroken")
    assert_equal_runs(tmp_path / "run", tmp_path / "unbroken")


def test_a_failing_client_stops_the_run_with_nothing_lost(tmp_path):
    def fail(client, number, delta):
        if (client, number) == ("client-001", 3):
            raise RuntimeError("the sensor is unplugged")
        return delta

    setting = experiment(rounds=4, training=Training(keep_state=True))
    with pytest.raises(ClientError, match=r"client 'client-001' failed in round 3: .*the sensor is unplugged"):
        quiet(setting, tmp_path / "run", intervene=fail)
    kept = Result.load(tmp_path / "run")
    assert [line["round"] for line in kept.rounds] == [0, 1, 2]
    assert "sensor" in events(tmp_path / "run")[-1]["reason"]
    quiet(setting, tmp_path / "run", resume=True)
    quiet(setting, tmp_path / "unbroken")
    assert_equal_runs(tmp_path / "run", tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda t: t.fill_(float("nan")), "NaN or infinite"),
        (lambda t: t[:1], r"of shape \(2, 3\), got .*of shape \(1, 3\)"),
    ],
)
def test_an_unacceptable_update_stops_the_run(tmp_path, damage, reason):
    def intervene(client, number, delta):
        return delta if client != "client-002" else delta | {"readout.weight": damage(delta["readout.weight"])}

    with pytest.raises((UpdateError, ClientError), match=f"client 'client-002' failed in round 1: .*{reason}"):
        quiet(experiment(), tmp_path / "run", intervene=intervene)
    assert Result.load(tmp_path / "run").rounds[-1]["round"] == 0


def test_a_resumed_attempt_draws_fresh_keys(tmp_path, monkeypatch):
    sealed: list[Header] = []
    nonces: list[bytes] = []
    original = Aead.unseal

    def unseal(self, data, *rest):
        header, payload = original(self, data, *rest)
        sealed.append(header)
        start = 10 + int.from_bytes(data[6:10], "big")
        nonces.append(data[start : start + 12])
        return header, payload

    monkeypatch.setattr(Aead, "unseal", unseal)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            quiet(experiment(rounds=3), tmp_path / "run", resume=True, intervene=interrupt_in(number))
    quiet(experiment(rounds=3), tmp_path / "run", resume=True)
    assert {header.attempt for header in sealed} == {1, 2, 3}
    assert len({header.run for header in sealed}) == 1
    assert {header.round for header in sealed if header.attempt == 3} == {2, 3}
    keys = [header.key_ids for header in sealed]
    assert len(keys) > 20
    assert len(set(keys)) == len(keys)
    assert len(set(nonces)) == len(nonces)


def test_clients_may_be_called_anything(tmp_path):
    names = [("a/b", "a", "größe m.x")[i // 2 % 3] for i in range(90)]
    setting = experiment(
        data=arrays(clients=names),
        clients=Clients(partition=Natural()),
        training=Training(optimizer=Adam(lr=0.05), keep_state=True),
        rounds=3,
    )
    with pytest.raises(KeyboardInterrupt):
        quiet(setting, tmp_path / "run", intervene=interrupt_in(3))
    quiet(setting, tmp_path / "run", resume=True)
    quiet(setting, tmp_path / "unbroken")
    assert_equal_runs(tmp_path / "run", tmp_path / "unbroken")


def test_an_experiment_may_be_given_as_the_path_of_its_file(tmp_path):
    file = experiment(rounds=1).save(tmp_path)
    made = quiet(file, tmp_path / "by path")
    assert made.experiment.identity == experiment(rounds=1).identity
    assert run(str(file), made.directory, resume=True, progress=False).rounds == made.rounds


def test_what_is_known_to_be_wrong_stops_a_run_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("qfedfm.runs.prepare", None)
    with pytest.raises(ConfigurationError, match="reads texts and the data are numbers"):
        quiet(experiment(backbone=MiniLM()), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_found_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (quiet(experiment(), None).directory for _ in range(2))
    assert first != second
    assert {first.parent.name, second.parent.name} == {"runs"}
    assert choose(experiment(), None, resume=True) == second
    assert choose(experiment(seed=9), None, resume=True) not in (first, second)
    with pytest.raises(KeyboardInterrupt):
        quiet(experiment(), None, intervene=interrupt_in(1))
    third = choose(experiment(), None, resume=True)
    assert third not in (first, second)
    assert quiet(experiment(), None, resume=True).directory == third


def test_federations_measured_together_are_measured_as_if_alone():
    setting = experiment()
    prepared = prepare(setting)
    model = bind(setting, prepared)
    many = [federate(replace(setting, seed=seed), prepared, model, run_id="r") for seed in range(3)]
    for one, together in zip(many, measure(many), strict=True):
        (alone,) = measure([one])
        assert together["test"] == pytest.approx(alone["test"])
        assert together["validation"] == pytest.approx(alone["validation"])
        assert together["per_client"].keys() == alone["per_client"].keys()


def test_precision_and_momentum(tmp_path):
    setting = experiment(
        precision="float64", head=Mlp(hidden=(4,)), training=Training(optimizer=Sgd(lr=0.1, momentum=0.9))
    )
    result = quiet(setting, tmp_path / "run")
    assert {tensor.dtype for tensor in result.params.values()} == {torch.float64}
    assert {p.dtype for p in result.model.params.values()} == {torch.float64}


def test_too_few_rows_are_named_before_a_directory_is_made(tmp_path):
    with pytest.raises(ConfigurationError, match="min_rows"):
        quiet(experiment(clients=Clients(count=40, partition=IID())), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
