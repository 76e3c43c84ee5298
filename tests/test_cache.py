import errno
import os
from pathlib import Path

import platformdirs
import pytest

from qfedfm.cache import cache_directory, write_atomically
from qfedfm.errors import DataError


def test_the_folder_is_the_platforms_or_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"
    monkeypatch.delenv("QFEDFM_CACHE")
    assert cache_directory() == platformdirs.user_cache_path("qfedfm")


def test_writing_makes_folders_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b.bin"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    write_atomically(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"the disk is full; make room there or use another folder"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    Path(tmp_path, "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write to .*file/below: .*QFEDFM_CACHE"):
        write_atomically(tmp_path / "file" / "below" / "x", b"")
