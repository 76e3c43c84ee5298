"""When SCAFFOLD, FedDyn and FedProx beat the mean, and when not: scikit-learn's digits, a linear
head, 20 clients, rehearsed rounds.

    python benchmarks/client_rules.py            # the table of docs/aggregation.md; some minutes on one core

Every rule has the same seeds, splits and numbers of local steps, and its own learning rate (and mu, alpha), chosen for
each seed on validation rows. The last line is JSON.
"""

import json
import os
from dataclasses import replace
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_digits

import qfedfm as qf
from qfedfm.assembly import bind, federate, prepare
from qfedfm.client_rules import FedDyn, FedProx, Scaffold
from qfedfm.data import from_arrays
from qfedfm.evidence import fairness, mean_interval
from qfedfm.federation.rehearsal import rehearse
from qfedfm.measuring import measure
from qfedfm.training import Sgd

SEEDS, ROUNDS, RATES = 5, 30, (0.03, 0.1, 0.3, 1.0)
RULES = {
    "mean": (None,),
    "FedProx": (FedProx(0.1), FedProx(1.0)),
    "Scaffold": (Scaffold(),),
    "FedDyn": (FedDyn(0.01), FedDyn(0.1), FedDyn(1.0)),
}
SETTINGS = {
    "like clients, 20 steps": (qf.IID(), 20, None),
    "Dirichlet .1, 1 step": (qf.Dirichlet(alpha=0.1), 1, None),
    "Dirichlet .1, 20 steps": (qf.Dirichlet(alpha=0.1), 20, None),
    "Dirichlet .1, 20 steps, 4 of 20 clients": (qf.Dirichlet(alpha=0.1), 20, 4),
}


def digits() -> qf.Experiment:
    data = load_digits()
    rows = (data.data - 8) / 8
    return qf.Experiment(
        data=from_arrays(rows / np.sqrt((rows**2).mean()), data.target),
        backbone=qf.backbones.Identity(),
        head=qf.heads.Linear(),
        rounds=ROUNDS,
    )


def federations(experiment: qf.Experiment, prepared, model) -> dict[tuple[int, float], dict]:
    """Return the scores of every seed and learning rate after the last round; those that diverged are left out."""
    cells = list(product(range(SEEDS), RATES))
    running = {
        cell: federate(
            replace(experiment, seed=cell[0], training=replace(experiment.training, optimizer=Sgd(lr=cell[1]))),
            prepared,
            model,
            run_id=f"digits-{i}",
        )
        for i, cell in enumerate(cells)
    }
    for _ in range(experiment.rounds):
        outcomes = rehearse([(one.server, one.engine.cohort) for one in running.values()])
        running = {
            cell: one
            for (cell, one), outcome in zip(running.items(), outcomes, strict=True)
            if not isinstance(outcome, Exception)
        }
    return dict(zip(running, measure(list(running.values())), strict=True))


def main() -> None:
    found: dict[str, dict[str, dict]] = {}
    base = digits()
    prepared = prepare(base, progress=False)
    for name, (partition, steps, per_round) in SETTINGS.items():
        rows: dict[str, dict] = {}
        kept: dict[str, np.ndarray] = {}
        for rule_name, rules in RULES.items():
            best: dict[int, dict] = {}
            for rule in rules:
                experiment = replace(
                    base,
                    clients=qf.Clients(count=20, partition=partition, per_round=per_round),
                    training=qf.Training(Sgd(lr=0.1), batch_size=16, steps=steps, rule=rule),
                )
                for (seed, rate), scores in federations(experiment, prepared, bind(experiment, prepared)).items():
                    if seed not in best or scores["validation"]["loss"] < best[seed]["validation"]["loss"]:
                        best[seed] = scores | {"rate": rate}
            kept[rule_name] = np.array([100 * best[seed]["test"]["accuracy"] for seed in range(SEEDS)])
            each = [
                fairness([s["accuracy"] for s in best[seed]["per_client"].values()]).worst_decile
                for seed in range(SEEDS)
            ]
            difference = mean_interval(kept[rule_name] - kept["mean"])
            rows[rule_name] = {
                "accuracy": float(kept[rule_name].mean()),
                "loss": float(np.mean([best[seed]["test"]["loss"] for seed in range(SEEDS)])),
                "minus mean": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "worst decile": 100 * float(np.mean(each)),
                "rates": sorted(best[seed]["rate"] for seed in range(SEEDS)),
            }
        found[name] = rows
        for rule_name, row in rows.items():
            print(
                f"{name:<40} | {rule_name:<8} | {row['accuracy']:5.1f} | {row['loss']:.3f} | "
                f"{row['minus mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}] | {row['worst decile']:5.1f} | "
                f"{row['rates']}",
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
