"""Quantum key distribution: simulation, post-processing beside the Rust package `qkd`, sealing, and the key store.

Run as `.venv/bin/python benchmarks/qkd.py`. Everything runs on one core (pinned where the system can) with one thread.
Times are processor seconds of this process, which on a free core are wall seconds; the key store, which waits for the
disk, is timed by the wall. Each result is checked before its time counts. What is compared takes turns. Tables show the
best and the median of several repeats; the figures in the last line, one JSON object, are the best. It says

- `pulses_per_s`: pulses of GYS at 50 km, sent and received by `transmit`, until both parties hold their records.
- `cascade_mbit_s`: sifted bits that both parties together reconcile in a second, by error rate; channel and drawing of
  the orders included, drawing of keys and errors not. `cascade_f`: parities told over n h(Q) with the Q that occurred.
  `cascade_fer`: share of frames that differ afterwards or were given up, over all error rates.
- `peer_qkd_mbit_s`: the same for `qkd.reconcile.run_cascade`. It works on the error pattern alone: one party's
  parities, no messages. It draws the errors itself; the time for that is measured apart and taken off here, but not in
  `peer_qkd_as_called_mbit_s`. null: not installed. Both packages run the 14 passes of Martinez-Mateo et al. 2015, and
  also 11 (`..._11_passes_mbit_s`): faster, with about eight times the frame errors, the most that a bar of 2e-3 allows.
- `toeplitz_mbit_s`: input bits hashed to half as many in a second, the seed's transform kept from call to call.
- `seal_mib_s`, `raw_aesgcm_mib_s`: MiB of payload over the time to seal and unseal it (`Aead`, keys and the checks of
  the header included), and to encrypt and decrypt it with `AESGCM` of `cryptography`.
- `key_reserve_per_s`: calls of `KeyStore.reserve` for one key each, on disk. A message takes one key, and each call is
  flushed before it returns; many keys in one call share a flush and are shown apart.
"""

import importlib
import importlib.util
import json
import math
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfedfm.codecs import TensorMeta
from qfedfm.qkd import Key, KeyStore, PresharedKeys
from qfedfm.qkd.authentication import SESSION_BITS, AuthenticationPool
from qfedfm.qkd.cascade import FRAME, Schedule, cascade_alice, cascade_bob, near_optimal
from qfedfm.qkd.channel import ClassicalChannel, converse
from qfedfm.qkd.decoy_bb84 import DecoyBB84
from qfedfm.qkd.entropy import binary_entropy
from qfedfm.qkd.keys import Source
from qfedfm.qkd.link import gys, lim
from qfedfm.qkd.pulses import transmit
from qfedfm.qkd.session import run_session
from qfedfm.qkd.toeplitz import Toeplitz
from qfedfm.seal import Aead, Expected, Header, HybridAead, OneTimePad, ReplayGuard, Seal
from qfedfm.seeds import stream

PULSES = 10**9
QBERS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.11)
FRAMES, PEER_FRAMES, CASCADE_REPEATS = 1024, 256, 4
"""Ours works on all frames side by side, the peer on one after the other: its speed does not depend on their number."""
ALL_PASSES, FEWER = 14, 11
TOEPLITZ_BITS = (10**6, 10**7)
MIB = 64
KEYS, CALLS, MANY = 12_000, 200, 64
SESSION_PULSES = 2 * 10**9
REPEATS = 5
HASHES = "a" * 64

Seconds = list[float]


