"""A journal of remote jobs: what was asked of a machine that bills, in a file that survives a crash.

One line of JSON for each event, appended and synced before the program goes on:

    {"event": "journal", "format": 1, "run": "4f..."}                       the first line; names all submissions
    {"event": "asked", "tag": "qfedfm-...", "key": ..., "estimate": 6.1 ...}  before a job is sent
    {"event": "sent", "tag": ..., "job": "d1k..."}                          once its id is known
    {"event": "done", "tag": ..., "billed": 5.0}                            it has a result; null: the bill is not known
    {"event": "failed", "tag": ..., "billed": 0.0, "reason": ...}           it has none

A job's tag is derived from the run, the submission's key, the part and the attempt, so that a process which finds
"asked" without "sent" can look on the service whether the job went out. Seconds spent are what was billed, and the
estimate where nothing is known yet, also for a job of which it is not known whether it was sent.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from filelock import FileLock

from ..errors import BackendError

FORMAT = 1
State = Literal["asked", "sent", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """One job of a submission, as far as it has come.

    key, part, attempt: which submission, which part of its rows, at which attempt. digest: a hash of the work. rows:
    the submission's rows in it. shots: asked for, of each row and setting. estimate, billed: seconds. record: layout,
    calibration, versions. id: on the machine.
    """

    tag: str
    key: str
    part: int
    attempt: int
    digest: str
    rows: tuple[int, ...]
    shots: int
    estimate: float
    record: dict[str, Any] = field(default_factory=dict)
    state: State = "asked"
    id: str | None = None
    billed: float | None = None
    reason: str = ""

    @property
    def seconds(self) -> float:
        """What counts against the budget."""
        return self.estimate if self.billed is None else self.billed


class Journal:
    """The journal at `path`; None keeps it in memory, for machines that send nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._run = ""
        self._jobs: dict[str, Job] = {}
        self._read = 0
        self._catch_up()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here, and read what they wrote."""
        if self.path is None:
            yield
            return
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            self._catch_up()
            if self.path.exists():
                os.truncate(self.path, self._read)  # a line that a crash cut short
            yield
        finally:
            lock.release()

    def jobs(self, key: str | None = None) -> list[Job]:
        """Return the last attempt at each part of a submission, or all attempts at all of them."""
        if key is None:
            return list(self._jobs.values())
        latest = {job.part: job for job in self._jobs.values() if job.key == key}
        return [latest[part] for part in sorted(latest)]

    def spent(self) -> float:
        """Return the seconds of all jobs: billed, or estimated where the bill is not known."""
        return sum(job.seconds for job in self._jobs.values())

    def tag(self, key: str, part: int, attempt: int) -> str:
        """Return the name of a job, the same in every process that has this journal."""
        if not self._run:
            self._write({"event": "journal", "format": FORMAT, "run": uuid4().hex})
        name = json.dumps([self._run, key, part, attempt])
        return f"qfedfm-{hashlib.sha256(name.encode()).hexdigest()[:24]}"

    def asked(self, job: Job) -> None:
        """Write down that a job is about to be sent."""
        told = asdict(job)
        self._write({"event": "asked"} | {name: told[name] for name in told if name not in _LATER})

    def sent(self, job: Job, id: str) -> None:
        """Write down a job's id."""
        self._event(job.tag, "sent", job=id)

    def done(self, job: Job, billed: float | None) -> None:
        """Write down that a job ended well; billed: seconds, None where the service has not told yet."""
        self._event(job.tag, "done", billed=billed)

    def failed(self, job: Job, billed: float | None, reason: str) -> None:
        """Write down that a job ended without a result, or was refused."""
        self._event(job.tag, "failed", billed=billed, reason=reason)

    def _event(self, tag: str, event: State, **what: Any) -> None:
        self._write({"event": event, "tag": tag, **what})

    def _write(self, line: dict[str, Any]) -> None:
        if self.path is not None:
            text = json.dumps({**line, "time": datetime.now(UTC).isoformat(timespec="seconds")})
            try:
                with self.path.open("ab") as file:
                    file.write(text.encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                    self._read = file.tell()
            except OSError as error:
                raise self._cannot_write(error) from error
        self._take(line)

    def _cannot_write(self, error: OSError) -> BackendError:
        return BackendError(f"cannot write {self.path}: {error.strerror or error}; make room there and resume")

    def _catch_up(self) -> None:
        if self.path is None or not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                self._take(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(
                f"{self.path} cannot be read as a journal of jobs ({error!r}); restore it, for it says what was billed"
            ) from error
        self._read += len(whole)

    def _take(self, line: dict[str, Any]) -> None:
        event = line["event"]
        if event == "journal":
            if line["format"] != FORMAT:
                raise ValueError(f"format {line['format']}")
            self._run = str(line["run"])
        elif event == "asked":
            told = {name: value for name, value in line.items() if name not in ("event", "time")}
            self._jobs[line["tag"]] = Job(**{**told, "rows": tuple(told["rows"])})
        else:
            told = {name: line[name] for name in ("billed", "reason") if name in line}
            job = self._jobs[line["tag"]]
            self._jobs[line["tag"]] = replace(job, state=event, id=line.get("job", job.id), **told)


_LATER = ("state", "id", "billed", "reason")
