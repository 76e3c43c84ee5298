"""Clients that fail, err or lie: each is named with its round, and the model stays that of the round before."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_federation import (
    LABELS,
    LINEAR,
    SIZES,
    TABLE,
    MomentumMean,
    Wire,
    federation,
    forge,
    snapshot,
)
from torch import Tensor

from qfedfm.errors import ClientError, ConfigurationError, KeyExhausted, QuorumError, UpdateError
from qfedfm.federation import Clients, Failure, run_round
from qfedfm.federation.server import unacceptable
from qfedfm.params import Params, params_hash
from qfedfm.qkd import Key, PresharedKeys

WEIGHT, BIAS = (spec.name for spec in LINEAR.specs)
GOOD = {"rows": 4, "steps": 1, "executions": 0, "loss": 0.5}
DELTA = {spec.name: torch.full(spec.shape, 0.1, dtype=torch.float64) for spec in LINEAR.specs}


def with_entry(value: float) -> Params:
    changed = {name: tensor.clone() for name, tensor in DELTA.items()}
    changed[WEIGHT][1, 2] = value
    return changed


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (lambda delta: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda delta: with_entry(math.nan), "parameter 'readout.weight' has 1 of 6 values that are NaN or infinite"),
        (lambda delta: with_entry(-math.inf), "parameter 'readout.weight' has 1 of 6 values that are NaN or infinite"),
        (lambda delta: delta | {BIAS: torch.zeros(3, dtype=torch.float64)}, r"'readout.bias' should be .* \(2,\), got"),
        (lambda delta: delta | {BIAS: delta[BIAS].float()}, "'readout.bias' should be .*got torch.float32"),
        (lambda delta: {WEIGHT: delta[WEIGHT]}, "'readout.bias' should be .*got none"),
    ],
    ids=["raises", "NaN", "infinite", "shape", "type", "missing"],
)
def test_a_client_that_fails_is_named_with_its_round_and_nothing_is_lost(
    send: Callable[[Params], Params], reason: str
) -> None:
    broken = {2: "bert"}

    def intervene(client: str, number: int, delta: Params) -> Params:
        return send(delta) if broken.get(number) == client else delta

    server, engine = federation(aggregator=MomentumMean(), intervene=intervene)
    clean, clean_engine = federation(aggregator=MomentumMean())
    run_round(server, engine)
    before = snapshot(server)
    with pytest.raises(ClientError, match=f"client 'bert' failed in round 2: .*{reason}") as caught:
        run_round(server, engine)
    assert (caught.value.client, caught.value.round) == ("bert", 2)
    assert snapshot(server) == before
    broken.clear()
    run_round(server, engine)
    for _ in range(2):
        run_round(clean, clean_engine)
    assert snapshot(server) == snapshot(clean)


def test_a_client_that_does_not_answer_or_is_reported_lost_is_named() -> None:
    server, engine = federation()
    before = snapshot(server)
    with pytest.raises(ClientError, match="client 'cleo' failed in round 1: no answer"):
        run_round(server, Wire(engine, up=lambda replies: {c: r for c, r in replies.items() if c != "cleo"}))
    with pytest.raises(ClientError, match="client 'anna' failed in round 1: timed out after 9 s"):
        run_round(server, Wire(engine, up=lambda replies: replies | {"anna": Failure("timed out after 9 s")}))
    assert snapshot(server) == before
    run_round(server, engine)


def test_training_that_breaks_on_one_clients_data_is_that_clients_failure() -> None:
    labels = LABELS.clone()
    labels[9 + 2] = 7  # a row of bert's
    server, engine = federation(labels=labels)
    before = snapshot(server)
    wire = Wire(engine)
    with pytest.raises(ClientError, match="client 'bert' failed in round 1: IndexError: Target 7 is out of bounds"):
        run_round(server, wire)
    assert {client for client, reply in wire.answered[0].items() if isinstance(reply, bytes)} == {"anna", "cleo"}
    assert snapshot(server) == before


def test_nan_in_one_clients_features_is_that_clients_failure() -> None:
    table = TABLE.clone()
    table[9 + 2] = math.nan
    server, engine = federation(table=table)
    with pytest.raises(UpdateError, match=r"client 'bert' failed in round 1: parameter 'readout.weight' has 6 of 6"):
        run_round(server, engine)


@pytest.mark.parametrize("value", [0, -1, 5, 3.0, True, "4", None, [4], 10**30, "missing"], ids=repr)
def test_an_impossible_row_count_is_refused(value: object) -> None:
    report = {name: entry for name, entry in (GOOD | {"rows": value}).items() if entry != "missing"}
    refused(report, r"reports rows = .*; expected a whole number from 1 to 4")


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (GOOD | {"steps": 0}, "reports steps = 0; expected a whole number from 1"),
        (GOOD | {"executions": -1}, "reports executions = -1; expected a whole number from 0"),
        (GOOD | {"executions": 1e3}, "reports executions = 1000.0; expected a whole number"),
        ({name: GOOD[name] for name in ("rows", "steps", "loss")}, "reports executions = None"),
        ({name: GOOD[name] for name in ("rows", "executions", "loss")}, "reports steps = None"),
        ({name: GOOD[name] for name in ("rows", "steps", "executions")}, "reports loss = None; expected a finite"),
        (GOOD | {"loss": math.nan}, "reports loss = nan"),
        (GOOD | {"loss": math.inf}, "reports loss = inf"),
        (GOOD | {"loss": "low"}, "reports loss = 'low'"),
        ({}, "reports rows = None"),
        ([GOOD], "the report of 'bert' is not a JSON object"),
        (b"", "the report of 'bert' is not JSON"),
        (b'{"rows": 4', "the report of 'bert' is not JSON"),
        (b"\xff\xfe\xfd", "the report of 'bert' is not JSON"),
        (b"[" * 100_000, "the report of 'bert' is not JSON"),
        (b"1" * 100_000, "the report of 'bert' is not JSON"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_reports_that_mean_nothing_are_refused(report: object, reason: str) -> None:
    refused(report, reason)


def test_a_long_lie_makes_a_short_message() -> None:
    assert len(refused(GOOD | {"rows": "x" * 100_000}, "reports rows = 'xxx")) < 300


def test_an_honest_report_passes_the_same_way() -> None:
    server, engine = federation()
    forged = Wire(engine, up=lambda replies: replies | {"bert": forge(server, engine, "bert", DELTA, GOOD)})
    outcome = run_round(server, forged)
    assert [entry.rows for entry in outcome.entries] == [9, 4, 17]


def refused(report: object, reason: str) -> str:
    """Let bert send a report in a sealed update; check that it is refused by name, and return the message."""
    server, engine = federation(aggregator=MomentumMean())
    run_round(server, engine)
    before = snapshot(server)
    lying = Wire(engine, up=lambda replies: replies | {"bert": forge(server, engine, "bert", DELTA, report)})
    with pytest.raises(UpdateError, match=f"^client 'bert' failed in round 2: {reason}") as caught:
        run_round(server, lying)
    assert snapshot(server) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({BIAS: torch.zeros(3, dtype=torch.float64)}, r"parameter 'readout.bias' is torch.float64 \(3,\); expected"),
        ({BIAS: torch.zeros(2, 1, dtype=torch.float64)}, r"parameter 'readout.bias' is torch.float64 \(2, 1\)"),
        ({BIAS: torch.zeros(2)}, r"parameter 'readout.bias' is torch.float32 \(2,\); expected torch.float64 \(2,\)"),
        ({"extra": torch.zeros(1)}, r"unexpected parameters \['extra'\]"),
    ],
    ids=["longer", "another axis", "type", "one too many"],
)
def test_whatever_a_codec_yields_is_held_against_the_specs(change: Params, reason: str) -> None:
    assert unacceptable(DELTA, GOOD, LINEAR.specs, 4) == ""
    assert re.match(reason, unacceptable(DELTA | change, GOOD, LINEAR.specs, 4))
    assert unacceptable({WEIGHT: DELTA[WEIGHT]}, GOOD, LINEAR.specs, 4) == "parameter 'readout.bias' is missing"


def test_a_client_with_another_model_is_refused() -> None:
    server, engine = federation()
    _, other = federation(model=replace(LINEAR, specs=LINEAR.specs[::-1]), source=server.channel.source)
    forged = Wire(engine, up=lambda replies: replies | {"bert": forge(server, other, "bert", DELTA, GOOD)})
    with pytest.raises(UpdateError, match="client 'bert' failed in round 1: envelope refused: spec_hash should be"):
        run_round(server, forged)


def test_an_update_of_another_model_is_refused() -> None:
    server, engine = federation()
    forged = Wire(engine, up=lambda replies: replies | {"bert": forge(server, engine, "bert", DELTA, GOOD, "0" * 64)})
    with pytest.raises(UpdateError, match="client 'bert' failed in round 1: envelope refused: base_hash should be"):
        run_round(server, forged)


def test_the_first_client_that_failed_is_named_whatever_the_others_did() -> None:
    def intervene(client: str, number: int, delta: Params) -> Params:
        raise ValueError(client.upper())

    server, engine = federation(intervene=intervene)
    with pytest.raises(ClientError, match="client 'anna' failed in round 1: ValueError: ANNA"):
        run_round(server, engine)


def test_a_model_whose_apply_raises_fails_every_client_by_name() -> None:
    def apply(params: Params, features: Tensor) -> Tensor:
        raise RuntimeError("no such kernel")

    server, engine = federation(model=replace(LINEAR, apply=apply))
    hashed = params_hash(server.params)
    replies = engine.exchange(server.begin())
    assert replies == {client: Failure("RuntimeError: no such kernel") for client in SIZES}
    with pytest.raises(ClientError, match="client 'anna' failed in round 1: RuntimeError: no such kernel"):
        server.finish(replies)
    assert params_hash(server.params) == hashed


class CutOff:
    """A key source that has none for one client, in one direction or both, and notes the rounds it is told of."""

    def __init__(self, client: str, direction: str) -> None:
        self.keys, self.client, self.direction, self.rounds = PresharedKeys().connect(), client, direction, []

    def begin_round(self, round: int) -> None:
        self.rounds.append(round)

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        if self.client == {"down": receiver, "up": sender}[self.direction]:
            raise KeyExhausted("no key is left")
        return self.keys.draw(sender, receiver, bits, purpose)

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:
        return self.keys.fetch(sender, receiver, ids, bits, purpose)


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_client_without_a_key_is_excluded_and_the_others_go_on_as_if_alone(direction: str) -> None:
    source = CutOff("bert", direction)
    server, engine = federation(source=source, fewest=2)
    alone, alone_engine = federation(fewest=2)
    for _ in range(2):
        outcome = run_round(server, engine)
        assert outcome.clients == ("anna", "cleo")
        assert outcome.excluded == {"bert": "no key is left"}
        lost = run_round(alone, Wire(alone_engine, up=lambda replies: replies | {"bert": Failure("lost")}))
        assert lost.train_loss == outcome.train_loss
        assert params_hash(server.params) == params_hash(alone.params)
        costs = {entry.client: entry for entry in outcome.entries}
        assert ("bert" in costs) == (direction == "up")
        assert all(costs[name].bytes_up and costs[name].rows for name in outcome.clients)
    if direction == "up":
        assert (costs["bert"].bytes_up, costs["bert"].rows) == (0, 0)
        assert costs["bert"].bytes_down > 0
    assert source.rounds == [1, 2]


def test_below_the_quorum_the_round_stops_with_every_reason_and_nothing_is_lost() -> None:
    server, engine = federation(fewest=2)
    before = snapshot(server)
    lost = {name: Failure(f"{name} is away") for name in ("anna", "cleo")}
    with pytest.raises(QuorumError, match=r"round 1 needs 2 clients and 1 are left .*anna is away.*cleo is away"):
        run_round(server, Wire(engine, up=lambda replies: replies | lost))
    assert snapshot(server) == before


def test_an_excluded_clients_update_never_counts() -> None:
    def intervene(client: str, number: int, delta: Params) -> Params:
        return with_entry(math.nan) if client == "cleo" else delta

    server, engine = federation(intervene=intervene, fewest=1)
    outcome = run_round(server, engine)
    assert outcome.clients == ("anna", "bert")
    assert "NaN or infinite" in outcome.excluded["cleo"]
    assert all(bool(tensor.isfinite().all()) for tensor in server.params.values())


def test_how_many_clients_a_round_needs() -> None:
    assert Clients().fewest(7) == 7
    assert Clients(failing="exclude").fewest(7) == 1
    assert Clients(failing="exclude", quorum=0.5).fewest(7) == 4
    assert Clients(failing="exclude", quorum=3).fewest(7) == 3
    with pytest.raises(ConfigurationError, match=r"Clients.quorum: 9 clients of 7 a round"):
        Clients(failing="exclude", quorum=9).fewest(7)
    for quorum in (0, -1, 1.5):
        with pytest.raises(ConfigurationError, match=r"Clients.quorum: expected"):
            Clients(quorum=quorum)
