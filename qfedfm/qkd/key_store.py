"""Keys kept until they are used, once: reserve, use, destroy, each durable before the next step begins.

A key belongs to a purpose (a link and direction, or a pair of users) and moves one way only::

    available --reserve, claim--> reserved --use--> used --destroy--> destroyed

Each step is one SQLite transaction, flushed to disk before the call returns (write-ahead log, synchronous=FULL).
Material leaves the store in `use` alone, and only after the key is marked used on disk: a process that is killed at any
point may lose a key, but none is ever handed out twice, whichever threads and processes share the file. Destroying
overwrites the material in place; id and state stay behind, so that a key offered a second time is refused.

What overwriting cannot reach: the write-ahead log holds copies until it is truncated (every `LOG_LIMIT` destroyed keys,
and on closing), and file systems and flash disks keep blocks of their own accord. Encrypt the disk where that matters.
"""

import json
import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from ..errors import ConfigurationError, KeyExhausted, KeySourceError

State = Literal["available", "reserved", "used", "destroyed"]

LOG_LIMIT = 256
POLL_SECONDS = 0.05
"""How often a waiting process looks for keys that another process added."""

_connecting = threading.Lock()
_FORMAT = 0x51464B31  # "QFK1" in SQLite's application_id
# States are texts of one length, and destroyed material keeps its length, so that every change of a row overwrites it
# in place: SQLite then never moves a row, which could leave a copy of its material behind.
_CODES: dict[State, str] = {"available": "a", "reserved": "r", "used": "u", "destroyed": "d"}
_STATES = {code: state for state, code in _CODES.items()}
_SCHEMA = """
CREATE TABLE keys (
    number INTEGER PRIMARY KEY, purpose TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, material BLOB NOT NULL);
CREATE UNIQUE INDEX whose ON keys (purpose, id);
CREATE INDEX available ON keys (purpose, number) WHERE state = 'a';
CREATE INDEX ids ON keys (id);
"""
_RESERVE = """
UPDATE keys SET state = 'r'
WHERE number IN (SELECT number FROM keys WHERE purpose = ? AND state = 'a' ORDER BY number LIMIT ?) RETURNING number, id
"""
_FIND = """
SELECT keys.id, state, number, material
FROM json_each(?) AS asked CROSS JOIN keys INDEXED BY whose ON keys.id = asked.value AND purpose = ?
"""


class KeySupply(Protocol):
    """Makes new key between two ends, once for both: a simulated link, or devices."""

    def produce(self, bits: int) -> tuple[bytes, bytes]:
        """Return `bits` bits (a multiple of 8) of fresh secret key, as either end holds it; equal where all went well.

        Raises `KeyExhausted` when that much cannot be made; then nothing was.
        """
        ...


