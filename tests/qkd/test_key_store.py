"""A key is handed out once, whatever is killed, and whoever else asks at the same time."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError, KeyExhausted, KeySourceError
from qfedfm.qkd.key_store import KeyStore, RandomSupply

STEPS = {"reserve": "available", "use": "reserved", "destroy": None}


def keys(number, start=0, length=32):
    return {f"key-{i}": os.urandom(length) for i in range(start, start + number)}


PROCESSES = """
import os, signal, sys, threading, time
from itertools import count
from pathlib import Path
from qfedfm.errors import KeyExhausted, KeySourceError
from qfedfm.qkd.key_store import KeyStore

folder = Path(sys.argv[1])

def fork(work, *arguments):
    process = os.fork()
    if process:
        return process
    try:
        work(*arguments)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)

def end_of(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def spend(store, log, number):
    ids = store.reserve("p", number)
    os.write(log, "".join(f"{m.hex()}\\n" for m in store.use("p", ids)).encode())
    store.destroy("p", ids)

def log_of(name):
    return os.open(folder / f"{name}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def killed_before(statement):
    store, statements = KeyStore(folder / "statement"), count(1)
    def trace(_):
        if next(statements) == statement:
            os.kill(os.getpid(), signal.SIGKILL)
    store._database.set_trace_callback(trace)
    spend(store, log_of("statement"), 2)

def busy(name):
    store, log = KeyStore(folder / name), log_of(name)
    def work():
        try:
            while True:
                spend(store, log, 3)
        except KeyExhausted:
            pass
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def wait_for_a_key():
    assert KeyStore(folder / "waiting").reserve("p", wait=60) == ("a",)

def use_what_the_parent_opened(store):
    try:
        store.reserve("p")
    except KeySourceError as error:
        (folder / "forked.log").write_text(str(error))

for kills in count(1):
    status = end_of(fork(killed_before, kills))
    if status != -signal.SIGKILL:
        assert status == 0
        break
(folder / "kills").write_text(str(kills))

for seconds in (0.02, 0.05, 0.11):
    size = os.path.getsize(folder / "moment.log") if (folder / "moment.log").exists() else 0
    process = fork(busy, "moment")
    while not (folder / "moment.log").exists() or os.path.getsize(folder / "moment.log") == size:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    assert end_of(process) == -signal.SIGKILL

assert {end_of(process) for process in [fork(busy, "shared") for _ in range(4)]} == {0}

waiting = fork(wait_for_a_key)
time.sleep(0.1)
KeyStore(folder / "waiting").add("p", {"a": b"1"})
assert end_of(waiting) == 0

store = KeyStore()
store.add("p", {"a": b"1"})
assert end_of(fork(use_what_the_parent_opened, store)) == 0
assert store.reserve("p") == ("a",)
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Return a folder of stores that other processes used and were killed in, with what they logged, and the keys."""
    folder, made = tmp_path_factory.mktemp("stores"), {}
    for name, number in [("statement", 60), ("moment", 4000), ("shared", 150), ("waiting", 0)]:
        made[name] = keys(number)
        with KeyStore(folder / name) as store:
            store.add("p", made[name])
    done = subprocess.run([sys.executable, "-c", PROCESSES, folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder, made


def test_killed_before_every_statement_no_key_is_handed_out_twice(processes):
    folder, made = processes
    kills = int((folder / "kills").read_text())
    assert kills > 9  # three transactions with their beginning, changes and end
    handed_out = (folder / "statement.log").read_text().split()
    with KeyStore(folder / "statement") as store:
        left = store.available("p")
        handed_out += [material.hex() for material in store.use("p", store.reserve("p", len(left)))]
        swept = store.sweep()
        assert store.count("p", "destroyed") == 60
    assert len(set(handed_out)) == len(handed_out)
    assert set(handed_out) <= {material.hex() for material in made["statement"].values()}
    assert len(left) >= 60 - 2 * kills
    assert swept >= len(left)
    content = (folder / "statement").read_bytes()
    assert not [material for material in made["statement"].values() if material in content]


def test_killed_at_any_moment_while_busy_no_key_is_handed_out_twice(processes):
    folder, _ = processes
    with KeyStore(folder / "moment") as store:
        lost = store.sweep()
        rest = [material.hex() for material in store.use("p", store.reserve("p", store.count("p")))]
    handed_out = (folder / "moment.log").read_text().split()
    assert len(handed_out) >= 9
    assert lost <= 3 * 3 * 3  # three kills, three threads, three keys each
    assert len(set(handed_out + rest)) == len(handed_out + rest)
    assert 4000 - len(handed_out + rest) <= lost


def test_many_processes_and_threads_share_out_all_keys_once_each(processes):
    folder, made = processes
    logged = Counter((folder / "shared.log").read_text().split())
    assert logged == Counter(material.hex() for material in made["shared"].values())


def test_keys_that_another_process_adds_end_the_waiting(processes):
    with KeyStore(processes[0] / "waiting") as store:
        assert store.states("a") == {"p": "reserved"}


def test_a_forked_copy_refuses_to_hand_out_keys(processes):
    message = (processes[0] / "forked.log").read_text()
    assert message == "a key store does not outlive a fork: open it anew in this process"


def test_threads_get_different_keys():
    store = KeyStore()
    store.add("p", keys(400))
    with ThreadPoolExecutor(8) as pool:
        ids = [key_id for got in pool.map(lambda _: store.reserve("p", 4), range(100)) for key_id in got]
    assert len(set(ids)) == 400


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["add", *STEPS, "claim"]), st.integers(0, 6), st.integers(1, 3)), max_size=30)
)
def test_the_store_does_what_a_dictionary_of_states_says(operations):
    states: dict[str, str] = {}
    material: dict[str, bytes] = {}
    with KeyStore() as store:
        for operation, first, number in operations:
            ids = [f"key-{i}" for i in range(first, first + number)]
            if operation == "add":
                new = keys(number, first)
                if states.keys() & new.keys():
                    with pytest.raises(KeySourceError, match="knows already"):
                        store.add("p", new)
                else:
                    store.add("p", new)
                    states |= dict.fromkeys(new, "available")
                    material |= new
            elif operation == "reserve":
                there = [key_id for key_id in states if states[key_id] == "available"]
                if len(there) < number:
                    with pytest.raises(KeyExhausted, match=f"{len(there)} are there"):
                        store.reserve("p", number)
                else:
                    assert list(store.reserve("p", number)) == there[:number]
                    states |= dict.fromkeys(there[:number], "reserved")
            else:
                needed, after = {
                    "claim": ("available", "reserved"), "use": ("reserved", "used"), "destroy": (None, "destroyed")
                }[operation]  # fmt: skip
                if all(key_id in states and needed in (None, states[key_id]) for key_id in ids):
                    result = getattr(store, operation)("p", ids)
                    assert operation != "use" or list(result) == [material[key_id] for key_id in ids]
                    states |= dict.fromkeys(ids, after)
                else:
                    with pytest.raises(KeySourceError):
                        getattr(store, operation)("p", ids)
            assert {key_id: store.states(key_id).get("p") for key_id in states} == states


def test_destroyed_material_is_nowhere_in_the_file(tmp_path):
    path = tmp_path / "keys.sqlite"
    generator = random.Random(3)
    given_keys = {f"key-{i}": os.urandom(generator.choice([16, 32, 300, 5000])) for i in range(400)}
    ids = list(given_keys)
    generator.shuffle(ids)
    with KeyStore(path) as store:
        for start in range(0, 400, 50):
            store.add("p", dict(list(given_keys.items())[start : start + 50]))
        for start in range(0, 300, 25):
            batch = ids[start : start + 25]
            store.claim("p", batch)
            assert store.use("p", batch) == tuple(given_keys[key_id] for key_id in batch)
            store.destroy("p", batch)
    content = path.read_bytes()
    assert [path.name] == [file.name for file in tmp_path.iterdir()]  # no log is left
    assert not [key_id for key_id in ids[:300] if given_keys[key_id][:16] in content]
    assert given_keys[ids[300]][:16] in content  # the test can see material that is there


def test_the_log_is_truncated_while_the_store_is_open(tmp_path):
    with KeyStore(tmp_path / "keys.sqlite") as store:
        store.add("p", keys(300))
        ids = store.reserve("p", 300)
        store.use("p", ids)
        store.destroy("p", ids)
        assert (tmp_path / "keys.sqlite-wal").stat().st_size == 0


def test_waiting_ends_when_keys_come_and_when_time_is_up():
    store = KeyStore()
    timer = threading.Timer(0.1, store.add, ("p", keys(2)))
    timer.start()
    assert len(store.reserve("p", 2, wait=20)) == 2
    timer.join()
    start = time.monotonic()
    with pytest.raises(KeyExhausted, match=r"2 keys are needed for p and 0 are there after 0.1 s"):
        store.reserve("p", 2, wait=0.1)
    assert 0.1 <= time.monotonic() - start < 5


def test_a_shortage_reserves_nothing_and_purposes_are_apart():
    store = KeyStore()
    store.add("p", keys(2))
    store.add("q", keys(1))  # an id may be used again for another purpose
    with pytest.raises(KeyExhausted):
        store.reserve("p", 3)
    assert store.reserve("p", 2) == ("key-0", "key-1")
    assert store.states("key-0") == {"p": "reserved", "q": "available"}
    with pytest.raises(KeySourceError, match="at least one key"):
        store.reserve("p", 0)


def test_material_leaves_once_and_all_or_none():
    store = KeyStore()
    given_keys = keys(3)
    store.add("p", given_keys)
    first, second = store.reserve("p", 2)
    for ids in ([first, first], [first, "key-2"], [first, "none"]):
        with pytest.raises(KeySourceError, match=r"twice|it is available|it is unknown"):
            store.use("p", ids)
    assert store.use("p", [second, first]) == (given_keys[second], given_keys[first])
    with pytest.raises(KeySourceError, match="handed out once"):
        store.use("p", [first])
    store.destroy("p", [first])
    with pytest.raises(KeySourceError, match="it is destroyed"):
        store.use("p", [first])
    with pytest.raises(KeySourceError, match="knows already"):
        store.add("p", {first: b"again"})
    with pytest.raises(KeySourceError, match="at least one byte"):
        store.add("p", {"empty": b""})


def test_a_store_survives_being_closed_and_sweeping_takes_what_a_crash_left(tmp_path):
    path = tmp_path / "keys.sqlite"
    with KeyStore(path) as store:
        store.add("p", keys(4))
        store.use("p", store.reserve("p"))
        store.reserve("p")
    with KeyStore(path) as store:
        assert [store.count("p", state) for state in ("available", "reserved", "used", "destroyed")] == [2, 1, 1, 0]
        assert store.sweep() == 2
        assert store.available("p") == ("key-2", "key-3")
        assert store.count("p", "destroyed") == 2


def test_watermarks_say_how_many_keys_to_make():
    store = KeyStore(low=2, high=5)
    assert store.wanted("p") == 5
    store.add("p", keys(2))
    assert (store.wanted("p"), store.wanted("p", at_least=3), store.wanted("p", at_least=9)) == (0, 3, 7)
    for low, high in [(-1, 5), (6, 5), (0, 0)]:
        with pytest.raises(ConfigurationError, match="watermarks"):
            KeyStore(low=low, high=high)


def test_the_file_is_the_owners_alone_and_a_key_store(tmp_path):
    path = tmp_path / "keys.sqlite"
    with KeyStore(path) as store:
        store.add("p", keys(1))
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
        assert "key" not in repr(store).replace("keys.sqlite", "")
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"its owner alone, got mode 0640"):
        KeyStore(path)
    (tmp_path / "text").write_text("no database" * 1000)
    (tmp_path / "text").chmod(0o600)
    with pytest.raises(KeySourceError, match="cannot be opened"):
        KeyStore(tmp_path / "text")
    with pytest.raises(KeySourceError, match="cannot be opened: No such file"):
        KeyStore(tmp_path / "none" / "keys.sqlite")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (x)")
    other.close()
    (tmp_path / "other").chmod(0o600)
    with pytest.raises(KeySourceError, match="something else"):
        KeyStore(tmp_path / "other")


def test_a_closed_store_says_so(tmp_path):
    store = KeyStore(tmp_path / "keys.sqlite")
    store.close()
    store.close()
    with pytest.raises(KeySourceError, match="closed"):
        store.reserve("p")


def test_a_random_supply_gives_both_ends_the_same_up_to_its_limit():
    supply = RandomSupply(limit=512)
    one, other = supply.produce(256)
    assert one == other
    assert len(one) == 32
    with pytest.raises(KeyExhausted, match="256 bits of key left, 264 were asked for"):
        supply.produce(264)
    assert supply.produce(256)[0] != one