def processor(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return processor seconds and result of a call."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def row(name: str, amount: float, seconds: Seconds, unit: str, digits: int = 1) -> float:
    """Print amount per second, best and median, and return the best."""
    best = amount / min(seconds)
    print(f"  {name:<44}{best:>12,.{digits}f}{amount / median(seconds):>12,.{digits}f}  {unit}")
    return best


def title(text: str) -> None:
    print(f"\n{text:<46}{'best':>12}{'median':>12}")


def pulses() -> dict[str, Any]:
    """Time the event-driven simulation; gain and QBER of the signal must be the theory's within five sigma."""
    link, seconds = gys(50), list[float]()
    gain = float(link.gain(0.48))
    qber = float(link.error_gain(0.48)) / gain
    for repeat in range(REPEATS):
        spent, sent = processor(partial(transmit, link, PULSES, stream(repeat, "pulses")))
        signals = int(sent.alice.sent[:, 0].sum())
        assert abs(sent.gains()[0] - gain) < 5 * math.sqrt(gain / signals)
        sifted = (sent.alice.basis == sent.bob.basis) & (sent.alice.intensity == 0)
        wrong = float((sent.alice.bit != sent.bob.bit)[sifted].mean())
        assert abs(wrong - qber) < 5 * math.sqrt(qber / int(sifted.sum()))
        seconds.append(spent)
    title(f"GYS at 50 km, {PULSES:.0e} pulses, {len(sent.bob.pulse):,} clicks")
    return {"pulses_per_s": round(1e6 * row("transmit", PULSES / 1e6, seconds, "million pulses/s"))}


class Ours:
    """Both parties of Cascade on fresh keys and errors, and what came of it."""

    at_once = FRAMES

    def __init__(self, qber: float, passes: int) -> None:
        self.qber = qber
        self.schedule = Schedule(FRAME, near_optimal(qber).sizes[:passes], reuse=True)
        self.seconds: Seconds = []
        self.leaked = self.failed = self.frames = self.rounds = 0
        self.shannon = 0.0

    def run(self, repeat: int) -> None:
        """Draw, reconcile and check; only the second is timed."""
        generator = stream(repeat, "cascade", str(self.qber))
        alice = generator.integers(0, 2, (FRAMES, FRAME), dtype=np.uint8)
        errors = generator.random((FRAMES, FRAME), dtype=np.float32) < self.qber
        bob, channel = alice ^ errors, ClassicalChannel()
        parties = cascade_alice(alice, self.schedule, generator), cascade_bob(bob, self.schedule)
        spent, (told, corrected) = processor(partial(converse, channel, *parties))
        leaked = int(told.leaked.sum())
        assert (told.leaked == corrected.leaked).all()
        padding = channel.bits["alice"] - leaked  # headers, and the last byte of each message and pass
        assert 0 <= padding <= 8 * (channel.messages + 16) + 1024, "what was sent is not what was counted"
        self.seconds.append(spent)
        self.leaked += leaked
        self.shannon += alice.size * float(binary_entropy(float(errors.mean())))
        self.failed += int(((corrected.frames != alice).any(axis=1) | ~corrected.done).sum())
        self.frames += FRAMES
        self.rounds = channel.rounds

    @property
    def f(self) -> float:
        """Parities told over n h(Q) of the errors drawn."""
        return self.leaked / self.shannon


class Peer:
    """The peer's Cascade, which draws errors, corrects them and counts parities and wrong frames."""

    at_once = PEER_FRAMES

    def __init__(self, qber: float, passes: int) -> None:
        self.qber = qber
        self.reconcile: Any = importlib.import_module("qkd.reconcile")
        self.settings = self.reconcile.Cascade("nearoptimal", FRAME, passes)
        self.called: Seconds = []
        self.drawing: Seconds = []
        self.leaked, self.failed, self.frames = 0.0, 0, 0

    def run(self, repeat: int) -> None:
        """Time a call, and one that does next to nothing but draw errors, of which there are next to none."""
        cascade = self.reconcile.run_cascade
        one_block = self.reconcile.Cascade("nearoptimal", FRAME, 1)
        spent, _ = processor(partial(cascade, 1e-9, PEER_FRAMES, repeat, one_block))
        self.drawing.append(spent)
        spent, (leaked, failed) = processor(partial(cascade, self.qber, PEER_FRAMES, repeat, self.settings))
        self.called.append(spent)
        self.leaked += leaked * PEER_FRAMES
        self.failed += failed
        self.frames += PEER_FRAMES
        assert 1 < self.f < 1.1, "the peer's parities are out of all bounds"

    @property
    def seconds(self) -> Seconds:
        """The time of each call, less that of drawing errors."""
        return [seconds - min(self.drawing) for seconds in self.called]

    @property
    def f(self) -> float:
        """Parities told over n h(Q) of the rate at which errors are drawn."""
        return self.leaked / (self.frames * FRAME * float(binary_entropy(self.qber)))


def cascade(has_peer: bool) -> dict[str, Any]:
    """Time Cascade of both packages in turns, at one error rate after the other, again and again."""
    ours = {passes: {qber: Ours(qber, passes) for qber in QBERS} for passes in (ALL_PASSES, FEWER)}
    peer = {passes: {qber: Peer(qber, passes) for qber in QBERS} if has_peer else {} for passes in ours}
    for repeat in range(CASCADE_REPEATS):
        for qber in QBERS:
            timed = [ALL_PASSES] if repeat % 2 else ours
            turns = [part[qber] for passes in timed for part in (ours[passes], peer[passes]) if part]
            for one in reversed(turns) if repeat % 2 else turns:
                one.run(repeat)
    print(f"\nCascade, frames of {FRAME} bits: Mbit/s best / median, f, frames that failed\n")
    print(f"| QBER | qfedfm | qkd | qfedfm, {FEWER} passes | qkd, {FEWER} passes | qkd as called | message rounds |")
    print("|---:|" + "---:|" * 6)
    for qber in QBERS:
        cells = [_cell(part.get(qber)) for passes in ours for part in (ours[passes], peer[passes])]
        called = f"{_mbit_s(min(peer[ALL_PASSES][qber].called), PEER_FRAMES)}" if has_peer else "-"
        print(f"| {qber:.2f} | " + " | ".join([*cells, called, f"{ours[ALL_PASSES][qber].rounds:,}"]) + " |")
    print(f"\n  {FRAMES} frames side by side: rounds x round-trip time is their latency, which no rate here includes.")
    mine, theirs = ours[ALL_PASSES], peer[ALL_PASSES]
    return {
        "cascade_f": {str(qber): round(one.f, 4) for qber, one in mine.items()},
        "cascade_fer": sum(one.failed for one in mine.values()) / sum(one.frames for one in mine.values()),
        "cascade_failed": {str(qber): [one.failed, one.frames] for qber, one in mine.items()},
        "cascade_mbit_s": _rates(mine, min),
        "cascade_mbit_s_median": _rates(mine, median),
        f"cascade_{FEWER}_passes_mbit_s": _rates(ours[FEWER], min),
        "peer_qkd_mbit_s": _rates(theirs, min),
        "peer_qkd_mbit_s_median": _rates(theirs, median),
        f"peer_qkd_{FEWER}_passes_mbit_s": _rates(peer[FEWER], min),
        "peer_qkd_as_called_mbit_s": {str(q): _mbit_s(min(one.called), PEER_FRAMES) for q, one in theirs.items()}
        or None,
        "peer_qkd_f": {str(qber): round(one.f, 4) for qber, one in theirs.items()} or None,
    }


def _rates(contest: Mapping[float, Ours | Peer], of: Callable[[Seconds], float]) -> dict[str, float] | None:
    return {str(qber): _mbit_s(of(one.seconds), one.at_once) for qber, one in contest.items()} or None


def _cell(one: Ours | Peer | None) -> str:
    if one is None:
        return "-"
    best, middle = (_mbit_s(of(one.seconds), one.at_once) for of in (min, median))
    return f"{best:.1f} / {middle:.1f}, {one.f:.4f}, {one.failed}/{one.frames}"


def _mbit_s(seconds: float, frames: int) -> float:
    return round(frames * FRAME / seconds / 1e6, 2)


def toeplitz() -> dict[str, Any]:
    """Time the product with n inputs and n / 2 outputs; some rows must be those of the definition."""
    title("Toeplitz product, n bits to n / 2")
    rates = {}
    for bits in TOEPLITZ_BITS:
        generator = stream(0, "toeplitz", str(bits))
        seed = generator.integers(0, 2, bits + bits // 2 - 1, dtype=np.uint8)
        rows = generator.integers(0, bits // 2, 20)
        built, seconds = list[float](), list[float]()
        for _ in range(REPEATS):
            key = generator.integers(0, 2, bits, dtype=np.uint8)
            spent, matrix = processor(partial(Toeplitz, seed, bits, bits // 2))
            built.append(spent)
            spent, product = processor(partial(matrix, key))
            seconds.append(spent)
            backwards = key[::-1]
            assert all(product[i] == np.count_nonzero(seed[i : i + bits] & backwards) % 2 for i in rows.tolist())
        rates[str(bits)] = round(row(f"n = {bits:.0e}, seed's transform kept", bits / 1e6, seconds, "Mbit/s"), 1)
        row(
            f"n = {bits:.0e}, a new seed each time",
            bits / 1e6,
            [a + b for a, b in zip(built, seconds, strict=True)],
            "Mbit/s",
        )
    return {"toeplitz_mbit_s": rates}


class Ready:
    """Stands for a link with key material in stock; for timing only, as it gives the same material for ever."""

    source: ClassVar[Source] = "qkd-simulated"

    def __init__(self, material: bytes) -> None:
        self.material = material

    def connect(self) -> "Ready":
        """Return itself: declaration and live source in one."""
        return self

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        """Return the material."""
        return self.fetch(sender, receiver, ("1",), bits, purpose)

    def fetch(self, _sender: str, _receiver: str, ids: tuple[str, ...], bits: int, _purpose: str) -> Key:
        """Return the material."""
        assert bits == 8 * len(self.material)
        return Key(ids, self.material, "qkd-simulated")


def sealing() -> dict[str, Any]:
    """Time envelopes of 64 MiB in all suites, and the bare cipher, in turns."""
    size = MIB << 20
    payload = os.urandom(size)
    header = Header(
        "benchmark", 1, 1, 1, "update", "client-1", "server", HASHES, HASHES, ("dense",),
        (TensorMeta("w", "float32", (size // 4,), size),),
    )  # fmt: skip
    wanted = Expected("benchmark", 1, 1, "update", "client-1", "server", HASHES, HASHES, ("dense",))
    suites: dict[str, Seal] = {
        "Aead": Aead(PresharedKeys()),
        "HybridAead": HybridAead(PresharedKeys()),
        "OneTimePad, key in memory": OneTimePad(Ready(os.urandom(size + 32))),
    }
    sources = {name: suite.connect() for name, suite in suites.items()}

    def envelope(name: str) -> bytes:
        data = suites[name].seal(header, payload, sources[name])
        return suites[name].unseal(data, wanted, sources[name], ReplayGuard(), size + 10**6)[1]

    def bare() -> bytes:
        cipher, nonce = AESGCM(os.urandom(32)), os.urandom(12)
        return cipher.decrypt(nonce, cipher.encrypt(nonce, payload, None), None)

    calls = {"AESGCM of cryptography": bare} | {name: partial(envelope, name) for name in suites}
    seconds = {name: list[float]() for name in calls}
    for repeat in range(REPEATS + 2):
        for name in calls if repeat % 2 else reversed(calls):
            spent, opened = processor(calls[name])
            assert opened == payload
            seconds[name].append(spent)
    title(f"{MIB} MiB sealed and unsealed")
    raw, aead, hybrid, pad = (round(row(name, MIB, times, "MiB/s")) for name, times in seconds.items())
    return {"seal_mib_s": aead, "raw_aesgcm_mib_s": raw, "hybrid_seal_mib_s": hybrid, "pad_seal_mib_s": pad}


def keys() -> dict[str, Any]:
    """Time the key store on the disk of the working directory, wall seconds, beside SQLite's own commits."""
    with tempfile.TemporaryDirectory(prefix="qkd-benchmark-", dir=Path.cwd()) as folder:
        path = Path(folder) / "keys.sqlite"
        bare = sqlite3.connect(Path(folder) / "bare.sqlite", isolation_level=None)
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, changes INTEGER)")
        bare.executemany("INSERT INTO numbers (changes) VALUES (?)", [(0,)] * CALLS)

        def commit(number: int) -> None:
            bare.execute("UPDATE numbers SET changes = changes + 1 WHERE number = ?", (number + 1,))

        with KeyStore(path) as store:
            store.add("p", {f"{number:036d}": os.urandom(32) for number in range(KEYS)})

            def whole_life(_: int) -> None:
                ids = store.reserve("p")
                store.use("p", ids)
                store.destroy("p", ids)

            calls: dict[str, tuple[Callable[[int], Any], int, int]] = {
                "bare SQLite, one row a commit": (commit, CALLS, 1),
                "reserve(1)": (lambda _: store.reserve("p"), CALLS, 1),
                f"reserve({MANY})": (lambda _: store.reserve("p", MANY), CALLS // 10, MANY),
                "reserve(1), use and destroy": (whole_life, CALLS, 1),
            }
            seconds = {name: list[float]() for name in calls}
            for _ in range(REPEATS):
                for name, (call, count, _keys) in calls.items():
                    start = time.perf_counter()
                    for number in range(count):
                        call(number)
                    seconds[name].append(time.perf_counter() - start)
        bare.close()
        with KeyStore(path) as again:
            reserved, destroyed = again.count("p", "reserved"), again.count("p", "destroyed")
        assert (reserved, destroyed) == (REPEATS * (CALLS + CALLS // 10 * MANY), REPEATS * CALLS)
    title("KeyStore on disk, by the wall")
    rates = {
        name: round(row(name, count * many, seconds[name], "commits/s" if call is commit else "keys/s", 0))
        for name, (call, count, many) in calls.items()
    }
    commits, one, many, life = rates.values()
    return {
        "key_reserve_per_s": one,
        f"key_reserve_{MANY}_per_s": many,
        "key_life_per_s": life,
        "sqlite_commits_per_s": commits,
    }


def session() -> dict[str, Any]:
    """Time whole sessions, pulses to key, over the link of Lim et al. 2014 at 50 km."""
    seconds, stages = list[float](), dict[str, Seconds]()
    for repeat in range(3):
        marks: list[tuple[str, float]] = []
        pool = AuthenticationPool(os.urandom(SESSION_BITS // 8))

        def begins(stage: str, _done: int, _of: int, marks: list[tuple[str, float]] = marks) -> None:
            marks.append((stage, time.process_time()))

        link, generator = DecoyBB84(lim(50)), stream(repeat, "session")
        spent, done = processor(partial(run_session, link, SESSION_PULSES, generator, pool, progress=begins))
        assert done.aborted is None
        assert (done.key_alice == done.key_bob).all()
        seconds.append(spent)
        for (stage, start), (_, end) in pairwise(marks):
            stages.setdefault(stage, []).append(end - start)
    ledger = done.ledger
    title(f"session, Lim's link at 50 km, {SESSION_PULSES:.0e} pulses")
    sifted = row("sifted bits to key, pulses included", ledger.sifted / 1e6, seconds, "Mbit/s", 2)
    after = [whole - sent for whole, sent in zip(seconds, stages["transmission"], strict=True)]
    processed = row("sifted bits to key, pulses not included", ledger.sifted / 1e6, after, "Mbit/s", 2)
    print(f"  {ledger.sifted:,} sifted bits, {ledger.delivered:,} bits of key; {done.seconds:g} s of sending")
    print("  seconds: " + ", ".join(f"{stage} {median(times):.2f}" for stage, times in stages.items()))
    return {"session_sifted_mbit_s": round(sifted, 2), "session_after_pulses_mbit_s": round(processed, 2)}


def main() -> None:
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]  # hides the peer
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    else:
        print("this system cannot pin a process to a core: all runs with one thread each")
    has_peer = importlib.util.find_spec("qkd") is not None
    if not has_peer:
        print("the peer is missing, its figures stay empty; install it with\n  .venv/bin/pip install qkd==0.2.0")
    start, worked = time.perf_counter(), time.process_time()
    figures = pulses() | cascade(has_peer) | toeplitz() | sealing() | session()
    share = (time.process_time() - worked) / (time.perf_counter() - start)
    figures |= keys()
    print(f"\nThis process had {share:.0%} of its core while it computed.")
    print(json.dumps(figures | {"share_of_core": round(share, 2)}))


if __name__ == "__main__":
    main()