class RandomSupply:
    """A stand-in for a link that never fails: both ends get the same bytes from the operating system's generator.

    No photon is sent, not even a simulated one. limit: bits it gives in all, or None for no end.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def produce(self, bits: int) -> tuple[bytes, bytes]:
        """Return the same random bytes twice."""
        with self._lock:
            if self._left is not None:
                if bits > self._left:
                    raise KeyExhausted(f"the supply has {self._left} bits of key left, {bits} were asked for")
                self._left -= bits
        material = os.urandom(bits // 8)
        return material, material


class KeyStore:
    """Keys by purpose and id, in the SQLite file `path` or, with None, in memory; safe for threads and processes.

    A file is made readable by its owner alone, and one that others may read raises `ConfigurationError`. A process that
    was forked opens the store anew. low, high: watermarks in keys per purpose; see `wanted`.
    """

    def __init__(self, path: Path | None = None, *, low: int = 0, high: int = 1000) -> None:
        if not 0 <= low <= high or high < 1:
            raise ConfigurationError(f"watermarks: expected 0 <= low <= high and high >= 1; got {low} and {high}")
        self.path, self.low, self.high = path, low, high
        self._process = os.getpid()
        self._changed = threading.Condition(threading.RLock())
        self._destroyed = 0
        with _connecting:
            self._database = _connect(path)
        self._close = weakref.finalize(self, _close, self._database, self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KeyStore({str(self.path) if self.path else 'in memory'})"

    def close(self) -> None:
        """Truncate the log and close the file; the store cannot be used afterwards."""
        with self._changed:
            self._close()

    def add(self, purpose: str, keys: Mapping[str, bytes]) -> None:
        """Keep `keys`, id to material, for `purpose`: all of them, or none and `KeySourceError` if an id is known."""
        rows = [(purpose, key_id, _CODES["available"], bytes(material)) for key_id, material in keys.items()]
        if not all(row[3] for row in rows):
            raise KeySourceError("a key has at least one byte, got an empty one")
        with self._transaction() as database:
            try:
                database.executemany("INSERT INTO keys (purpose, id, state, material) VALUES (?, ?, ?, ?)", rows)
            except sqlite3.IntegrityError:
                raise KeySourceError(
                    f"a key for {purpose} has an id that the store knows already, perhaps of a key long spent: "
                    "none of them was added; make keys with fresh ids"
                ) from None
            self._changed.notify_all()

    def reserve(self, purpose: str, count: int = 1, wait: float = 0.0) -> tuple[str, ...]:
        """Set the `count` oldest available keys of `purpose` aside for the caller and return their ids.

        Waits up to `wait` seconds for keys to be added; then raises `KeyExhausted` and has reserved none.
        """
        if count < 1:
            raise KeySourceError(f"expected to reserve at least one key, got {count}")
        deadline = time.monotonic() + wait
        with self._changed:
            while True:
                with self._transaction() as database:
                    rows = database.execute(_RESERVE, (purpose, count)).fetchall()
                    if len(rows) == count:
                        return tuple(key_id for _, key_id in sorted(rows))
                    database.execute("ROLLBACK")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise KeyExhausted(
                        f"{count} keys are needed for {purpose} and {len(rows)} are there after {wait:g} s of waiting"
                    )
                self._changed.wait(min(left, POLL_SECONDS))

    def claim(self, purpose: str, ids: Sequence[str]) -> None:
        """Reserve the available keys named `ids`, which the other end chose; `KeySourceError` if one is not there."""
        self._move(purpose, ids, ("available",), "reserved")

    def use(self, purpose: str, ids: Sequence[str]) -> tuple[bytes, ...]:
        """Return the material of reserved keys, in order, for the only time; all of them or `KeySourceError`."""
        return self._move(purpose, ids, ("reserved",), "used")

    def destroy(self, purpose: str, ids: Sequence[str]) -> None:
        """Overwrite the material of keys that are no longer wanted, whatever their state."""
        self._move(purpose, ids, tuple(_CODES), "destroyed")
        self._trim(len(ids))

    def sweep(self) -> int:
        """Destroy all keys that were reserved or used and never destroyed, and return how many there were.

        For the only owner of a file, when it starts: such keys are what a crash left behind. A key that another process
        holds at this moment is lost to it.
        """
        with self._transaction() as database:
            swept = database.execute(
                "UPDATE keys SET state = 'd', material = zeroblob(length(material)) WHERE state IN ('r', 'u')"
            ).rowcount
        self._trim(swept)
        return swept

    def count(self, purpose: str, state: State = "available") -> int:
        """Return how many keys of `purpose` are in `state`."""
        with self._transaction() as database:
            query = "SELECT count(*) FROM keys WHERE purpose = ? AND state = ?"
            if state == "available":
                query = "SELECT count(*) FROM keys WHERE purpose = ? AND state = 'a' AND ? = 'a'"  # uses the index
            (number,) = database.execute(query, (purpose, _CODES[state])).fetchone()
        return int(number)

    def available(self, purpose: str) -> tuple[str, ...]:
        """Return the ids of the available keys of `purpose`, the oldest first."""
        with self._transaction() as database:
            rows = database.execute("SELECT id FROM keys WHERE purpose = ? AND state = 'a' ORDER BY number", (purpose,))
            return tuple(key_id for (key_id,) in rows)

    def states(self, key_id: str) -> dict[str, State]:
        """Return the state of the key with this id for every purpose that has one: destroyed keys are remembered."""
        with self._transaction() as database:
            rows = database.execute("SELECT purpose, state FROM keys WHERE id = ?", (key_id,))
            return {purpose: _STATES[code] for purpose, code in rows}

    def wanted(self, purpose: str, at_least: int = 0) -> int:
        """Return how many keys to add: up to the high mark (or `at_least`) once fewer than the low mark are available.

        at_least: keys that are needed at once; below that many the marks do not matter.
        """
        there = self.count(purpose)
        return max(self.high, at_least) - there if there < max(self.low, at_least) else 0

    def _move(self, purpose: str, ids: Sequence[str], before: tuple[State, ...], after: State) -> tuple[bytes, ...]:
        """Take all keys from a state in `before` to `after` and return what material they had."""
        if len(set(ids)) != len(ids):
            raise KeySourceError("a key was named twice in one request")
        content = "zeroblob(length(material))" if after == "destroyed" else "material"
        with self._transaction() as database:
            rows = database.execute(_FIND, (json.dumps(list(ids)), purpose)).fetchall()
            found = {key_id: (_STATES[code], material) for key_id, code, _, material in rows}
            for key_id in ids:
                state = found[key_id][0] if key_id in found else "unknown"
                if state not in before:
                    raise KeySourceError(
                        f"key '{key_id}' for {purpose} should be {' or '.join(before)}, and it is {state}: "
                        "a key is handed out once"
                    )
            numbers = json.dumps([number for _, _, number, _ in rows])
            database.execute(
                f"UPDATE keys SET state = ?, material = {content} WHERE number IN (SELECT value FROM json_each(?))",
                (_CODES[after], numbers),
            )
        return tuple(found[key_id][1] for key_id in ids)

    def _trim(self, destroyed: int) -> None:
        """Truncate the log now and then, for it holds copies of the material."""
        with self._changed:
            self._destroyed += destroyed
            if self._destroyed >= LOG_LIMIT:
                self._destroyed = 0
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; what was done is on disk at the end, or undone if an error leaves the block."""
        if self._process != os.getpid():
            raise KeySourceError("a key store does not outlive a fork: open it anew in this process")
        with self._changed:
            database = self._database
            try:
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                    if database.in_transaction:
                        database.execute("COMMIT")
                finally:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise KeySourceError(f"{self!r} failed ({error}); no key was handed out") from error


