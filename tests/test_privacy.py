"""Private federations, whole: what they record, withhold, repeat and refuse."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import cut_short, experiment

from qfedfm.aggregation.dp_fedavg import DpFedAvg
from qfedfm.errors import AggregationError, ClientError
from qfedfm.experiment import Experiment
from qfedfm.federation import Training
from qfedfm.privacy import WITHHELD_LOSS, DpSgd, LocalDp, spent, spent_by_client
from qfedfm.runs import run
from qfedfm.training import Adam


def private(privacy: DpSgd | LocalDp) -> Training:
    return Training(optimizer=Adam(lr=0.05), batch_size=8, privacy=privacy)


@pytest.mark.parametrize("privacy", [DpSgd(), DpSgd(sampling="permutation"), LocalDp(sigma=2.0)], ids=str)
def test_a_private_federation_runs_repeats_resumes_and_withholds_its_loss(
    privacy: DpSgd | LocalDp, tmp_path: Path
) -> None:
    exp = experiment(training=private(privacy))
    written = Experiment(training=exp.training)
    assert Experiment.from_toml(written.to_toml()) == written
    whole = run(exp, tmp_path / "whole", progress=False)

    resumed = cut_short(exp, tmp_path / "broken", 2)
    lines = [(tmp_path / name / "rounds.jsonl").read_text() for name in ("whole", "broken")]
    assert lines[0] == lines[1]
    assert [line["train_loss"] for line in whole.rounds[1:]] == pytest.approx([WITHHELD_LOSS] * 2)
    eps = spent_by_client(privacy, 8, resumed.ledger.entries)
    rows = {entry.client: entry.rows for entry in whole.ledger.entries}
    assert eps == {c: spent(privacy, n, 8, -(-n // 8), 2).eps for c, n in rows.items()}


def test_clients_whose_budget_is_spent_stay_away(tmp_path: Path) -> None:
    privacy = DpSgd(sigma=2.0)
    rows, limit = 18, 2  # 90 rows, 60 % for training, three clients
    edge = (spent(privacy, rows, 8, 3, limit).eps + spent(privacy, rows, 8, 3, limit + 1).eps) / 2
    exp = experiment(training=private(replace(privacy, budget=edge)), rounds=3)
    with pytest.raises(ClientError, match=r"round 3: the privacy budget is spent: eps .* after 2 rounds"):
        run(exp, tmp_path / "run", progress=False)


def test_dp_fedavg_records_its_loss_round_by_round_and_stops_the_run(tmp_path: Path) -> None:
    rule = DpFedAvg(sigma=3.0)
    exp = experiment(aggregation=replace(rule, budget=(rule.epsilon(2) + rule.epsilon(3)) / 2), rounds=3)
    with pytest.raises(AggregationError, match="DpFedAvg, round 3: PrivacyExhausted: the privacy budget is spent"):
        run(exp, tmp_path / "run", progress=False)
    done = run(replace(exp, rounds=2), tmp_path / "two", progress=False)
    assert [line["info"]["privacy"]["eps"] for line in done.rounds[1:]] == [rule.epsilon(1), rule.epsilon(2)]


def test_clients_chosen_in_part_pay_for_their_own_rounds(tmp_path: Path) -> None:
    exp = experiment(training=private(DpSgd()), clients=replace(experiment().clients, per_round=1), rounds=3)
    done = run(exp, tmp_path / "run", progress=False)
    eps = spent_by_client(DpSgd(), 8, done.ledger.entries)
    counts = {client: sum(entry.client == client for entry in done.ledger.entries) for client in eps}
    assert all(eps[c] == spent(DpSgd(), 18, 8, 3, n).eps for c, n in counts.items())


def test_a_private_run_says_what_it_lost(tmp_path):
    private = experiment(training=Training(optimizer=Adam(lr=0.05), batch_size=8, privacy=DpSgd(clip=1.0, sigma=1.5)))
    result = run(private, tmp_path / "run", progress=False)
    assert set(result.privacy) == {f"client-00{i}" for i in range(3)}
    assert f"eps up to {max(result.privacy.values()):.3g} at delta" in result.summary()["privacy loss"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "protects nothing from whoever knows the seed" in page
    assert run(experiment(), tmp_path / "plain", progress=False).privacy == {}
