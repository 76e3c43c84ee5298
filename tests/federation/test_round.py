"""Whole rounds: against gradient descent in plain torch, alone and together, counted, selected, and repeated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_federation import (
    FEATURES,
    LABELS,
    LINEAR,
    SIZES,
    TABLE,
    WHOLE_BATCH,
    CountingKeys,
    MomentumMean,
    Wire,
    federation,
    snapshot,
)
from torch.nn.functional import cross_entropy

from qfedfm.aggregation import AngularMean, Mean
from qfedfm.errors import ClientError, ConfigurationError
from qfedfm.federation import Clients, Training, run_round
from qfedfm.federation.local import exchange_together
from qfedfm.heads import Mlp, Variational
from qfedfm.params import Params, params_hash, stack
from qfedfm.qkd import PresharedKeys
from qfedfm.seeds import stream
from qfedfm.training import Adam, Lane, Sgd, train_cohort

QUANTUM = Variational("strongly_entangling", {"n": 2, "layers": 1}).bind(FEATURES, 2).with_precision("float64")


def assert_equal(one: Params, other: Params, tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "sizes", [{"anna": 30}, SIZES, {f"c{i}": 1 for i in range(30)}], ids=["one", "three", "thirty"]
)
def test_whole_batches_and_one_step_are_centralised_gradient_descent(sizes: dict[str, int]) -> None:
    server, engine = federation(sizes, aggregator=Mean())
    weight, bias = (tensor.clone().requires_grad_() for tensor in server.params.values())
    for _ in range(3):
        loss = cross_entropy(TABLE[:30] @ weight.T + bias, LABELS[:30])
        outcome = run_round(server, engine)
        assert outcome.train_loss == pytest.approx(loss.item(), abs=1e-10)
        gradients = torch.autograd.grad(loss, [weight, bias])
        with torch.no_grad():
            for tensor, gradient in zip((weight, bias), gradients, strict=True):
                tensor -= 0.5 * gradient
    assert server.round == 3
    assert_equal(server.params, {"readout.weight": weight.detach(), "readout.bias": bias.detach()}, 1e-10)


def test_a_round_is_local_training_and_the_mean_of_the_differences_sealed_or_not() -> None:
    training = Training(Adam(lr=0.05, rates={"core": 0.2}), batch_size=4, epochs=2)
    server, engine = federation(model=QUANTUM, training=training, seed=5)
    start = server.params
    rows = list(engine.cohort.rows.values())
    lanes = [Lane(mine, stream(5, "order", name, 1), training.optimizer) for name, mine in engine.cohort.rows.items()]
    local = train_cohort(QUANTUM, stack([start] * 3), TABLE, LABELS, lanes, batch_size=4, epochs=2).params
    shares = torch.tensor([len(mine) / 30 for mine in rows], dtype=torch.float64)
    run_round(server, engine)
    assert_equal(
        server.params, {name: torch.einsum("c,c...->...", shares, tensor) for name, tensor in local.items()}, 1e-10
    )


def test_several_federations_together_equal_each_alone() -> None:
    model = Mlp((4,)).bind(FEATURES, 2).with_precision("float64")
    training = Training(Adam(), batch_size=4, keep_state=True)
    plans = [
        (0, SIZES, training),
        (1, {"anna": 2, "dora": 40}, replace(training, optimizer=Adam(lr=0.1))),
        (2, {"zoe": 1}, replace(training, optimizer=Adam(rates={"core": 0.3}))),
    ]
    alone = [federation(sizes, model=model, training=t, seed=seed) for seed, sizes, t in plans]
    together = [federation(sizes, model=model, training=t, seed=seed) for seed, sizes, t in plans]
    for _ in range(2):
        expected = [run_round(server, engine) for server, engine in alone]
        replies = exchange_together([e for _, e in together], [server.begin() for server, _ in together])
        outcomes = [server.finish(some) for (server, _), some in zip(together, replies, strict=True)]
        assert [outcome.entries for outcome in outcomes] == [outcome.entries for outcome in expected]
        assert [o.train_loss for o in outcomes] == pytest.approx([o.train_loss for o in expected], abs=1e-10)
    for (one, _), (other, _) in zip(alone, together, strict=True):
        assert_equal(one.params, other.params, 1e-10)


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"epochs": 2}, {"steps": 3}], ids=str)
def test_federations_that_train_differently_are_not_served_together(change: dict[str, int]) -> None:
    pair = [federation(training=t) for t in (WHOLE_BATCH, replace(WHOLE_BATCH, **change))]
    with pytest.raises(ConfigurationError, match="must share model, data, batch size, and epochs or steps"):
        exchange_together([engine for _, engine in pair], [server.begin() for server, _ in pair])


@pytest.mark.parametrize(("model", "circuits"), [(LINEAR, 0), (QUANTUM, 1)], ids=["linear", "quantum"])
def test_the_ledger_holds_the_lengths_of_the_envelopes_and_the_bits_that_were_drawn(model, circuits: int) -> None:
    keys = CountingKeys(PresharedKeys().connect())
    training = Training(Sgd(), batch_size=8, epochs=2)
    server, engine = federation(model=model, training=training, source=keys, per_round=2)
    wire = Wire(engine)
    for number in (1, 2):
        keys.drawn.clear()
        outcome = run_round(server, wire)
        assert outcome.number == number
        assert tuple(wire.sent[-1]) == outcome.clients == tuple(entry.client for entry in outcome.entries)
        for entry in outcome.entries:
            n = SIZES[entry.client]
            assert entry.bytes_down == len(wire.sent[-1][entry.client])
            assert entry.bytes_up == len(wire.answered[-1][entry.client])
            assert entry.key_bits == {
                "model": keys.drawn["server", entry.client],
                "update": keys.drawn[entry.client, "server"],
            }
            assert (entry.round, entry.rows, entry.steps) == (number, n, 2 * -(-n // 8))
            assert (entry.executions, entry.shots) == (circuits * 2 * n, 0)
        assert sum(sum(entry.key_bits.values()) for entry in outcome.entries) == sum(keys.drawn.values()) == 4 * 256


def test_clients_are_selected_from_a_stream_of_the_round_alone() -> None:
    sizes = {f"client-{i}": 2 for i in range(10)}
    server, engine = federation(sizes, per_round=3, seed=4)
    chosen = [run_round(server, engine).clients for _ in range(8)]
    assert all(len(set(names)) == 3 and list(names) == sorted(names) for names in chosen)
    for number in range(1, 8):
        later, _ = federation(sizes, per_round=3, seed=4)
        later.round = number
        assert tuple(later.begin()) == chosen[number]
    assert len(set(chosen)) > 4
    others, _ = federation(sizes, per_round=3, seed=5)
    selections = []
    for number in range(200):
        others.round = number
        selections.append(tuple(others.begin()))
    assert selections[:8] != chosen
    # 600 places among 10 clients: each is expected 60 times, standard deviation sqrt(200 * .3 * .7) = 6.5; seed 5
    counts = [sum(name in names for names in selections) for name in sizes]
    assert all(abs(count - 60) < 4 * 6.5 for count in counts)


@pytest.mark.parametrize(
    ("per_round", "enrolled", "expected"),
    [
        (None, 7, 7), (1, 7, 1), (7, 7, 7), (0.5, 7, 4), (0.01, 7, 1), (0.99, 7, 7), (1.0, 7, 7), (3, 7, 3),
        (0.07, 100, 7), (0.14, 50, 7), (0.55, 100, 55), (1 / 3, 9, 3), (0.3, 1, 1),
    ],
)  # fmt: skip
def test_clients_per_round_worked_by_hand(per_round: float | None, enrolled: int, expected: int) -> None:
    assert Clients(per_round=per_round).number_per_round(enrolled) == expected


@pytest.mark.parametrize("per_round", [0, -1, 1.5, 3.0, float("inf"), float("nan"), -0.5])
def test_impossible_numbers_of_clients_are_refused(per_round: float) -> None:
    with pytest.raises(ConfigurationError, match="expected a number of clients such as 5, or a fraction"):
        Clients(per_round=per_round)


def test_more_clients_than_enrolled_and_other_bad_declarations_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="8 clients a round of 7 enrolled; choose at most 7"):
        Clients(per_round=8).number_per_round(7)
    for make, message in [
        (lambda: Clients(count=0), "Clients.count: expected at least 1; got 0"),
        (lambda: Clients(min_rows=0), "Clients.min_rows: expected at least 1; got 0"),
        (lambda: Training(epochs=0), "Training.epochs: expected at least 1; got 0"),
        (lambda: Training(steps=0), "Training.steps: expected at least 1; got 0"),
        (lambda: Training(batch_size=-1), "Training.batch_size: expected at least 1; got -1"),
        (lambda: Training(optimizer="adam"), "Training.optimizer: .*got 'adam'"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            make()


@pytest.mark.parametrize("keep", [True, False])
def test_optimiser_state_lives_on_only_where_it_should(keep: bool) -> None:
    training = Training(Sgd(lr=0.1, momentum=0.9), batch_size=200, keep_state=keep)
    server, engine = federation({"anna": 12}, training=training, aggregator=Mean())
    params = {name: tensor.clone().requires_grad_() for name, tensor in server.params.items()}

    def fresh() -> torch.optim.Optimizer:
        return torch.optim.SGD(list(params.values()), lr=0.1, momentum=0.9)

    optimizer = fresh()
    for _ in range(3):
        optimizer = optimizer if keep else fresh()
        optimizer.zero_grad()
        cross_entropy(TABLE[:12] @ params["readout.weight"].T + params["readout.bias"], LABELS[:12]).backward()
        optimizer.step()
        run_round(server, engine)
    assert_equal(server.params, {name: tensor.detach() for name, tensor in params.items()}, 1e-10)
    assert set(engine.cohort.memory) == ({"anna"} if keep else set())


def test_the_rules_state_and_info_are_carried_from_round_to_round() -> None:
    server, engine = federation(aggregator=MomentumMean())
    assert run_round(server, engine).info == {"round": 1}
    first = server.state
    before = server.params
    assert run_round(server, engine).info == {"round": 2}
    for name, tensor in server.params.items():
        torch.testing.assert_close(server.state[f"v.{name}"], tensor - before[name], rtol=0, atol=1e-12)
        assert not torch.equal(server.state[f"v.{name}"], first[f"v.{name}"])


@pytest.mark.parametrize(
    "training", [WHOLE_BATCH, Training(Adam(), batch_size=4, keep_state=True)], ids=["sgd", "kept"]
)
def test_a_failed_round_can_be_repeated_as_if_it_had_not_been(training: Training) -> None:
    failing = {2}

    def intervene(client: str, number: int, delta: Params) -> Params:
        if client == "bert" and number in failing:
            raise RuntimeError("power cut")
        return delta

    clean, clean_engine = federation(training=training, aggregator=MomentumMean(), per_round=2, seed=24)
    expected = [run_round(clean, clean_engine) for _ in range(4)]
    assert [outcome.clients for outcome in expected[:2]] == [("anna", "bert"), ("bert", "cleo")]
    server, engine = federation(training=training, aggregator=MomentumMean(), per_round=2, seed=24, intervene=intervene)
    outcomes = [run_round(server, engine)]
    before = snapshot(server)
    for _ in range(2):
        with pytest.raises(ClientError, match="client 'bert' failed in round 2: RuntimeError: power cut"):
            run_round(server, engine)
        assert snapshot(server) == before
    failing.clear()
    outcomes += [run_round(server, engine) for _ in range(3)]
    assert outcomes == expected
    assert snapshot(server) == snapshot(clean)
    assert {c: params_hash(s) for c, s in engine.cohort.memory.items()} == {
        c: params_hash(s) for c, s in clean_engine.cohort.memory.items()
    }


def test_angles_travel_the_shorter_way_round_and_weights_as_they_are() -> None:
    sent: list[Params] = []

    def note(client: str, number: int, delta: Params) -> Params:
        sent.append(delta)
        return delta

    training = Training(Sgd(lr=1.0, rates={"core": 1000.0}), batch_size=4)
    run_round(*federation({"anna": 16}, model=QUANTUM, training=training, intervene=note))
    lane = Lane(np.arange(16), stream(0, "order", "anna", 1), training.optimizer)
    start = QUANTUM.init(0)
    local = train_cohort(QUANTUM, stack([start]), TABLE, LABELS, [lane], batch_size=4).params
    walked = {name: tensor[0] - start[name] for name, tensor in local.items()}
    assert walked["circuit.weights"].abs().max() > 2 * np.pi
    assert sent[0]["circuit.weights"].abs().max() <= np.pi
    assert_equal(
        sent[0] | {"circuit.weights": torch.exp(1j * sent[0]["circuit.weights"])},
        walked | {"circuit.weights": torch.exp(1j * walked["circuit.weights"])},
        1e-8,
    )


def test_replies_in_any_order_give_the_same_model() -> None:
    one, other = (federation(aggregator=AngularMean()) for _ in range(2))
    run_round(*one)
    run_round(other[0], Wire(other[1], up=lambda replies: dict(reversed(replies.items()))))
    assert snapshot(one[0]) == snapshot(other[0])


def test_a_clients_training_does_not_depend_on_who_else_is_enrolled() -> None:
    received: list[dict[str, np.ndarray]] = []

    def note(client: str, number: int, delta: Params) -> Params:
        if client == "anna":
            received.append({name: tensor.numpy() for name, tensor in delta.items()})
        return delta

    training = Training(Adam(), batch_size=4)
    for sizes in (SIZES, {"anna": 9}, {"anna": 9, "zoe": 50}):
        run_round(*federation(sizes, training=training, intervene=note))
    for other in received[1:]:
        for name, values in received[0].items():
            np.testing.assert_allclose(other[name], values, rtol=0, atol=1e-12)
