"""The main job's speed: a round of many clients, from sealed model to aggregated update, on real features.

200 clients (IID), 10 rounds, one epoch of batches of 16, a head of 4 qubits and 2 layers on the sentiment task, after
embedding. Also the same federation with its clients trained one at a time, which shows what the cohort axis is worth:
both are checked to give equal parameters first. Wall seconds; the last line is one JSON object.
"""

import json
import os
import time
from dataclasses import replace

import torch

import qfedfm as qf
from qfedfm.assembly import bind, federate, prepare
from qfedfm.federation import run_round

CLIENTS, ROUNDS = 200, 10


def experiment() -> qf.Experiment:
    return qf.Experiment(
        name="benchmark",
        data=qf.data.Sentiment(per_domain=None),
        head=qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2}),
        clients=qf.Clients(count=CLIENTS, partition=qf.IID()),
        training=qf.Training(batch_size=16, epochs=1),
        rounds=ROUNDS,
    )


def main() -> None:
    declared = experiment()
    start = time.perf_counter()
    prepared = prepare(declared)
    embedding = time.perf_counter() - start
    model = bind(declared, prepared)

    def rounds(count: int, budget: int | None) -> tuple[float, dict[str, torch.Tensor]]:
        federation = federate(replace(declared, rounds=count), prepared, model, run_id="benchmark")
        if budget is not None:
            federation.engine.cohort.memory_budget = budget
        begin = time.perf_counter()
        for _ in range(count):
            run_round(federation.server, federation.engine)
        return time.perf_counter() - begin, federation.server.params

    together, ours = rounds(1, None)
    alone, reference = rounds(1, 1)
    worst = max(float((ours[name] - reference[name]).abs().max()) for name in ours)
    assert worst < 1e-4, f"cohort and single clients differ by {worst}"
    whole, _ = rounds(ROUNDS, None)
    rows = len(prepared.dataset)
    print(f"{rows} sentences embedded or read from the cache in {embedding:.1f} s")
    print(f"{'what':<52}{'seconds':>10}")
    print(f"{f'{CLIENTS} clients, {ROUNDS} rounds, one cohort':<52}{whole:>10.2f}")
    print(f"{'one round, one cohort':<52}{together:>10.2f}")
    print(f"{'one round, clients one after another':<52}{alone:>10.2f}")
    figures = {
        "seconds_200_clients_10_rounds": round(whole, 2),
        "cohort_over_one_at_a_time": round(alone / together, 2),
        "largest_parameter_difference": worst,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