def _close(database: sqlite3.Connection, process: int) -> None:
    if process == os.getpid():  # a forked copy must leave its parent's file alone
        database.close()


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        _make_private(path)
    try:
        database = sqlite3.connect(
            str(path or ":memory:"), timeout=30, isolation_level=None, check_same_thread=False, cached_statements=32
        )
    except sqlite3.Error as error:
        raise KeySourceError(f"the key store '{path}' cannot be opened: {error}") from None
    try:
        for pragma in ("secure_delete = ON", "journal_mode = WAL", "synchronous = FULL", "fullfsync = ON"):
            database.execute(f"PRAGMA {pragma}").fetchall()
        database.execute("BEGIN IMMEDIATE")
        (written,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables:
            for statement in _SCHEMA.strip().split(";\n"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {_FORMAT}")
        elif written != _FORMAT:
            raise KeySourceError(f"'{path}' is a database of something else: give the key store a file of its own")
        database.execute("COMMIT")
    except (sqlite3.Error, KeySourceError) as error:
        database.close()
        if isinstance(error, KeySourceError):
            raise
        raise KeySourceError(f"the key store '{path}' cannot be opened: {error}") from None
    return database


def _make_private(path: Path) -> None:
    """Create `path`, open to its owner alone, or check that it is; SQLite gives its log the same mode.

    A file that exists is not opened here: closing it again would drop the locks of another store in this process.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise KeySourceError(f"the key store '{path}' cannot be opened: {error.strerror}") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"the key store '{path}' should be open to its owner alone, got mode {mode:04o}: run  chmod 600 on it"
        )
