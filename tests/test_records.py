"""The run directory: made at once, never overwritten, appended to safely, read with suspicion."""

import json
import os

import pytest
import torch

from qfedfm.errors import DataError, RunError
from qfedfm.records import CHECKPOINT, EVENTS, EXPERIMENT, ROUNDS, Checkpoint, RunDirectory


def fill(folder):
    (folder / EXPERIMENT).write_text("rounds = 2")


@pytest.fixture
def record(tmp_path):
    return RunDirectory.create(tmp_path / "run", fill, {"run": "r"}, {"python": "3"})


def checkpoint(number, length):
    return Checkpoint(number, {"params/w": torch.arange(6.0).view(2, 3), "client/a/b/m.w": torch.ones(1)}, length)


def append(record, count):
    """Record `count` rounds, each with its checkpoint."""
    for number in range(count):
        record.save_checkpoint(checkpoint(number, record.append_round({"round": number})))


def no_room(*_):
    raise OSError(28, "No space left on device")


def test_a_new_directory_holds_what_it_was_given(record, tmp_path):
    assert record.facts() == {"run": "r"}
    assert record.environment() == {"python": "3"}
    assert record.checkpoint() is None
    assert record.attempts() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_exists_is_never_overwritten(record, tmp_path):
    before = sorted((path.name, path.read_bytes()) for path in record.folder.iterdir())
    with pytest.raises(RunError, match="exists and is never overwritten: resume it"):
        RunDirectory.create(record.folder, fill, {"run": "other"}, {})
    assert sorted((path.name, path.read_bytes()) for path in record.folder.iterdir()) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="never overwritten"):
        RunDirectory.create(tmp_path / "file", fill, {}, {})


@pytest.mark.parametrize(
    ("problem", "raised"), [(DataError("no data"), DataError), (OSError(28, "No space left on device"), RunError)]
)
def test_a_directory_that_cannot_be_filled_leaves_nothing_behind(tmp_path, problem, raised):
    def fail(folder):
        fill(folder)
        raise problem

    with pytest.raises(raised):
        RunDirectory.create(tmp_path / "run", fail, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_run_is_refused(tmp_path, record):
    with pytest.raises(RunError, match=f"not a run directory: it has no {EXPERIMENT}"):
        RunDirectory(tmp_path)
    (record.folder / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        record.facts()


def test_a_checkpoint_comes_back_as_it_was(record):
    append(record, 3)
    found = record.checkpoint()
    assert (found.round, found.rounds_bytes) == (2, (record.folder / ROUNDS).stat().st_size)
    for name, tensor in checkpoint(0, 0).tensors.items():
        assert torch.equal(found.tensors[name], tensor)
    assert [line["round"] for line in record.rounds(found)] == [0, 1, 2]


def test_only_rounds_that_the_checkpoint_vouches_for_are_read_and_kept(record):
    append(record, 2)
    vouched = (record.folder / ROUNDS).read_bytes()
    record.append_round({"round": 2})
    with (record.folder / ROUNDS).open("ab") as file:
        file.write(b'{"rou')
    (record.folder / f".{CHECKPOINT}.0123").write_bytes(b"half")
    found = record.checkpoint()
    assert [line["round"] for line in record.rounds(found)] == [0, 1]
    record.clean(found)
    assert (record.folder / ROUNDS).read_bytes() == vouched
    assert not list(record.folder.glob(".*"))
    (record.folder / CHECKPOINT).unlink()
    record.clean(None)
    assert (record.folder / ROUNDS).read_bytes() == b""


def test_missing_rounds_are_refused_and_nothing_is_changed(record):
    append(record, 2)
    found = record.checkpoint()
    os.truncate(record.folder / ROUNDS, 5)
    for action in (record.rounds, record.clean):
        with pytest.raises(RunError, match=r"rounds\.jsonl"):
            action(found)
    (record.folder / ROUNDS).write_bytes(b'{"round": 0}\n')
    for action in (record.rounds, record.clean):
        with pytest.raises(RunError, match="has 1 of the 2 lines"):
            action(found)
    assert (record.folder / ROUNDS).read_bytes() == b'{"round": 0}\n'
    (record.folder / ROUNDS).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        record.rounds(found)


def test_a_checkpoint_damaged_anywhere_is_refused(record):
    append(record, 1)
    file = record.folder / CHECKPOINT
    whole = file.read_bytes()
    for position in range(len(whole)):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            found = record.checkpoint()
        except RunError as error:
            assert "cannot be read" in str(error)  # noqa: PT017  (most flips raise, the others must change nothing)
        else:
            assert all(torch.equal(found.tensors[n], t) for n, t in checkpoint(0, 0).tensors.items())
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(RunError, match="restore it or start a new run"):
            record.checkpoint()


def test_a_full_disk_is_a_run_error(record, monkeypatch):
    append(record, 1)
    monkeypatch.setattr(os, "fsync", no_room)
    for action in (
        lambda: record.append_round({"round": 1}),
        lambda: record.event("start"),
        lambda: record.save_checkpoint(checkpoint(1, 3)),
    ):
        with pytest.raises(RunError, match="No space left on device"):
            action()
    monkeypatch.undo()
    assert record.checkpoint().round == 0


def test_attempts_are_counted_even_where_a_line_was_cut_short(record):
    record.event("start", round=0)
    record.event("stopped", reason='said "event": "start"')
    assert record.attempts() == 1
    record.event("start", round=3)
    with (record.folder / EVENTS).open("r+b") as file:
        file.truncate((record.folder / EVENTS).stat().st_size - 6)
    record.event("start", round=3)
    assert record.attempts() == 3
    first = json.loads((record.folder / EVENTS).read_text().splitlines()[0])
    assert first["event"] == "start"
    assert first["time"].endswith("Z")
