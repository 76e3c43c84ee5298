"""Training along seeded directions: against plain loops with an independent Philox, and in whole federations."""

from dataclasses import replace

import numpy as np
import philox
import pytest
import torch
from torch.nn.functional import cross_entropy

import qfedfm
from qfedfm.assembly import bind, federate, prepare
from qfedfm.attacks import Adversary, SignFlip
from qfedfm.backbones import Identity
from qfedfm.client_rules import FedProx, Ifca
from qfedfm.codecs import Dense, SeedScalar
from qfedfm.codecs.seeds import reconstruct
from qfedfm.data import IID, from_arrays
from qfedfm.errors import ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training, run_round
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.params import params_hash, stack
from qfedfm.privacy import DpSgd, LocalDp
from qfedfm.seeds import stream
from qfedfm.training import Lane, SeededDescent, Sgd, train_cohort

TABLE = torch.from_numpy(stream(0, "table").normal(size=(60, 3)))
LABELS = torch.from_numpy(stream(0, "labels").integers(2, size=60))
ROWS = np.arange(10), np.arange(10, 34), np.arange(34, 60)
LINEAR = Linear().bind(3, 2).with_precision("float64")


def lanes(optimizer):
    return [Lane(rows, stream(0, "order", i), optimizer, stream(0, "z", i)) for i, rows in enumerate(ROWS)]


