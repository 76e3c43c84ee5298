import pytest

from qfedfm.ledger import Entry, Ledger

ENTRIES = [
    Entry(1, "a", 100, 40, {"model": 256, "update": 256}, rows=10, steps=2, executions=20),
    Entry(1, "b", 110, 50, {"model": 256, "update": 512}, rows=7, steps=1, executions=7, shots=1000),
    Entry(2, "a", 100, 41, {"model": 256}, rows=10, steps=2, executions=20),
]


def test_totals_added_by_hand() -> None:
    assert Ledger(ENTRIES).totals() == {
        "bytes_down": 310,
        "bytes_up": 131,
        "steps": 5,
        "executions": 47,
        "shots": 1000,
        "qpu_seconds": 0.0,
        "key_bits": 1536,
        "rounds": 2,
    }


def test_an_empty_ledger_counts_nothing() -> None:
    assert len(Ledger()) == 0
    assert set(Ledger().totals().values()) == {0}


def test_frame_has_one_row_per_entry_and_one_column_per_purpose_of_keys() -> None:
    frame = Ledger(ENTRIES).to_frame()
    assert len(frame) == len(Ledger(ENTRIES)) == 3
    assert frame["key_bits_update"].tolist()[:2] == [256, 512]
    assert frame["key_bits_model"].sum() == 768
    assert frame[frame.client == "a"]["bytes_up"].sum() == 81
    assert "key_bits" not in frame


def test_an_entry_cannot_be_changed_and_a_ledger_does_not_change_its_source() -> None:
    with pytest.raises(AttributeError):
        ENTRIES[0].rows = 11
    source = list(ENTRIES)
    Ledger(source).entries.append(ENTRIES[0])
    assert len(source) == 3
