"""A run's directory: written once, appended to safely, resumed exactly.

::

    experiment.toml        what is run, resolved; with circuit.json, data.safetensors where needed
    run.json               the run's id, what it belongs to (identity, data fingerprint), number of features, classes
    environment.json       versions, platform, processor, threads
    rounds.jsonl           one line a round: metrics and counts, nothing that differs between two runs of one experiment
    events.jsonl           times, attempts, failures
    checkpoint.safetensors parameters, aggregator state, kept optimiser states; and, as metadata, the round and the
    length of rounds.jsonl that belong to it

A round is appended to rounds.jsonl and synced, then the checkpoint is written beside, synced and renamed into place.
Killed at any instant, a resumed run finds a whole checkpoint and cuts rounds.jsonl to the length that it names.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .cache import write_atomically
from .errors import DataError, RunError
from .params import Params

EXPERIMENT, FACTS, ENVIRONMENT, ROUNDS, EVENTS, CHECKPOINT = (
    "experiment.toml",
    "run.json",
    "environment.json",
    "rounds.jsonl",
    "events.jsonl",
    "checkpoint.safetensors",
)


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round: tensors by name, and the bytes of rounds.jsonl that belong to it."""

    round: int
    tensors: Params
    rounds_bytes: int


class RunDirectory:
    """One run's files. Make a new one with `create`, open one with the constructor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / EXPERIMENT).is_file():
            raise RunError(f"{folder} is not a run directory: it has no {EXPERIMENT}")

    @classmethod
    def create(
        cls, folder: Path, fill: Callable[[Path], object], facts: dict[str, Any], environment: dict[str, Any]
    ) -> "RunDirectory":
        """Make `folder` with what `fill` writes and both JSON files, all at once; refuse one that exists."""
        if folder.exists():
            raise RunError(f"{folder} exists and is never overwritten: resume it, or choose another directory")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            growing = folder.parent / f".{folder.name}.{os.getpid()}.new"
            growing.mkdir()
            fill(growing)
            (growing / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
            (growing / ENVIRONMENT).write_text(json.dumps(environment, indent=1), encoding="utf-8")
            growing.rename(folder)
        except OSError as error:
            raise RunError(
                f"cannot make the run directory {folder}: {error.strerror}; choose another with directory="
            ) from error
        return cls(folder)

    def facts(self) -> dict[str, Any]:
        """Return what run.json holds."""
        return self._read_json(FACTS)

    def environment(self) -> dict[str, Any]:
        """Return what environment.json holds."""
        return self._read_json(ENVIRONMENT)

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder / name} cannot be read ({error}); is this a run directory?") from error

    def event(self, kind: str, **what: Any) -> None:
        """Append one line to events.jsonl, with the time."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": kind, **what})
        with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def attempts(self) -> int:
        """Return how many times this run was started; a line cut short by a crash counts as one."""
        try:
            text = (self.folder / EVENTS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return 0
        return sum('"event": "start"' in line for line in text.splitlines())

    def append_round(self, record: dict[str, Any]) -> int:
        """Append one round and sync it; return the new length of rounds.jsonl in bytes."""
        with (self.folder / ROUNDS).open("ab") as file:
            file.write(json.dumps(record, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def rounds(self) -> list[dict[str, Any]]:
        """Return the rounds that a checkpoint vouches for."""
        checkpoint = self.checkpoint()
        if checkpoint is None:
            return []
        with (self.folder / ROUNDS).open("rb") as file:
            return [json.loads(line) for line in file.read(checkpoint.rounds_bytes).splitlines()]

    def cut_rounds(self, length: int) -> None:
        """Cut rounds.jsonl to what the checkpoint vouches for, dropping a round that was half written."""
        file = self.folder / ROUNDS
        size = file.stat().st_size if file.exists() else 0
        if size < length:
            raise RunError(
                f"{file} has {size} bytes and its checkpoint vouches for {length}: the run cannot be resumed"
            )
        if size > length:
            os.truncate(file, length)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in place of the last one: written beside it, synced, renamed."""
        metadata = {"round": str(checkpoint.round), "rounds_bytes": str(checkpoint.rounds_bytes)}
        tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
        try:
            write_atomically(self.folder / CHECKPOINT, save(tensors, metadata))
        except DataError as error:
            raise RunError(f"cannot write the checkpoint of round {checkpoint.round}: {error.__cause__}") from error

    def checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint, or None before the first; raise `RunError` if it cannot be read."""
        file = self.folder / CHECKPOINT
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata()
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a mapping)
            return Checkpoint(int(metadata["round"]), tensors, int(metadata["rounds_bytes"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{file} cannot be read ({error}); restore it or start a new run") from error
