"""Folders that the library `datasets` writes or reads stand in for the hub; nothing here touches a network."""

import sys

import datasets
import numpy as np
import pytest

from qfedfm.data import Hub, from_huggingface
from qfedfm.errors import ConfigurationError, DataError, DownloadError, MissingExtraError

ROWS = {
    "text": ["good day", "bad day", "good night", "bad night"],
    "label": [1, 0, 1, 0],
    "who": [7, 7, 8, 8],
    "x": [0.5, 1.5, 2.5, 3.5],
    "y": [1, 2, 3, 4],
    "pixels": [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [1.0, 1.0]],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path):
    table = datasets.Dataset.from_dict(ROWS).cast_column("label", datasets.ClassLabel(names=["poor", "fine"]))
    datasets.DatasetDict({"train": table, "test": table.select(range(2))}).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_texts_classes_and_clients_of_a_saved_data_set(saved):
    data = from_huggingface(saved, text="text", label="label", client="who").load()
    assert data.items == tuple(ROWS["text"])
    assert data.classes == ("poor", "fine")
    assert data.labels.tolist() == ROWS["label"]
    assert data.domains.tolist() == ["7", "7", "8", "8"]
    assert data.groups.tolist() == [0, 1, 2, 3]
    assert from_huggingface(saved, "text", "label", split="test").load().items == tuple(ROWS["text"][:2])
    assert from_huggingface(saved, "text", "label", rows=3, group="who").load().groups.tolist() == [0, 0, 1]


def test_columns_or_lists_of_numbers_are_features_and_labels_may_be_numbers(saved):
    data = from_huggingface(saved, text=("x", "y"), label="x", task="numbers").load()
    assert data.task == "numbers"
    assert data.labels.tolist() == ROWS["x"]
    assert np.array_equal(data.items, np.array([ROWS["x"], ROWS["y"]], dtype=np.float32).T)
    assert np.array_equal(from_huggingface(saved, "pixels", "label").load().items, np.float32(ROWS["pixels"]))


def test_a_folder_of_csv_files_has_the_classes_of_its_column(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "data.csv").write_text("text,label\ngood,yes\nbad,no\n")
    data = Hub(tmp_path / "rows", "text", "label").load()
    assert data.items == ("good", "bad")
    assert data.classes == ("no", "yes")
    assert data.labels.tolist() == [1, 0]


def test_offline_the_folder_is_offered():
    with pytest.raises(DownloadError, match=r"'no-such/data' is neither a folder of data nor .*check the name.*folder"):
        Hub("no-such/data", "text", "label").load()


def test_wrong_splits_and_columns_are_named_with_those_there_are(saved):
    with pytest.raises(ConfigurationError, match=r"no split 'tset' \(did you mean 'test'\?\): train, test"):
        Hub(saved, "text", "label", split="tset").load()
    with pytest.raises(
        ConfigurationError, match=r"no column 'lable' \(did you mean 'label'\?\); it has text, label"
    ) as two:
        Hub(saved, "texts", "lable").load()
    assert len(two.value.problems) == 2


def test_empty_cells_are_refused_with_their_row(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", None], "label": [0, 1]}).save_to_disk(str(tmp_path / "text"))
    with pytest.raises(DataError, match="row 1 holds None"):
        Hub(tmp_path / "text", "text", "label").load()
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, None]}).save_to_disk(str(tmp_path / "label"))
    with pytest.raises(DataError, match="column 'label' is empty in row 1"):
        Hub(tmp_path / "label", "text", "label").load()


def test_without_the_library_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'datasets': run  pip install 'qfedfm\[hub\]'"):
        Hub(saved, "text", "label").check()
