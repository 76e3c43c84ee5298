"""`qfedfm run FILE --resume` after SIGKILL: the end is bit-identical to that of a run that was never stopped.

Processes are killed from outside, at random moments and as soon as a write is seen in progress, and from inside, at
every file operation of a run. They are forked from one server (`kill_server`), so that a kill takes milliseconds.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tiny import experiment

from qfedfm.data import IID
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training
from qfedfm.heads import Mlp, Variational
from qfedfm.records import CHECKPOINT, EVENTS, ROUNDS, RunDirectory
from qfedfm.training import Adam, Sgd

ROUNDS_TO_RUN = 25
KILLED = -signal.SIGKILL
FORKED = Clients(count=4, partition=IID(), per_round=3)
QUANTUM = experiment(
    head=Variational("angle_ring", {"n": 2}),
    clients=FORKED,
    training=Training(optimizer=Adam(lr=0.05), batch_size=8, keep_state=True),
    rounds=ROUNDS_TO_RUN,
)
CLASSICAL = experiment(
    head=Mlp(hidden=(4,)),
    clients=FORKED,
    training=Training(optimizer=Sgd(lr=0.1, momentum=0.9), batch_size=8, keep_state=True),
    rounds=2,
)


class Server:
    """Starts `qfedfm run` in a process of its own, and waits for it or kills it."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("kill_server.py")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, file: Path, folder: Path, operation: int | None = None, report: bool = True) -> int:
        arguments = ["run", str(file), "--directory", str(folder), "--resume"]
        request = {"arguments": arguments, "operation": operation, "report": report}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        return int(self.process.stdout.readline())

    def kill_when(self, file: Path, folder: Path, moment: Callable[[], bool]) -> int:
        """Run until `moment()` is true, then kill; return the exit status, which is 0 where the run was quicker."""
        process = self.start(file, folder)
        with suppress(ProcessLookupError):
            while not moment():
                os.kill(process, 0)  # raises when it is gone
            os.kill(process, signal.SIGKILL)
        return self.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.process.stdin.close()
    server.process.stdout.close()
    assert server.process.wait(timeout=20) == 0


def saved(setting: Experiment, folder: Path) -> Path:
    folder.mkdir()
    return setting.save(folder)


def outcome(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return rounds.jsonl and every tensor of the last checkpoint (parameters, optimiser states), as bytes."""
    tensors = RunDirectory(folder).checkpoint().tensors
    return (folder / ROUNDS).read_bytes(), {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def events(folder: Path) -> str:
    return (folder / EVENTS).read_text() if (folder / EVENTS).exists() else ""


def state(folder: Path) -> str:
    """Return what a kill left: which of the writes of a round it came between."""
    if not folder.exists():
        return "before the directory"
    if list(folder.glob(f".{CHECKPOINT}.*")):
        return "while the checkpoint was written"
    checkpoint = RunDirectory(folder).checkpoint()
    if checkpoint is None:
        return "before the first checkpoint"
    return "between rounds and checkpoint" if size(folder / ROUNDS) > checkpoint.rounds_bytes else "in or after a round"


def test_the_parts_that_matter_are_in_a_checkpoint(tmp_path, server):
    file = saved(CLASSICAL, tmp_path / "file")
    server.start(file, tmp_path / "run")
    assert server.wait() == 0
    _, tensors = outcome(tmp_path / "run")
    assert {name.split("/")[0] for name in tensors} == {"params", "client"}
    assert {name for name in tensors if name.startswith("client/client-00")}
    assert any(np.frombuffer(tensors[name], np.float32).any() for name in tensors if name.startswith("client/"))


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_as_if_unbroken(tmp_path, server):
    file = saved(QUANTUM, tmp_path / "file")
    began = time.perf_counter()
    server.start(file, tmp_path / "unbroken")
    assert server.wait() == 0
    duration = time.perf_counter() - began
    expected = outcome(tmp_path / "unbroken")
    assert len(expected[0].splitlines()) == ROUNDS_TO_RUN + 1
    random = np.random.default_rng(8)
    left: Counter[str] = Counter()
    runs, kills = 0, 0
    while kills < 24 or runs < 2:
        folder = tmp_path / f"run-{runs}"
        moments = moments_of(folder, random, duration)
        while server.kill_when(file, folder, moments[kills % len(moments)]()) == KILLED:
            kills += 1
            left[state(folder)] += 1
        assert outcome(folder) == expected
        attempts = RunDirectory(folder).attempts()
        assert attempts == events(folder).count('"event": "start"')
        runs += 1
    for moment in ("while the checkpoint was written", "between rounds and checkpoint", "in or after a round"):
        assert left[moment] > 0, left


def moments_of(folder: Path, random: np.random.Generator, duration: float) -> list[Callable[[], Callable[[], bool]]]:
    """Return makers of moments: after a random time, when rounds.jsonl grows, when a checkpoint is being written."""

    def after_a_while() -> Callable[[], bool]:
        end = time.perf_counter() + random.uniform(0, 0.6) * duration
        return lambda: time.perf_counter() > end

    def when_rounds_grow() -> Callable[[], bool]:
        enough = size(folder / ROUNDS) + random.integers(1, 6000)
        return lambda: size(folder / ROUNDS) > enough

    def when_a_checkpoint_is_written() -> Callable[[], bool]:
        enough = size(folder / ROUNDS) + random.integers(1, 6000)
        return lambda: size(folder / ROUNDS) > enough and any(folder.glob(f".{CHECKPOINT}.*"))

    return [after_a_while, when_rounds_grow, when_a_checkpoint_is_written]


@pytest.mark.slow
def test_killed_at_every_single_file_operation(tmp_path, server):
    file = saved(CLASSICAL, tmp_path / "file")
    server.start(file, tmp_path / "unbroken")
    assert server.wait() == 0
    expected = outcome(tmp_path / "unbroken")
    left: Counter[str] = Counter()
    for operation in range(1, 200):
        folder = tmp_path / f"run-{operation:03d}"
        server.start(file, folder, operation)
        status = server.wait()
        if status == 0:
            break
        assert status == KILLED
        left[state(folder)] += 1
        all_rounds_done = '"event": "finished"' in events(folder)
        server.start(file, folder, report=all_rounds_done)
        assert server.wait() == 0
        assert outcome(folder) == expected, f"killed at file operation {operation}"
        assert (folder / "report.html").exists() == all_rounds_done
        assert not list(folder.glob(".*"))
    assert status == 0
    assert operation > 25
    assert len(left) == 5, left
