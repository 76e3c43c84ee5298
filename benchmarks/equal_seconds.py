"""SPSA and parameter shifts on a fake device, at equal estimated QPU seconds: the sentiment federation, four clients.

Run as `.venv/bin/python benchmarks/equal_seconds.py`; a quarter of an hour. 600 sentences, one client for each of four
domains, MiniLM's features, `angle_ring` on 4 qubits, 256 shots on `Fake("torino")` with its readout inverted,
evaluation exact. A round is one step by parameter shifts or nine by SPSA, which alone would take about the same time:
71 s and 75 s by the length of the circuit, 97 s and 96 s by the number of executions. In the comparison all seeds
share jobs, so that the 2 s of a job weigh less: by the seconds charged there SPSA's steps are cheaper, and the other
arm is cut. Every arm tries the same four learning rates, chosen by seed on validation rows. The last line is one JSON
object.
"""

import json
from dataclasses import replace
from tempfile import mkdtemp

import qfedfm as qf
from qfedfm.backends import Fake, ParameterShift, Spsa

SEEDS, RATES = 8, (0.01, 0.03, 0.1, 0.3)
SPSA = qf.Experiment(
    name="equal-seconds",
    data=qf.data.Sentiment(per_domain=150),
    head=qf.heads.Variational("angle_ring", {"n": 4}),
    clients=qf.Clients(count=4, partition=qf.data.NaturalSplit(), min_rows=4),
    training=qf.Training(optimizer=qf.training.Adam(lr=0.05), batch_size=8, steps=9, keep_state=True, gradient=Spsa()),
    rounds=8,
    backend=Fake("torino", shots=256),
    evaluation="exact",
)


def main() -> None:
    shift = replace(SPSA, training=replace(SPSA.training, steps=1, gradient=ParameterShift()))
    arms, folder = {"SPSA": SPSA, "parameter shift": shift}, mkdtemp()
    figures = {}
    for hold in ("qpu_seconds", "rounds"):  # the second reads what the first has trained
        result = qf.compare(
            SPSA, arms, seeds=SEEDS, rates=RATES, margin=0.05, hold=hold, directory=f"{folder}/run", resume=True
        )
        print(f"\nequal {hold}\n{result!r}\n{result.costs().to_string()}\n", flush=True)
        figures[hold] = result.table().set_index("arm")["test accuracy"].round(4).to_dict()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
