"""Aggregation: rules beside Flower's own on the same updates, the stress matrix, Shapley values, and codecs.

Rules: 100 clients, up to a million float32 entries each, wall seconds, best of several turns in which the two libraries
alternate, after their results were found equal. Flower's functions run in .venv-bench (see requirements.txt) on lists
of arrays, their native form. Beside each time its ratio to one read of all updates, the least that any rule needs.
Stress: 12 rules x 8 attacks x 3 fractions x 3 seeds, 20 clients, 10 rounds, 4 local steps of 32 rows, 4-qubit head.
Shapley: the worth of all 1,024 coalitions of a 10-client round. Codecs: bytes and relative error of one update of a
million entries. The last line is one JSON object.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.environment import PYTHON

import qfedfm as qf
from qfedfm import aggregation as rules
from qfedfm import attacks, codecs
from qfedfm.aggregation import Context, Updates
from qfedfm.assembly import bind, federate, prepare
from qfedfm.incentives import round_game
from qfedfm.params import ParamSpec
from qfedfm.seeds import stream
from qfedfm.trust import stress

HERE = Path(__file__).parent
CLIENTS, F = 100, 10
COMPARED = {  # rule, how many entries each update has: Flower's Bulyan computes all distances anew for every choice
    "mean": (rules.Mean(), 1_000_000),
    "median": (rules.Median(), 1_000_000),
    "trimmed mean": (rules.TrimmedMean(f=F), 1_000_000),
    "Krum": (rules.Krum(f=F), 1_000_000),
    "Multi-Krum": (rules.MultiKrum(f=F), 1_000_000),
    "Bulyan": (rules.Bulyan(f=F), 10_000),
}
ALONE = {
    "angular mean": rules.AngularMean(),
    "geometric median": rules.GeometricMedian(),
    "centred clipping": rules.CentredClipping(),
    "norm clipping": rules.NormClipping(),
    "FoolsGold": rules.FoolsGold(),
    "bucketing + median": rules.Bucketing(),
    "FedAdam": rules.FedAdam(),
}
STRESSED = {
    "mean": rules.Mean(),
    "angular mean": rules.AngularMean(),
    "median": rules.Median(),
    "trimmed mean": rules.TrimmedMean(),
    "Krum": rules.Krum(),
    "Multi-Krum": rules.MultiKrum(),
    "Bulyan": rules.Bulyan(),
    "geometric median": rules.GeometricMedian(),
    "centred clipping": rules.CentredClipping(),
    "norm clipping": rules.NormClipping(),
    "FLTrust": rules.FLTrust(),
    "minimum diameter": rules.MinimumDiameter(),
}
ATTACKS = {
    "label flip": attacks.LabelFlip(),
    "sign flip": attacks.SignFlip(4.0),
    "Gaussian": attacks.Gaussian(),
    "scaling": attacks.Scaling(),
    "ALIE": attacks.Alie(),
    "inner product": attacks.InnerProduct(4.0),
    "min-max": attacks.MinMax(),
    "backdoor": attacks.Backdoor(),
}
CODECS = {
    "dense": codecs.Dense(),
    "top 1 %": codecs.TopK(0.01),
    "random 1 %": codecs.RandomSparsification(0.01),
    "8 bits": codecs.Quantized(8),
    "4 bits": codecs.Quantized(4),
    "sign": codecs.Sign(),
    "tensor train": codecs.TensorTrain(8),
}


class Flower:
    """Flower's functions in their process; None answers where they are not installed."""

    def __init__(self) -> None:
        self.process = None
        if (
            PYTHON.exists()
            and not subprocess.run([PYTHON, "-c", "import flwr"], capture_output=True, check=False).returncode
        ):
            command = [str(PYTHON), str(HERE / "peers" / "flower_rules.py")]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        else:
            print(
                f"Flower is not there; its figures stay empty: {PYTHON} -m pip install -r benchmarks/requirements.txt"
            )

    def seconds(self, **command: Any) -> float | None:
        """Return how long Flower took for a rule on the file of updates, its result in another file."""
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            return None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline())["seconds"])


