"""Machines beside their peers: jobs and transpilations of a gradient, noisy simulation, and how good gradients are.

Run as `.venv/bin/python benchmarks/hardware.py`. Four parts:

1. One batch gradient by parameter shifts, of 16 rows, 4 qubits and 2 layers of `angle_ring`, through inputs and
   weights: how many jobs it sends and how many circuits it hands to the transpiler, on `Fake("manila")` and on
   pennylane-qiskit, which runs in the peers' environment `.venv-bench` on the same fake device (`peers/`). Both are
   counted while they run. Ours transpiles its one circuit from 20 seeds and takes the best; the peer once each.
2. A gradient of 32 rows under noise after each gate, `Noisy` against PennyLane's `default.mixed` by backpropagation, 2
   `strongly_entangling` layers: values compared to 1e-6 and gradients to 2e-5 first, then timed in turns, one thread;
   ratios of best times. At 8 qubits one row and one call of the peer, which takes gigabytes and minutes for more.
3. The same 528 circuits as in 1 on `FakeRuntime("manila")`, the runtime's local mode, and on `Fake("manila")`, without
   mitigation, both compiled before: ratio of best times of three.
4. Mean cosine between a parameter-shift gradient at 1,024 shots and the exact one, over random problems of 16 rows.

The last line is one JSON object.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pennylane as qml
import torch
from peers.environment import PYTHON, required
from torch import Tensor

from qfedfm.backends import (
    Aer,
    Backend,
    Exact,
    Executor,
    Fake,
    FakeRuntime,
    GateNoise,
    Mitigated,
    NoiseModel,
    Noisy,
    ReadoutInversion,
    RuntimeMitigation,
    Session,
    Shots,
    ZeroNoise,
    fake,
    simulate_noisy,
)
from qfedfm.quantum import Circuit, load, z_on_every_wire
from qfedfm.quantum.angles import evaluate

HERE = Path(__file__).parent
RING = load("angle_ring", {"n": 4, "layers": 2})
ROWS, SHOTS, PROBLEMS = 16, 1024, 8
RAW = Fake("manila", SHOTS, mitigated=False)
NOISE = NoiseModel(GateNoise(depolarising=0.001, amplitude_damping=0.001), GateNoise(bit_flip=0.01, phase_damping=0.01))
MACHINES: Mapping[str, Backend] = {
    "shots": Shots(SHOTS),
    "aer": Aer(SHOTS),
    "noisy": Noisy(NOISE, SHOTS),
    "fake manila, raw": RAW,
    "fake manila": Fake("manila", SHOTS),
    "fake manila, zero noise": Mitigated(RAW, (ReadoutInversion(), ZeroNoise())),
    "fake runtime manila": FakeRuntime("manila", SHOTS),
}
OPERATIONS = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "cx": qml.CNOT, "h": qml.H}


def gradient(executor: Executor, circuit: Circuit, seed: int, name: str) -> Tensor:
    """Return the gradient by inputs and weights of a random problem's loss, flat."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return (torch.rand(1, *shape, generator=generator, dtype=torch.float64) * 3 - 1.5).requires_grad_()

    inputs = {name: drawn(ROWS, *shape) for name, shape in circuit.program.inputs}
    weights = {spec.name: drawn(*spec.shape) for spec in circuit.program.weights}
    labels = torch.randn(1, ROWS, generator=generator, dtype=torch.float64).sign()
    readout = torch.randn(len(circuit.observables), generator=generator, dtype=torch.float64)
    with executor.task(name):
        values = executor(circuit.program, inputs, weights, circuit.observables)
    torch.nn.functional.softplus(-labels * (values @ readout)).mean().backward()
    return torch.cat([leaf.grad.flatten() for leaf in (*inputs.values(), *weights.values())])


