"""Run an experiment: load, embed, federate, remember every round.

`run` is the embedded engine's main loop around a federation that `assembly` sets up and `measuring` evaluates.
"""

import secrets
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from .aggregation.admissible import admit
from .assembly import Federation, Prepared, bind, federate, prepare
from .callbacks import Callbacks, LiveChart
from .environment import environment
from .errors import ClientError, RunError
from .evidence import METRICS, headline
from .experiment import Experiment
from .federation import Round, run_round
from .federation.clients import Intervention
from .measuring import measure
from .params import params_hash
from .progress import Progress, in_notebook, say
from .qkd import KeepsAccount
from .records import CHECKPOINT, EXPERIMENT, JOBS, REPORT, Checkpoint, RunDirectory, refuse_existing
from .result import Result


def run(
    experiment: Experiment | str | Path,
    directory: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Any] = (),
    intervene: Intervention | None = None,
    max_qpu_seconds: float | None = None,
) -> Result:
    """Run an experiment, or the one in a TOML file, and return its result, remembered round by round in `directory`.

    directory: made anew and never overwritten; by default a new folder under runs/. resume: go on where the directory's
    last checkpoint stands (or start, if there is none), with the same outcome as an unbroken run; a finished run is
    loaded. callbacks: what else happens, see `callbacks.Callback`; in a notebook a `LiveChart` is among them if
    `progress` is shown. intervene: see `Cohort`. max_qpu_seconds: the time on a quantum processor that all attempts at
    this run may take together; a job that would pass it is not sent. Raises `ClientError` when a client fails and
    `BackendError` when the machine does; everything up to the round before is kept.
    """
    experiment, watching = Experiment.of(experiment), Callbacks(callbacks)
    if progress and in_notebook() and not any(isinstance(one, LiveChart) for one in callbacks):
        watching = Callbacks([*callbacks, LiveChart()])
    folder = choose(experiment, directory, resume)
    if resume and folder.exists():
        record = _opened(folder, experiment)
        with record.locked():
            checkpoint = record.checkpoint()
            record.clean(checkpoint)
            if checkpoint is None or checkpoint.round < experiment.rounds:
                _resume(experiment, record, checkpoint, progress, watching, intervene, max_qpu_seconds)
            return _finished(folder)
    refuse_existing(folder)
    experiment.check()
    prepared = prepare(experiment, progress)
    facts = _facts(experiment, prepared)
    federation = federate(
        experiment,
        prepared,
        bind(experiment, prepared),
        run_id=facts["run"],
        intervene=intervene,
        journal=folder / JOBS,
        max_qpu_seconds=max_qpu_seconds,
    )
    if experiment.training.rule is None:
        admit(experiment.aggregation, federation.server.per_round)
    plateau = experiment.plateau()
    if plateau and progress:
        say(plateau)
    # what cannot run at all fails here, before there is a directory; but a machine's jobs have to be written down there
    untrained = None if federation.executor else measure([federation])[0]
    record = RunDirectory.create(folder, experiment.save, facts, environment())
    with record.locked():
        if plateau:
            record.event("plateau", text=plateau)
        _carry_out(federation, record, untrained or measure([federation])[0], progress, watching)
        return _finished(folder)


def _resume(
    experiment: Experiment,
    record: RunDirectory,
    checkpoint: Checkpoint | None,
    progress: bool,
    callbacks: Callbacks,
    intervene: Intervention | None,
    max_qpu_seconds: float | None,
) -> None:
    """Go on from a checkpoint, under a new attempt number and so with new keys."""
    prepared, facts = prepare(experiment, progress), record.facts()
    if facts["fingerprint"] != prepared.dataset.fingerprint:
        raise RunError(
            f"the data of {record.folder} has changed since the run began: start a new run in another directory"
        )
    model = bind(experiment, prepared)
    attempt = record.attempts() + 1
    federation = federate(
        experiment,
        prepared,
        model,
        run_id=facts["run"],
        attempt=attempt,
        intervene=intervene,
        journal=record.folder / JOBS,
        max_qpu_seconds=max_qpu_seconds,
    )
    if checkpoint:
        federation.restore(checkpoint.round, checkpoint.tensors)
    _carry_out(federation, record, None if checkpoint else measure([federation])[0], progress, callbacks)