def best(call: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(rule: Any, delta: torch.Tensor) -> Callable[[], np.ndarray]:
    specs = (ParamSpec("weight", (delta.shape[1],)),)
    params = {"weight": torch.zeros(delta.shape[1])}
    updates = Updates(
        tuple(f"client-{i:03d}" for i in range(len(delta))), {"weight": delta}, (1,) * len(delta), (1,) * len(delta),
        (0.5,) * len(delta),
    )  # fmt: skip

    def call() -> np.ndarray:
        new, _, _ = rule(rule.init(specs), params, updates, specs, Context(1, stream(0)))
        return new["weight"].numpy()

    return call


def compare_rules() -> tuple[dict[str, float | None], dict[str, float]]:
    """Return Flower's time over ours, and our time over one read of the data, by rule."""
    flower, versus, bandwidth = Flower(), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path, out = str(Path(folder) / "updates.npy"), str(Path(folder) / "result.npy")
        values = stream(0, "updates").standard_normal((CLIENTS, 1_000_000), dtype=np.float32)
        np.save(path, values)
        data = torch.from_numpy(values)
        print(f"{CLIENTS} clients, {F} of them taken to be hostile; seconds\n")
        print(f"{'rule':<20}{'entries':>10}{'qfedfm':>10}{'Flower':>10}{'ratio':>8}{'reads':>8}  largest difference")
        for name, (rule, entries) in COMPARED.items():
            part = data[:, :entries].contiguous()
            read = best(part.sum)
            call = ours(rule, part)
            mine, theirs, result = [], [], call()
            for _ in range(4):
                mine.append(best(call, 1))
                theirs.append(flower.seconds(path=path, rule=name, f=F, entries=entries, out=out))
            other = min((t for t in theirs if t is not None), default=None)
            error = f"{np.abs(np.load(out) - result).max():.1e}" if other else "-"
            versus[name] = round(other / min(mine), 2) if other else None
            bandwidth[name] = round(min(mine) / read, 1)
            times = f"{min(mine):>10.4f}{other or float('nan'):>10.4f}{versus[name] or float('nan'):>8.1f}"
            print(f"{name:<20}{entries:>10}{times}{bandwidth[name]:>8.1f}  {error}")
        read = best(data.sum)
        for name, rule in ALONE.items():
            seconds = best(ours(rule, data), 2)
            bandwidth[name] = round(seconds / read, 1)
            print(f"{name:<20}{data.shape[1]:>10}{seconds:>10.4f}{'':>18}{bandwidth[name]:>8.1f}")
    return versus, bandwidth


def task(rows: int = 1200, features: int = 16) -> qf.Experiment:
    """Two overlapping clouds, 20 clients, a 4-qubit head."""
    generator = stream(0, "task")
    labels = np.arange(rows) % 2
    points = generator.normal(size=(rows, features)) + 0.5 * labels[:, None]
    return qf.Experiment(
        data=qf.data.from_arrays(points, labels),
        backbone=qf.backbones.Identity(),
        head=qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2}),
        clients=qf.Clients(count=20, partition=qf.IID()),
        training=qf.Training(optimizer=qf.training.Adam(lr=0.05), batch_size=32, steps=4),
        rounds=10,
    )


def shapley_seconds() -> float:
    """Time the worth of all coalitions of a round of ten clients."""
    declared = replace(task(), clients=qf.Clients(count=10, partition=qf.IID()))
    prepared = prepare(declared, progress=False)
    made = federate(declared, prepared, bind(declared, prepared), run_id="shapley")
    deltas = {
        spec.name: torch.from_numpy(0.1 * stream(1, spec.name).normal(size=(10, *spec.shape))).float()
        for spec in made.server.specs
    }
    updates = Updates(tuple(f"c{i}" for i in range(10)), deltas, (60,) * 10, (4,) * 10, (0.5,) * 10)
    context = Context(1, stream(2), made.model, made.server.root, made.server.utility)
    params = {spec.name: made.server.params[spec.name] for spec in made.server.specs}
    every = (np.arange(1024)[:, None] >> np.arange(10) & 1).astype(bool)

    def worth() -> np.ndarray:
        game = round_game(rules.AngularMean(), {}, params, updates, made.server.specs, context, "loss")
        return game(every)

    return best(worth, 2)


def compress() -> dict[str, list[float]]:
    """Return bytes and relative error of one update by codec; entries fall off as in a trained layer's update."""
    generator = stream(3, "update")
    rank = generator.normal(size=(1000, 20)) @ (generator.normal(size=(20, 1000)) * 0.7 ** np.arange(20)[:, None])
    update = torch.from_numpy(rank + 0.1 * generator.normal(size=(1000, 1000))).float()
    specs = (ParamSpec("weight", (1000, 1000)),)
    found = {}
    for name, codec in CODECS.items():
        data, meta, _ = codec.encode({"weight": update}, specs, {}, stream(4))
        back = codec.decode(data, meta, specs)["weight"]
        found[name] = [len(data), round(float((back - update).norm() / update.norm()), 4)]
    return found


def main() -> None:
    versus, bandwidth = compare_rules()
    start = time.perf_counter()
    matrix = stress(task(), ATTACKS, STRESSED, (0.1, 0.2, 0.3), seeds=3)
    stress_time = time.perf_counter() - start
    print(f"\nstress matrix: {len(matrix.frame)} federations in {stress_time:.0f} s; mean test accuracy at 30 %\n")
    table = matrix.table()
    wide = table[table["fraction"].isin([0.0, 0.3])].pivot_table(
        index="rule", columns="attack", values="accuracy", sort=False, dropna=False
    )
    print(wide.to_string(float_format=lambda x: f"{x:.3f}"))
    shapley = shapley_seconds()
    print(f"\nworth of 1,024 coalitions: {shapley:.2f} s")
    sizes = compress()
    print("\none update of a million float32 entries (rank 20 with a tail, and noise)")
    for name, (size, error) in sizes.items():
        print(f"  {name:<14}{size:>10} bytes   relative error {error}")
    figures = {
        "vs_flower": versus,
        "bandwidth_ratio": bandwidth,
        "stress_seconds": round(stress_time, 1),
        "shapley_1024_seconds": round(shapley, 2),
        "codec": sizes,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
