"""The simulator beside its peers: forward and backward through inputs and weights, <Z> on every wire.

Run as `.venv/bin/python benchmarks/heads.py`; the peers live in an environment of their own, `.venv-bench`. Problem and
circuit: `peers/problem.py`; libraries and their settings: `peers/__init__.py`. Every library runs in worker processes
of its own, one for each thread count; both are timed, and the table shows the faster one. Values and gradients of all
are compared with ours first (float64 to 1e-8, float32 to 1e-4, relative to the largest entry); who differs is reported,
not timed. Timing is interleaved: rounds over all libraries, a few calls each, one library at work at a time; the table
shows minimum and median, ratios are of minima. The last line is one JSON object.

The limit is a bound from the least work known for n qubits, L layers, R rows, with N = R 2^n amplitudes. Embedding and
first layer make a product state. A later layer costs, an amplitude, a real butterfly for each RY (6 flops a wire) and
one diagonal (6) for all its RZ; backward the same for the cotangent, again the butterflies to undo the state, and one
real inner product a wire and the diagonal's derivative (4 each): 22 n + 16. The product state and its derivative take
about 40, read-out by Walsh-Hadamard transform forward and backward 4 n + 5. The state is read and written once a
layer; backward, state and cotangent are read and the cotangent written: 5 passes of 8 bytes, and 4 for start and
read-out. So

    flops = N ((L - 1)(22 n + 16) + 4 n + 45),    bytes = 8 N (5 (L - 1) + 4),
    limit = max(flops / complex gemm speed, bytes / triad speed),

with both speeds as measured in the same run. States that fit the cache move faster than triad, so for them the bytes
are no strict bound; at the smallest sizes the fixed cost of a call in Python is hundreds of limits.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from peers import ALL, BROADCAST, DEVICE, PEERS, PORTED
from peers.environment import PYTHON, required

HERE = Path(__file__).parent
SIZES = [(4, 2, 32), (4, 3, 32), (8, 3, 32), (8, 3, 256), (10, 4, 64), (12, 4, 64), (16, 4, 8)]
CHECKED_IN_DOUBLE = (4, 3, 32)
COHORT_SIZES, COHORTS = [(4, 3, 32), (8, 3, 32)], [1, 10, 100, 1000]
MEMORY_SIZE = (12, 4, 64)
THREADS = (1, 2)
ROUNDS, SHARE, TOO_LONG = 5, 0.1, 5.0
"""Rounds over all libraries; seconds of calls of each in a round; seconds of one call that make a library skipped
(half of it in all its calls ends its part)."""


class Worker:
    """A process with one library and a number of threads."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), str(threads))
        self._process = subprocess.Popen(
            [PYTHON, "-m", "peers.worker"],
            cwd=HERE,
            env=os.environ | counts | {"JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def send(self, do: str, **arguments: Any) -> None:
        """Start a command; see `peers.worker`."""
        print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Return the answer to the oldest command."""
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "its process died"}

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Run a command to its end."""
        self.send(do, **arguments)
        return self.receive()

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()


class Contest:
    """All libraries at one problem: built, checked against ours, timed in turns."""

    def __init__(self, workers: dict[str, list[Worker]], size: Sequence[int], clients: int, reference: Path) -> None:
        self.size, self.clients = size, clients
        self.skipped: dict[str, str] = {}
        self.first: dict[str, float] = {}
        self._times: dict[str, dict[Worker, list[float]]] = {}
        for name, pair in workers.items():
            self._enter(name, pair, reference)
        for _ in range(ROUNDS):
            for times in self._times.values():
                for worker, seconds in times.items():
                    if sum(seconds) < TOO_LONG / 2:
                        repeats = max(1, min(50, round(SHARE / min(seconds)))) if seconds else 1
                        seconds += worker.ask("measure", repeats=repeats)["seconds"]
        print(f"... {size}, {clients} clients: done", file=sys.stderr, flush=True)

    def best(self, name: str) -> float | None:
        """Return the least seconds of a call for all clients, scaled up where only some were run."""
        return min(self._seconds(name)) if name in self._times else None

    def cell(self, name: str) -> str:
        """Return what the table says of a library."""
        if name not in self._times:
            return "-"
        seconds = self._seconds(name)
        return f"{min(seconds) * 1e3:.3g} / {median(seconds) * 1e3:.3g} ({self._fastest(name).threads})"

    def _fastest(self, name: str) -> Worker:
        return min(self._times[name], key=lambda worker: min(self._times[name][worker]))

    def _seconds(self, name: str) -> list[float]:
        scale = self.clients / min(self.clients, ALL[name].most_clients)
        return [scale * seconds for seconds in self._times[name][self._fastest(name)]]

    def _enter(self, name: str, pair: list[Worker], reference: Path) -> None:
        clients = min(self.clients, ALL[name].most_clients)
        if clients * self.size[2] * 2 ** self.size[0] > ALL[name].most_amplitudes:
            self.skipped[name] = "left out, see its note"
            return
        for worker in pair:
            worker.send("build", name=name, size=self.size, clients=clients, precision="float32")
        built = [worker.receive() for worker in pair]
        error = next((answer["error"] for answer in built if "error" in answer), None)
        if error is not None:
            self.skipped[name] = error
            return
        self.first[name] = min(answer["first"] for answer in built)
        if min(answer["again"] for answer in built) > 2 * TOO_LONG:  # both ran at once
            self.skipped[name] = f"{min(answer['again'] for answer in built):.0f} s a call"
            return
        if name == "qfedfm":
            pair[0].ask("save", path=str(reference))
        answer = pair[0].ask("compare", path=str(reference))
        if "error" in answer or answer["error_size"] > 1e-4:
            self.skipped[name] = answer.get("error", f"differs by {answer.get('error_size')}")
            return
        self._times[name] = {worker: [] for worker in pair}


def check_in_double(workers: dict[str, list[Worker]], reference: Path) -> None:
    """Print the largest difference of every library to ours in float64, marked where it exceeds 1e-8."""
    print(f"\nfloat64, values and gradients at {CHECKED_IN_DOUBLE}, largest difference to ours")
    for name in (*PEERS, PORTED):
        worker = workers[name][0]
        answer = worker.ask("build", name=name, size=CHECKED_IN_DOUBLE, clients=2, precision="float64")
        if name == "qfedfm":
            worker.ask("save", path=str(reference))
        answer = answer if "error" in answer else worker.ask("compare", path=str(reference))
        worst = answer.get("error_size", float("inf"))
        print(f"  {name:<32}{answer.get('error') or format(worst, '.1e')}{'' if worst <= 1e-8 else '  NOT EQUAL'}")


def limit(size: Sequence[int], machine: dict[str, float]) -> float:
    """Return the least seconds that the work of `size` can take here; see the top of this file."""
    qubits, layers, rows = size
    amplitudes = rows * 2**qubits
    flops = amplitudes * ((layers - 1) * (22 * qubits + 16) + 4 * qubits + 45)
    moved = 8 * amplitudes * (5 * (layers - 1) + 4)
    return max(flops / machine["gemm"], moved / machine["triad"])


def show(title: str, contests: dict[str, Contest], names: Sequence[str]) -> None:
    """Print a Markdown table of milliseconds, one row a library, and who is missing from it."""
    print(f"\n{title}: milliseconds, minimum / median (threads)\n")
    print("| | " + " | ".join(contests) + " |")
    print("|---|" + "---:|" * len(contests))
    for name in names:
        cells = [contest.cell(name) for contest in contests.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()
    for key, contest in contests.items():
        for name, reason in contest.skipped.items():
            print(f"{name} at {key}: {reason}")


def ratio(contest: Contest, names: Sequence[str]) -> float | None:
    """Return the time of the fastest of `names` over ours."""
    times = [time for name in names if (time := contest.best(name)) is not None]
    ours = contest.best("qfedfm")
    return round(min(times) / ours, 2) if times and ours else None


def memory(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each library the answer of a fresh process that ran `MEMORY_SIZE`."""
    fits = [name for name in names if MEMORY_SIZE[2] * 2 ** MEMORY_SIZE[0] <= ALL[name].most_amplitudes]
    workers = {name: Worker(name, 1) for name in fits}
    for name, worker in workers.items():
        worker.send("build", name=name, size=MEMORY_SIZE, clients=1, precision="float32")
    answers = {name: worker.receive() for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return answers


def main() -> None:
    required()
    machine = json.loads(subprocess.check_output([PYTHON, "-m", "peers.machine"], cwd=HERE, text=True))
    print(f"complex gemm {machine['gemm'] / 1e9:.0f} Gflop/s, triad {machine['triad'] / 1e9:.1f} GB/s")
    for name, peer in ALL.items():
        print(f"  {name}: {peer.note}")
    print("  each on 1 and 2 threads, the faster shown")
    eager = [name for name, peer in PEERS.items() if not peer.compiled and name != "qfedfm"]
    compiled = [name for name, peer in PEERS.items() if peer.compiled]
    workers = {name: [Worker(name, threads) for threads in THREADS] for name in ALL}
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.npz"
        check_in_double(workers, reference)
        alone = {name: workers[name] for name in (*PEERS, PORTED)}
        single = {_key(size): Contest(alone, size, 1, reference) for size in SIZES}
        show("one client, (qubits, layers, rows)", single, list(alone))
        for name in compiled:
            times = ", ".join(f"{key}: {c.first[name]:.1f} s" for key, c in single.items() if name in c.first)
            print(f"  {name}, compilation and first call: {times}")
        together = {name: workers[name] for name in ("qfedfm", "PennyLane", BROADCAST, "jax", PORTED)}
        cohorts = {
            size: {f"C={count}": Contest(together, size, count, reference) for count in COHORTS}
            for size in COHORT_SIZES
        }
        for size, contests in cohorts.items():
            show(f"clients with weights of their own, each {size}", contests, list(together))
        print(
            f"  PennyLane: a loop, {ALL['PennyLane'].most_clients} clients timed and scaled; "
            f"{BROADCAST}: {ALL[BROADCAST].most_clients} clients timed and scaled"
        )
        on_device = Contest({name: workers[name] for name in ("qfedfm", "PennyLane", DEVICE)}, SIZES[1], 1, reference)
        show("the PennyLane device", {_key(SIZES[1]): on_device}, ["PennyLane", DEVICE])
    for pair in workers.values():
        for worker in pair:
            worker.close()
    print(f"\nmemory at {MEMORY_SIZE}, one process each: MiB after import, more at the peak of two calls")
    for name, answer in memory(list(PEERS)).items():
        text = (
            answer.get("error") or f"{answer['imported_mib']:.0f}, +{answer['peak_mib'] - answer['imported_mib']:.0f}"
        )
        print(f"  {name:<32}{text}")
    small, large = (cohorts[size] for size in COHORT_SIZES)
    pennylane, device = on_device.best("PennyLane"), on_device.best(DEVICE)
    figures = {
        "vs_pennylane": {key: ratio(contest, ["PennyLane"]) for key, contest in single.items()},
        "vs_fastest_eager": {key: ratio(contest, eager) for key, contest in single.items()},
        "vs_jax": {key: ratio(contest, compiled) for key, contest in single.items()},
        "vs_our_algorithm_in_jax": {key: ratio(contest, [PORTED]) for key, contest in single.items()},
        "cohort_100_4q": ratio(small["C=100"], ["PennyLane"]),
        "cohort_1000_8q": ratio(large["C=1000"], ["PennyLane"]),
        "cohort_cost_1000_over_1": round(small["C=1000"].best("qfedfm") / small["C=1"].best("qfedfm"), 2),
        "pl_device_4_3_32": round(pennylane / device, 2) if pennylane and device else None,
        "limit_ratio": {
            key: round(contest.best("qfedfm") / limit(contest.size, machine), 2) for key, contest in single.items()
        },
    }
    print(json.dumps(figures))


def _key(size: Sequence[int]) -> str:
    return ",".join(map(str, size))


if __name__ == "__main__":
    main()
