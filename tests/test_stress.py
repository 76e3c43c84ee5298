"""Federations under attack: what rules make of it, rehearsed as it would really happen, and the matrix of it all."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import arrays, experiment

import qfedfm
from qfedfm.aggregation import AngularMean, Mean
from qfedfm.assembly import bind, federate, prepare
from qfedfm.attacks import Adversary, Backdoor, LabelFlip, PeriodShift, SignFlip
from qfedfm.data import IID
from qfedfm.declaration import declared
from qfedfm.errors import ConfigurationError
from qfedfm.federation import Clients, Training, run_round
from qfedfm.federation.rehearsal import rehearse
from qfedfm.heads import Variational
from qfedfm.params import params_hash
from qfedfm.training import Adam
from qfedfm.trust import stress

EXPERIMENT = experiment(
    data=arrays(200, 6, 0.8),
    clients=Clients(count=5, partition=IID()),
    training=Training(optimizer=Adam(lr=0.1), batch_size=8, steps=4),
    rounds=3,
)
CIRCUIT = replace(EXPERIMENT, head=Variational("angle_ring", {"n": 2}))


def federation(made, intervene=None):
    prepared = prepare(made, progress=False)
    return federate(made, prepared, bind(made, prepared), run_id="run", intervene=intervene)


@pytest.mark.parametrize("adversary", [None, Adversary(SignFlip(), 0.4), Adversary(LabelFlip(0.5), 0.4)])
def test_a_rehearsed_round_is_the_sealed_round(adversary):
    made = replace(CIRCUIT, adversary=adversary, training=replace(CIRCUIT.training, keep_state=True))
    sealed, rehearsed = federation(made), federation(made)
    for _ in range(2):
        outcome = run_round(sealed.server, sealed.engine)
        (other,) = rehearse([(rehearsed.server, rehearsed.engine.cohort)])
        assert other.train_loss == outcome.train_loss
        assert params_hash(rehearsed.server.params) == params_hash(sealed.server.params)
    assert sealed.state().keys() == rehearsed.state().keys()


def test_attackers_send_what_the_attack_says_and_others_what_they_trained():
    sent = {}
    for name, adversary in (("honest", None), ("attacked", Adversary(SignFlip(2.0), 0.4))):
        deltas = sent.setdefault(name, {})
        made = federation(
            replace(EXPERIMENT, adversary=adversary),
            lambda client, number, delta, deltas=deltas: deltas.setdefault(client, delta),
        )
        run_round(made.server, made.engine)
    attackers = made.engine.cohort.attackers
    assert len(attackers) == 2
    for client, honest in sent["honest"].items():
        for name, delta in honest.items():
            torch.testing.assert_close(sent["attacked"][client][name], -2 * delta if client in attackers else delta)


def test_an_attack_on_data_changes_the_attackers_rows_alone():
    adversary = Adversary(LabelFlip(0.5), 0.4)
    attacked, plain = federation(replace(EXPERIMENT, adversary=adversary)), federation(EXPERIMENT)
    labels, rows = attacked.prepared.labels, len(attacked.prepared.dataset)
    for name, mine in attacked.engine.cohort.rows.items():
        honest = plain.engine.cohort.rows[name]
        np.testing.assert_array_equal(mine % rows, honest)
        changed = mine >= rows
        assert changed.sum() == (round(len(honest) / 2) if name in attacked.engine.cohort.attackers else 0)
        assert torch.equal(labels[mine[changed]], 1 - labels[honest[changed]])
    assert attacked.split.test.max() < rows


def test_a_backdoor_is_measured_on_triggered_rows_of_other_classes(tmp_path):
    def success(share):
        attack = Adversary(Backdoor(share=share, width=0.2, value=5.0), 0.4)
        made = replace(EXPERIMENT, data=arrays(300, 20, 0.6), adversary=attack, rounds=10)
        result = qfedfm.run(made, tmp_path / f"run-{share}", progress=False)
        assert result.rounds[-1]["test"]["accuracy"] > 0.75
        return result.rounds[-1]["backdoor"]["success"]

    # the trigger looks like the other class, so without poison (a share of next to nothing) it opens nothing
    assert success(1e-9) < 0.05 < 0.4 < success(0.5)


@declared
class Needs:
    """A rule that refuses less than 2 f + 3 clients, and wraps another."""

    f: int = 0
    of: object = Mean()

    def init(self, specs):
        return {}

    def __call__(self, state, params, updates, specs, context):
        if len(updates.clients) < 2 * self.f + 3:
            raise ConfigurationError(f"needs 2 f + 3 clients; got {len(updates.clients)} and f = {self.f}")
        return self.of({}, params, updates, specs, context)


def test_the_matrix_has_every_cell_and_says_what_was_refused():
    rules = {"mean": Mean(), "angular": AngularMean(), "needs": Needs()}
    attacks = {"shift": PeriodShift(), "backdoor": Backdoor()}
    matrix = stress(CIRCUIT, attacks, rules, fractions=(0.2, 0.4), seeds=2, progress=False)
    assert len(matrix.frame) == 3 * (1 + 2 * 2) * 2
    table = matrix.table().set_index(["rule", "attack", "fraction"])
    assert table.loc["needs", "shift", 0.4]["outcome"] == "refused: needs 2 f + 3 clients; got 5 and f = 2"
    assert math.isnan(table.loc["needs", "shift", 0.4]["accuracy"])
    assert (table.drop(index=[("needs", "shift", 0.4), ("needs", "backdoor", 0.4)])["outcome"] == "").all()
    # a shift by whole periods is nothing to a rule that knows the circle
    angular = matrix.frame[matrix.frame["rule"] == "angular"]
    by_attack = angular.groupby(["attack", "fraction"])["accuracy"].apply(list)
    assert by_attack["shift", 0.4] == by_attack["no attack", 0.0]
    assert matrix.frame["backdoor"].notna().sum() == 2 * (2 + 2 + 1)
    ax = matrix.plot()
    assert len(ax.get_yticks()) == 3
    assert len(ax.get_xticks()) == 5
    assert "refused" in ax.get_title()


def test_a_cell_is_what_a_run_of_its_own_gives(tmp_path):
    matrix = stress(EXPERIMENT, {"flip": SignFlip()}, {"mean": Mean()}, fractions=(0.4,), seeds=1, progress=False)
    alone = replace(EXPERIMENT, aggregation=Mean(), adversary=Adversary(SignFlip(), 0.4))
    result = qfedfm.run(alone, tmp_path / "run", progress=False)
    assert matrix.frame["accuracy"].iloc[1] == result.rounds[-1]["test"]["accuracy"]


@pytest.mark.parametrize(
    "change", [{"attacks": {}}, {"rules": {}}, {"fractions": ()}, {"seeds": 0}, {"fractions": (0.1,)}]
)
def test_an_empty_matrix_is_refused(change):
    given = {"attacks": {"flip": SignFlip()}, "rules": {"mean": Mean()}, "fractions": (0.4,), "seeds": 1} | change
    with pytest.raises(ConfigurationError, match="stress"):
        stress(EXPERIMENT, **given, progress=False)
