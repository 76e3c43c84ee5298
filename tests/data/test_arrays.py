import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from qfedfm.data import ArrayFile, from_arrays
from qfedfm.errors import DataError


def test_arrays_keep_what_they_are_given():
    data = from_arrays(
        [[1, 2], [3, 4], [5, 6]], ["b", "a", "b"], clients=["x", "y", "x"], groups=["g", "h", "g"]
    ).load()
    assert data.items.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (data.classes, data.labels.tolist()) == (("a", "b"), [1, 0, 1])
    assert (data.domains.tolist(), data.groups.tolist()) == (["x", "y", "x"], [0, 1, 0])


def test_labels_are_indices_into_classes_or_names_among_them():
    features = np.eye(3)
    by_index = from_arrays(features, [1, 0, 1], classes=["off", "on"])
    assert by_index == from_arrays(features, ["on", "off", "on"], classes=["off", "on"])
    assert by_index != from_arrays(features, [0, 0, 1], classes=["off", "on"])
    assert from_arrays(features, [10, 3, 10]).load().classes == ("3", "10")
    with pytest.raises(DataError, match="label 'onn' is not among the classes off, on"):
        from_arrays(features, ["onn", "off", "on"], classes=["off", "on"])
    with pytest.raises(DataError, match="labels must be integers or strings; got float64"):
        from_arrays(features, [0.5, 1.0, 0.0])


@pytest.mark.parametrize("features", [[[1, 2], [3]], [[object()], [1]], [["a"], ["b"]]])
def test_features_that_are_neither_numbers_nor_texts(features):
    with pytest.raises(DataError, match="features must be"):
        from_arrays(features, [0, 1])


@pytest.mark.parametrize("items", [np.random.default_rng(0).normal(size=(4, 3)), ["è", "b", "c", "d"]])
def test_saved_arrays_come_back_and_damage_is_noticed(tmp_path, items):
    source = from_arrays(items, [0, 1, 2, 1], clients=list("ppqq"), groups=[4, 4, 5, 6])
    path = tmp_path / "arrays.safetensors"
    source.save(path)
    assert ArrayFile(path).load() == source.load()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        ArrayFile(path).load()
    path.write_bytes(content[:-3])
    with pytest.raises(DataError, match="cannot be read as arrays"):
        ArrayFile(path).load()
    with pytest.raises(DataError, match="cannot be read as arrays"):
        ArrayFile(tmp_path / "none").load()


def test_columns_of_a_pandas_table_are_texts_labels_clients_and_groups():
    table = pd.DataFrame(
        {"text": ["t0", "t1", "t2"], "label": ["b", "a", "b"], "shop": ["x", "y", "x"], "x": [1, 2, 3], "y": [4, 5, 6]}
    )
    for kind in (object, "string", "category"):
        some = table[["text", "label", "shop"]].astype(kind)
        data = from_arrays(some["text"], some["label"], clients=some["shop"], groups=some["shop"]).load()
        assert data == from_arrays(["t0", "t1", "t2"], ["b", "a", "b"], ["x", "y", "x"], ["x", "y", "x"]).load()
    numbers = from_arrays(table[["x", "y"]].astype(object), np.array(["b", "a", "b"], dtype=object)).load()
    assert numbers.items.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert numbers.classes == ("a", "b")


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_missing_value_among_texts_is_named_with_its_row(missing):
    column = pd.Series(["a", missing, "b"], dtype=object)
    for what, columns in [
        ("features", (column, [0, 1, 0])),
        ("labels", (np.eye(3), column)),
        ("clients", (np.eye(3), [0, 1, 0], column)),
        ("groups", (np.eye(3), [0, 1, 0], None, column)),
    ]:
        with pytest.raises(DataError, match=rf"{what} must be texts or numbers throughout; row 1 holds .*dropna"):
            from_arrays(*columns)


def test_clients_and_groups_are_names_and_not_measurements():
    for columns in [{"clients": [0.5, 1.0]}, {"groups": [0.5, 1.0]}]:
        with pytest.raises(DataError, match="must be integers or strings; got float64"):
            from_arrays(np.eye(2), [0, 1], **columns)


def test_labels_that_look_like_measurements_are_refused():
    draws = np.random.default_rng(1).normal(size=120)
    with pytest.raises(DataError, match=r"119 different labels in 120 rows, such as .*pandas.cut"):
        from_arrays(np.ones((120, 1)), [f"{value:.3f}" for value in draws])
    with pytest.raises(DataError, match="11 different labels in 110 rows"):
        from_arrays(np.ones((110, 1)), [str(number / 2) for number in range(11)] * 10)
    assert len(from_arrays(np.ones((154, 1)), list(range(77)) * 2).load().classes) == 77
    words = ["infinity", *(f"class {number}" for number in range(20))]
    assert len(from_arrays(np.ones((42, 1)), words * 2).load().classes) == 21


def test_a_number_too_large_is_refused_with_its_place_and_no_warning():
    with pytest.raises(DataError, match="row 1, feature 0 is inf"):
        from_arrays([[1.0], [1e300]], [0, 1])


def test_rows_of_unequal_length_are_refused_everywhere():
    with pytest.raises(DataError, match="labels must be an array with rows of equal length"):
        from_arrays(np.eye(2), [[1, 2], [3]])


def test_classes_are_named_once():
    with pytest.raises(DataError, match="'a' is named twice"):
        from_arrays(np.eye(2), [0, 1], classes=["a", "a"])


def test_a_task_of_another_name_is_no_classification():
    with pytest.raises(DataError, match="task: expected 'classes' or 'numbers'; got 'regression'"):
        from_arrays(np.eye(3), [0, 1, 2], task="regression")


def test_labels_of_floats_are_told_what_to_do_and_no_rows_are_no_data():
    with pytest.raises(DataError, match=r"got float64: write labels.astype\(int\), or .* task='numbers'"):
        from_arrays(np.eye(2), [0.0, 1.0])
    with pytest.raises(DataError, match="there are no rows"):
        from_arrays(np.ones((0, 2)), np.ones(0, dtype=int))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (scipy.sparse.csr_matrix(np.eye(2)), r"of a sparse matrix \.toarray\(\)"),
        (torch.eye(2, requires_grad=True), r"features cannot be made an array: .*detach\(\)"),
        (np.ones((2, 0)), "there are no features"),
        (3.0, r"one entry a row; got 3\.0"),
    ],
)
def test_what_is_no_table_of_features(features, message):
    with pytest.raises(DataError, match=message):
        from_arrays(features, [0, 1])
