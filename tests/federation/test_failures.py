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

from qfedfm.errors import ClientError, UpdateError
from qfedfm.federation import Failure, run_round
from qfedfm.federation.server import unacceptable
from qfedfm.params import Params, params_hash

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
