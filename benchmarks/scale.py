"""A whole round of 10,000 clients in one process: time for each client and peak memory.

Synthetic features, 16 numbers a row, two classes; about 32 training rows a client, one epoch of batches of 16. The
head: projection, 4 qubits and 2 strongly entangling layers, read-out. The round is the real one: the model is sealed
for every client, opened, trained, its update sealed, opened, validated and averaged. Clients are trained in chunks that
fit the memory budget. Also the training alone. The last line is one JSON object.
"""

import json
import resource
import time

import numpy as np
import torch

import qfedfm as qf
from qfedfm.assembly import Prepared, bind, federate
from qfedfm.data import Dataset
from qfedfm.federation import run_round
from qfedfm.seeds import stream
from qfedfm.training import Adam, Lane, train_cohort

CLIENTS, ROWS, FEATURES = 10_000, 32, 16
HELD_OUT = 0.01


class Synthetic:
    """Rows around one of two centres."""

    def load(self) -> Dataset:
        """Return rows enough for all clients, each in a group of its own."""
        generator = np.random.default_rng(0)
        count = round(CLIENTS * ROWS / (1 - 2 * HELD_OUT))
        labels = generator.integers(0, 2, count)
        items = generator.normal(size=(count, FEATURES)) + 0.5 * labels[:, None]
        return Dataset(
            name="synthetic",
            items=items.astype(np.float32),
            labels=labels,
            classes=("low", "high"),
            groups=np.arange(count),
            domains=np.full(count, "all"),
        )


def main() -> None:
    experiment = qf.Experiment(
        name="scale",
        data=Synthetic(),
        backbone=qf.backbones.Identity(),
        head=qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2}),
        clients=qf.Clients(count=CLIENTS, partition=qf.IID()),
        training=qf.Training(batch_size=16, epochs=1),
        validation=HELD_OUT,
        test=HELD_OUT,
    )
    dataset = experiment.data.load()
    prepared = Prepared(dataset, torch.from_numpy(dataset.items), torch.from_numpy(dataset.labels))
    model = bind(experiment, prepared)
    federation = federate(experiment, prepared, model, run_id="scale")
    before = _peak_mib()
    start = time.perf_counter()
    outcome = run_round(federation.server, federation.engine)
    seconds = time.perf_counter() - start
    peak = _peak_mib()
    assert len(outcome.clients) == CLIENTS

    lanes = [Lane(rows, stream(0, "order", name, 1), Adam()) for name, rows in federation.engine.cohort.rows.items()]
    start = time.perf_counter()
    params = {name: tensor.expand(CLIENTS, *tensor.shape) for name, tensor in model.init(0).items()}
    train_cohort(model, params, prepared.table, prepared.labels, lanes, batch_size=16)
    training = time.perf_counter() - start
    print(f"{CLIENTS} clients, {sum(map(len, federation.engine.cohort.rows.values()))} training rows")
    print(f"round {seconds:.1f} s, of which training about {training:.1f} s; {seconds / CLIENTS * 1e3:.2f} ms a client")
    print(f"peak memory {peak:.0f} MiB, {before:.0f} before the round")
    figures = {
        "seconds": round(seconds, 2),
        "ms_per_client": round(seconds / CLIENTS * 1e3, 3),
        "peak_mib": round(peak),
        "mib_before": round(before),
        "training_seconds": round(training, 2),
    }
    print(json.dumps(figures))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