def _carry_out(
    federation: Federation,
    record: RunDirectory,
    untrained: dict[str, Any] | None,
    progress: bool,
    callbacks: Callbacks,
) -> None:
    """Run all rounds that are left and say in the events how it went; untrained: round 0, if it is not recorded yet."""
    record.keep_partition(federation.assignment.counts(federation.prepared.dataset, federation.split))
    record.event("start", round=federation.server.round, key_source=federation.experiment.seal.keys.source)
    reason: str | None = None
    try:
        if untrained is not None:
            _remember(federation, record, {"round": 0, **untrained})
        reason = _rounds(federation, record, progress, callbacks)
    except BaseException as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, ClientError):
            callbacks.call("client_failed", error.round, error.client, error.reason)
        trace = "".join(traceback.format_exception(error))
        record.event("stopped", round=federation.server.round, reason=reason, trace=trace)
        raise
    else:
        record.event("finished", round=federation.server.round, **({"reason": reason} if reason else {}))
    finally:
        callbacks.call("run_ended", reason)
        for failure in callbacks.failures:
            record.event("callback failed", **failure)


def _opened(folder: Path, experiment: Experiment) -> RunDirectory:
    record = RunDirectory(folder)
    if record.facts().get("identity") != experiment.identity:
        raise RunError(
            f"{folder} belongs to another experiment: compare {folder / EXPERIMENT}, or choose another directory"
        )
    return record


def _finished(folder: Path) -> Result:
    """Return the result of a finished run, its report written if the run was killed before that."""
    result = Result.load(folder)
    if not (folder / REPORT).exists():
        result.report()
    return result


def _rounds(federation: Federation, record: RunDirectory, progress: bool, callbacks: Callbacks) -> str | None:
    """Run the rounds that are left, each appended, synced and checkpointed before the next begins.

    Returns why a callback wanted no further round, None if all were run.
    """
    experiment, server = federation.experiment, federation.server
    shown, checkpoint = headline(federation.prepared.dataset.task), record.checkpoint()
    past = record.rounds(checkpoint) if checkpoint else []
    wishes = callbacks.call("run_started", experiment, record.folder, past)
    with Progress("federating", experiment.rounds, server.round, enabled=progress) as bar:
        while server.round < experiment.rounds:
            if reasons := [wish for wish in wishes if isinstance(wish, str)]:
                return "; ".join(reasons)
            callbacks.call("round_started", server.round + 1)
            wall, cpu = perf_counter(), process_time()
            try:
                outcome = run_round(server, federation.engine)
            finally:
                _account(federation, record)
            for client, why in outcome.excluded.items():
                record.event("excluded", round=outcome.number, client=client, reason=why)
                callbacks.call("client_failed", outcome.number, client, why)
            line = describe(outcome) | measure([federation])[0]
            wishes = callbacks.call("round_ended", line)
            _remember(federation, record, line)
            callbacks.call("checkpoint", server.round, record.folder / CHECKPOINT)
            record.event("round", round=outcome.number, wall_s=perf_counter() - wall, cpu_s=process_time() - cpu)
            bar.advance(
                f"round {outcome.number}/{experiment.rounds}  train loss {outcome.train_loss:.3f}  "
                f"test {METRICS[shown].label} {line['test'][shown]:.3f}"
            )
    return None


def _account(federation: Federation, record: RunDirectory) -> None:
    """Write down how the round's keys came about, if their source can say."""
    source = federation.server.channel.source
    if isinstance(source, KeepsAccount):
        for item in source.account():
            record.event("keys", **item)


def _remember(federation: Federation, record: RunDirectory, line: dict[str, Any]) -> None:
    length = record.append_round(line | {"params": params_hash(federation.server.params)})
    record.save_checkpoint(Checkpoint(federation.server.round, federation.state(), length))


def describe(outcome: Round) -> dict[str, Any]:
    """Return a round as it is recorded."""
    return {
        "round": outcome.number,
        "clients": list(outcome.clients),
        "excluded": list(outcome.excluded),
        "train_loss": outcome.train_loss,
        "info": outcome.info,
        "ledger": [asdict(entry) for entry in outcome.entries],
    }


def choose(experiment: Experiment, directory: str | Path | None, resume: bool) -> Path:
    """Return the folder to use: the one asked for, the newest of this experiment to resume, or the next free one."""
    if directory is not None:
        return Path(directory)
    stem = f"{experiment.name}-{experiment.identity[:8]}"
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        following = Path("runs") / f"{stem}-{number}"
        if resume and not following.exists():
            break
        folder = following
    return folder


def _facts(experiment: Experiment, prepared: Prepared) -> dict[str, Any]:
    return {
        "run": f"{experiment.identity[:16]}-{secrets.token_hex(8)}",
        "identity": experiment.identity,
        "fingerprint": prepared.dataset.fingerprint,
        "features": int(prepared.table.shape[1]),
        "classes": list(prepared.dataset.classes),
        "rows": len(prepared.dataset),
        "labels": np.bincount(prepared.dataset.labels).tolist() if prepared.dataset.classes else None,
    }