def signs(seed, size):
    """The signs of a direction from the bits of an independent Philox."""
    words = philox.words(seed, -(-size // 64))
    return np.array([1.0 if words[i // 64] >> (i % 64) & 1 else -1.0 for i in range(size)])


def test_a_cohort_walks_as_each_client_would_in_a_plain_loop():
    rate, h, batch = 0.02, 0.05, 8
    start = stack([LINEAR.init(i) for i in range(3)])
    trained = train_cohort(
        LINEAR, start, TABLE, LABELS, lanes(SeededDescent(rate, h)), batch_size=batch, epochs=2, memory_budget=1
    )
    assert trained.steps == [4, 6, 8]
    assert trained.examples == [40, 96, 104]  # every row twice a step
    for i, rows in enumerate(ROWS):
        made, order = trained.walked[i], stream(0, "order", i)
        batches = [
            shuffled[k : k + batch]
            for _ in range(2)
            for shuffled in [rows[order.permutation(len(rows))]]
            for k in range(0, len(rows), batch)
        ]
        w = torch.cat([start[spec.name][i].flatten() for spec in LINEAR.specs])
        for chosen, seed, scalar in zip(batches, made.seeds, made.scalars, strict=True):
            z = torch.from_numpy(signs(int(seed), 8))

            def loss(at, chosen=chosen):
                return float(cross_entropy(TABLE[chosen] @ at[:6].view(2, 3).T + at[6:], LABELS[chosen]))

            expected = -rate * (loss(w + h * z) - loss(w - h * z)) / (2 * h)
            assert scalar == pytest.approx(expected, abs=1e-14)
            w = w + expected * z
        moved = reconstruct(made, LINEAR.specs)
        for spec in LINEAR.specs:
            torch.testing.assert_close(trained.params[spec.name][i], start[spec.name][i] + moved[spec.name])


def test_the_mean_over_directions_is_the_gradient():
    # E z z^T = 1: one step from the same place by 4,000 clients, whose mean is a step of plain descent. A component of
    # s z has deviation |g|, so the mean lies within 5 |g| / sqrt(4,000) of it
    rows, count = np.arange(30), 4000
    start = stack([LINEAR.init(0)] * count)
    many = [Lane(rows, stream(0, "order"), SeededDescent(1.0, 1e-4), stream(0, "z", i)) for i in range(count)]
    walked = train_cohort(LINEAR, start, TABLE, LABELS, many, batch_size=30)
    plain = train_cohort(
        LINEAR, stack([LINEAR.init(0)]), TABLE, LABELS, [Lane(rows, stream(0), Sgd(lr=1.0))], batch_size=30
    )
    mean, step = (
        torch.cat([(t.params[s.name] - start[s.name][: len(t.loss)]).mean(0).flatten() for s in LINEAR.specs])
        for t in (walked, plain)
    )
    assert float((mean - step).abs().max()) < 5 * float(step.norm()) / count**0.5
    assert float(walked.loss[0]) == pytest.approx(float(plain.loss[0]), abs=1e-6)


def declared(**changes):
    rng = np.random.default_rng(5)
    labels = np.arange(150) % 2
    given = {
        "data": from_arrays(rng.normal(size=(150, 5)) + 1.2 * labels[:, None], labels),
        "backbone": Identity(),
        "head": Mlp((6,)),
        "clients": Clients(count=3, partition=IID()),
        "training": Training(SeededDescent(lr=0.02, spacing=0.01), batch_size=16, steps=20),
        "codec": SeedScalar(20),
        "rounds": 6,
    }
    return Experiment(**given | changes)


def federated(experiment):
    prepared = prepare(experiment, progress=False)
    return federate(experiment, prepared, bind(experiment, prepared), run_id="run")


@pytest.mark.parametrize("head", [Mlp((6,)), Variational("angle_ring", {"n": 2})], ids=["mlp", "circuit"])
def test_seeds_and_scalars_make_the_federation_of_dense_updates_bit_for_bit(head):
    seeded, dense = federated(declared(head=head)), federated(declared(head=head, codec=Dense()))
    for _ in range(3):
        first, second = (run_round(one.server, one.engine) for one in (seeded, dense))
        assert params_hash(seeded.server.params) == params_hash(dense.server.params)
        assert first.train_loss == second.train_loss


def test_only_seeds_and_scalars_travel_up_and_it_learns(tmp_path):
    result = qfedfm.run(declared(), tmp_path / "run", progress=False)
    assert result.to_frame()["validation_loss"].iloc[-1] < 0.8 * result.to_frame()["validation_loss"].iloc[0]
    wide = qfedfm.run(declared(head=Mlp((600,)), rounds=1), tmp_path / "wide", progress=False)
    ups = {entry.bytes_up for entry in wide.ledger.entries} | {entry.bytes_up for entry in result.ledger.entries}
    assert (
        max(ups) - min(ups) < 16
    )  # 16 bytes a step whatever the head's size, and a report of some more or less digits
    assert 320 < min(ups) < 1500
    assert min(entry.bytes_down for entry in wide.ledger.entries) > 4 * 600 * 8


def test_an_attackers_update_goes_through_the_codec_as_any_does():
    one = federated(declared(adversary=Adversary(SignFlip(), 0.4)))
    run_round(one.server, one.engine)
    attackers = one.engine.cohort.attackers
    assert attackers
    for client, memory in one.engine.cohort.memory.items():
        assert client in attackers, memory.keys()  # the projection leaves something out and remembers it
    assert one.engine.cohort.memory.keys() == attackers


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": FedProx()}, "Training.rule: SeededDescent"),
        ({"max_grad_norm": 1.0}, "Training.max_grad_norm: SeededDescent"),
        ({"privacy": DpSgd()}, "Training.privacy: SeededDescent"),
    ],
)
def test_what_changes_gradients_is_refused_where_there_are_none(changes, words):
    with pytest.raises(ConfigurationError, match=words):
        replace(declared().training, **changes)
    replace(declared().training, rule=Ifca())
    replace(declared().training, privacy=LocalDp())


def test_more_steps_than_the_codec_sends_are_refused_when_declared():
    with pytest.raises(ConfigurationError, match="at most 8 directions; got 20 steps"):
        declared(codec=SeedScalar(8))
    with pytest.raises(ConfigurationError, match="one rate"):
        SeededDescent(rates={"core": 0.1})
