"""A run's directory: written once, appended to safely, resumed exactly.

::

    experiment.toml        what is run, resolved; with circuit.json, data.safetensors where needed
    run.json               the run's id, what it belongs to (identity, data fingerprint), number of features, classes
    environment.json       versions, platform, processor, threads
    partition.csv          how many rows each client got, by part, class and domain
    rounds.jsonl           one line a round: metrics and counts, nothing that differs between two runs of one experiment
    events.jsonl           times, attempts, failures
    checkpoint.safetensors parameters, aggregator state, kept optimiser states; and, as metadata, the round and the
                           length of rounds.jsonl that belong to it, and a hash of all tensors
    lock                   held by the process that runs here
    report.html            for people; made from the rest, and again by `qfedfm report`

A round is appended to rounds.jsonl and synced, then the checkpoint is written beside, synced and renamed into place.
Killed at any instant, a resumed run finds a whole checkpoint and cuts rounds.jsonl to the length that it names.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .cache import write_atomically
from .errors import DataError, RunError
from .params import Params, params_hash

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT, FACTS, ENVIRONMENT, LOCK = "experiment.toml", "run.json", "environment.json", "lock"
ROUNDS, EVENTS, CHECKPOINT, REPORT = "rounds.jsonl", "events.jsonl", "checkpoint.safetensors", "report.html"
PARTITION = "partition.csv"
JOBS = "jobs.jsonl"  # what a remote machine was asked to do


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round: tensors by name, and the bytes of rounds.jsonl that belong to it."""

    round: int
    tensors: Params
    rounds_bytes: int


def divided(tensors: Params) -> tuple[Params, Params, dict[str, Params]]:
    """Return a checkpoint's tensors as the model, the server's own state, and what each client remembers."""
    parts: dict[str, Params] = {"params": {}, "aggregation": {}}
    clients: dict[str, Params] = {}
    for key, tensor in tensors.items():
        owner, _, rest = key.partition("/")
        if owner == "client":
            client, _, name = rest.rpartition("/")  # a client's name may hold a slash, a parameter's does not
            clients.setdefault(client, {})[name] = tensor
        else:
            parts.setdefault(owner, {})[rest] = tensor
    return parts["params"], parts["aggregation"], clients


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
        refuse_existing(folder)
        growing = folder.parent / f".{folder.name}.{uuid4().hex}.new"
        try:
            growing.mkdir(parents=True)
            fill(growing)
            (growing / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
            (growing / ENVIRONMENT).write_text(json.dumps(environment, indent=1), encoding="utf-8")
            growing.rename(folder)
        except OSError as error:
            raise RunError(
                f"cannot make the run directory {folder}: {error.strerror}; choose another directory"
            ) from error
        finally:
            shutil.rmtree(growing, ignore_errors=True)
        return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from running here; the lock falls with its process, however that ends."""
        lock = FileLock(self.folder / LOCK, timeout=0)
        try:
            with lock:
                yield
        except Timeout:
            raise RunError(f"another process is running {self.folder}: wait for it or stop it, then resume") from None

    def facts(self) -> dict[str, Any]:
        """Return what run.json holds."""
        return self._read_json(FACTS)

    def environment(self) -> dict[str, Any]:
        """Return what environment.json holds."""
        return self._read_json(ENVIRONMENT)

    def keep_partition(self, counts: "pd.DataFrame") -> None:
        """Write partition.csv, unless it is there; counts: see `Assignment.counts`."""
        if not (self.folder / PARTITION).exists():
            try:
                write_atomically(self.folder / PARTITION, counts.to_csv(index=False).encode())
            except DataError as error:
                raise RunError(f"cannot write {self.folder / PARTITION}: {error.__cause__}") from error

    def partition(self) -> "pd.DataFrame | None":
        """Return what partition.csv holds, in order; None where an earlier version of this package kept none."""
        import pandas as pd

        file = self.folder / PARTITION
        if not file.exists():
            return None
        texts = dict.fromkeys(("part", "client", "class", "domain"), str)
        try:
            return pd.read_csv(file, dtype=texts | {"rows": int}, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read ({error}); resume the run to write it again") from error

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder / name} cannot be read ({error}); is this a run directory?") from error

    def event(self, kind: str, **what: Any) -> None:
        """Append one line to events.jsonl, with the time."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": kind, **what})
        self._append(EVENTS, line)

    def attempts(self) -> int:
        """Return how many times this run was started, counting a start whose line was cut short by a crash."""
        try:
            text = (self.folder / EVENTS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return 0
        return text.count('"event": "start"')

    def events(self) -> list[dict[str, Any]]:
        """Return all events in order; a line that a crash cut short is left out."""
        try:
            lines = (self.folder / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(dict(json.loads(line)))
            except ValueError:
                continue
        return found

    def append_round(self, record: dict[str, Any]) -> int:
        """Append one round and sync it; return the new length of rounds.jsonl in bytes."""
        try:
            line = json.dumps(record, sort_keys=True, allow_nan=False)
        except ValueError:
            raise RunError(
                f"after round {record['round']} the global model's loss is not finite, and the round is not kept: "
                "start a new run with a lower learning rate"
            ) from None
        return self._append(ROUNDS, line)

    def _append(self, name: str, line: str) -> int:
        try:
            with (self.folder / name).open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise RunError(f"cannot write {self.folder / name}: {error.strerror}; make room and resume") from error

    def rounds(self, checkpoint: Checkpoint) -> list[dict[str, Any]]:
        """Return the rounds that a checkpoint vouches for."""
        file = self.folder / ROUNDS
        try:
            with file.open("rb") as opened:
                vouched = opened.read(checkpoint.rounds_bytes)
            lines = [json.loads(line) for line in vouched.splitlines()]
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read ({error}); restore it or start a new run") from error
        if len(lines) != checkpoint.round + 1:
            raise RunError(
                f"{file} has {len(lines)} of the {checkpoint.round + 1} lines that its checkpoint vouches for; "
                "restore it or start a new run"
            )
        return lines

    def clean(self, checkpoint: Checkpoint | None) -> None:
        """Remove what a killed attempt left half done: lines after the checkpoint's, files not yet in place."""
        if checkpoint is not None:
            self.rounds(checkpoint)  # raises where lines are missing, before anything is changed
        for name in (CHECKPOINT, REPORT, PARTITION):
            for left in self.folder.glob(f".{name}.*"):  # a file that was to be renamed to this
                left.unlink()
        file = self.folder / ROUNDS
        if file.exists():
            os.truncate(file, checkpoint.rounds_bytes if checkpoint else 0)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in place of the last one: written beside it, synced, renamed."""
        tensors = {name: checkpoint.tensors[name].contiguous() for name in sorted(checkpoint.tensors)}
        metadata = {
            "round": str(checkpoint.round),
            "rounds_bytes": str(checkpoint.rounds_bytes),
            "hash": params_hash(tensors),
        }
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
                tensors = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
            found = Checkpoint(int(metadata["round"]), tensors, int(metadata["rounds_bytes"]))
            damaged = "" if metadata["hash"] == params_hash(tensors) else "its content has changed"
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            damaged = str(error)
        if damaged:
            raise RunError(f"{file} cannot be read ({damaged}); restore it or start a new run")
        return found


def refuse_existing(folder: Path) -> None:
    """Raise `RunError` if there is anything at `folder`: what a run wrote is never overwritten."""
    if folder.exists():
        raise RunError(f"{folder} exists and is never overwritten: resume it, or choose another directory")