def jobs() -> dict[str, int]:
    """Count jobs and transpilations of ours and of the peer."""
    transpiled, compile_for = [], fake.compile_for

    def counting(*args: Any, **kwargs: Any) -> Any:
        transpiled.append(args)
        return compile_for(*args, **kwargs)

    fake.compile_for = counting
    try:
        executor = Executor(RAW.connect(Session()), SHOTS)
        gradient(executor, RING, 0, "counted")
    finally:
        fake.compile_for = compile_for
    circuits = sum(usage.executions for usage in executor.take_usage())
    print(f"one gradient, {ROWS} rows, {circuits} circuits: jobs, transpilations")
    print(f"  {'qfedfm':<20}{executor.jobs:>6}{len(transpiled):>6}")
    answer = subprocess.run(
        [PYTHON, "-m", "peers.pennylane_qiskit_jobs", str(ROWS)],
        cwd=HERE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    peer = json.loads(answer.stdout.splitlines()[-1])
    print(f"  {'pennylane-qiskit':<20}{peer['jobs']:>6}{peer['transpilations']:>6}   ({peer['seconds']:.0f} s)")
    return {
        "jobs_per_gradient": executor.jobs,
        "transpilations_per_gradient": len(transpiled),
        "peer_jobs": peer["jobs"],
        "peer_transpilations": peer["transpilations"],
    }


def noisy_vs_default_mixed(n: int, rows: int, rounds: int) -> float:
    """Return the best time of default.mixed over ours, after checking values and gradients."""
    circuit = load("strongly_entangling", {"n": n, "layers": 2})
    program, observables = circuit.program, z_on_every_wire(n)
    generator = torch.Generator().manual_seed(n)
    shapes = {name: (rows, *shape) for name, shape in program.inputs} | {s.name: s.shape for s in program.weights}
    leaves = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }
    names = dict(program.inputs)

    def split() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with_one = {name: leaf[None] for name, leaf in leaves.items()}
        return tuple({k: v for k, v in with_one.items() if (k in names) == wanted} for wanted in (True, False))

    def by_ours() -> Tensor:
        return simulate_noisy(program, *split(), observables, NOISE)[0]

    def function(angles: list[Tensor]) -> list[Any]:
        for gate in program.gates:
            OPERATIONS[gate.name](*(angles[a] if isinstance(a, int) else a for a in gate.angles), wires=gate.wires)
            after = NOISE.after(gate.name)
            for wire in gate.wires:
                if len(gate.wires) == 1 and after.depolarising:
                    qml.DepolarizingChannel(after.depolarising, wires=wire)
                if after.amplitude_damping:
                    qml.AmplitudeDamping(after.amplitude_damping, wires=wire)
                if after.phase_damping:
                    qml.PhaseDamping(after.phase_damping, wires=wire)
                if after.bit_flip:
                    qml.BitFlip(after.bit_flip, wires=wire)
        return [qml.expval(qml.Z(wire)) for wire in range(n)]

    node = qml.QNode(function, qml.device("default.mixed", wires=n), interface="torch", diff_method="backprop")
    by_row = [slot.uses("input") for slot in program.slots]

    def by_peer() -> Tensor:
        angles = evaluate(program.slots, *split())[0]
        return torch.stack(node([a if rowwise else a[0] for a, rowwise in zip(angles, by_row, strict=True)]), dim=1)

    def timed(call: Any) -> tuple[float, Tensor, tuple[Tensor, ...]]:
        start = time.perf_counter()
        values = call()
        gradients = torch.autograd.grad(values.sum(), list(leaves.values()))
        return time.perf_counter() - start, values.detach(), gradients

    (_, ours, our_gradients), (first, theirs, their_gradients) = timed(by_ours), timed(by_peer)
    torch.testing.assert_close(ours, theirs.view_as(ours), atol=1e-6, rtol=0)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
    our_times, their_times = [], [first]
    for _ in range(rounds):
        our_times += [timed(by_ours)[0] for _ in range(5)]
        if first < 20:
            their_times.append(timed(by_peer)[0])
    ratio = min(their_times) / min(our_times)
    each = [1e3 * min(times) / rows for times in (our_times, their_times)]
    print(f"  {n} qubits, {rows} rows: {each[0]:.3f} and {each[1]:.3f} ms a row, {ratio:.0f} times", flush=True)
    return round(ratio, 1)


def fake_fast_vs_runtime() -> float:
    """Return the time of the runtime's local mode over that of our fake device, for the same circuits."""
    backends = {"runtime": FakeRuntime("manila", SHOTS, RuntimeMitigation(readout=False)), "ours": RAW}
    executors = {name: Executor(backend.connect(Session()), SHOTS) for name, backend in backends.items()}
    times: dict[str, list[float]] = {name: [] for name in backends}
    for attempt in range(4):
        for name, executor in executors.items():
            start = time.perf_counter()
            gradient(executor, RING, attempt, f"timed {attempt}")
            times[name] += [time.perf_counter() - start] if attempt else []  # the first compiles
    best = {name: min(found) for name, found in times.items()}
    print(f"528 circuits on fake manila: {best['ours']:.2f} s, in the runtime's local mode {best['runtime']:.2f} s")
    return round(best["runtime"] / best["ours"], 1)


def gradient_cosines() -> dict[str, float]:
    """Return the mean cosine to the exact gradient on each machine."""
    circuit, exact = load("strongly_entangling", {"n": 4, "layers": 2}), Executor(Exact().connect(Session()))
    truth = [gradient(exact, circuit, seed, "exact") for seed in range(PROBLEMS)]
    print(f"cosine to the exact gradient at {SHOTS} shots, mean over {PROBLEMS} problems, and standard error")
    found = {}
    for name, backend in MACHINES.items():
        executor = Executor(backend.connect(Session()), SHOTS)
        cosines = [
            float(torch.cosine_similarity(gradient(executor, circuit, seed, f"problem {seed}"), true, dim=0))
            for seed, true in enumerate(truth)
        ]
        print(f"  {name:<26}{np.mean(cosines):.4f}  {np.std(cosines, ddof=1) / len(cosines) ** 0.5:.4f}", flush=True)
        found[name] = round(float(np.mean(cosines)), 4)
    return found


def main() -> None:
    required()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # nothing is found that an earlier run has transpiled
        os.environ["QFEDFM_CACHE"] = folder
        figures: dict[str, Any] = jobs()
        print("a noisy gradient, ours and default.mixed:")
        figures["noisy_vs_default_mixed"] = {
            n: noisy_vs_default_mixed(n, rows, rounds)
            for n, rows, rounds in ((2, 32, 5), (4, 32, 5), (6, 32, 3), (8, 1, 1))
        }
        figures["fake_fast_vs_runtime"] = fake_fast_vs_runtime()
        figures["gradient_cosine"] = gradient_cosines()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
