import numpy as np
import pytest

from qfedfm.data import ArrayFile, Csv, from_arrays, from_csv
from qfedfm.errors import ConfigurationError, DataError

REVIEWS = """id,Text,Verdict,shop
1,"good, really",yes,north
1,bad,no,north
2,fine,yes,south
3,fine,yes,east
"""


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(REVIEWS, encoding="utf-8-sig")  # as spreadsheet programs save it
    return path


def test_texts_with_a_client_and_a_group_column(reviews):
    source = from_csv(reviews, text="Text", label="Verdict", client="shop", group="id")
    assert source == Csv(path=reviews, text="Text", label="Verdict", client="shop", group="id")
    data = source.load()
    assert data.name == "reviews"
    assert data.items == ("good, really", "bad", "fine", "fine")
    assert data.classes == ("no", "yes")
    assert data.labels.tolist() == [1, 0, 1, 1]
    assert data.groups.tolist() == [0, 0, 1, 2]
    assert data.domains.tolist() == ["north", "north", "south", "east"]


def test_without_those_columns_equal_texts_are_a_group_and_all_rows_one_domain(reviews):
    data = from_csv(reviews, text="Text", label="Verdict").load()
    assert data.groups.tolist() == [0, 1, 2, 2]
    assert set(data.domains) == {"all"}


def test_several_columns_are_features(tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("x,y,kind\n1,2.5,a\n-3,4e1,b\n")
    data = from_csv(path, text=["y", "x"], label="kind").load()
    assert data.items.dtype == np.float32
    assert data.items.tolist() == [[2.5, 1.0], [40.0, -3.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,0\n,1\n", r"line 3: column 'text' is empty"),
        ('text,label\n"two\nlines",0\nb\n', r"line 4: column 'label' is empty"),
        ("text,label\na,b,0\n", r"line 2: more cells than columns"),
        ("text,label\na,0\nb,0\n", "at least two classes; got 1 in 2 rows"),
        ('text,label\n"a,0\n', "cannot be read as CSV"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        from_csv(path, text="text", label="label").load()


def test_a_feature_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("x,label\n1,0\ntwo,1\n")
    with pytest.raises(DataError, match="line 3: column 'x' holds features and must be a number; got 'two'"):
        from_csv(path, text=["x"], label="label").load()


def test_missing_files_and_columns(reviews, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        from_csv(tmp_path / "none.csv", text="a", label="b").load()
    with pytest.raises(ConfigurationError) as caught:
        from_csv(reviews, text="Texts", label="Verdit", client="shop").load()
    assert [line.partition("has no column ")[2] for line in caught.value.problems] == [
        "'Texts' (did you mean 'Text'?); it has id, Text, Verdict, shop",
        "'Verdit' (did you mean 'Verdict'?); it has id, Text, Verdict, shop",
    ]
    (tmp_path / "latin.csv").write_bytes("text,label\nschön,0\n".encode("latin-1"))
    with pytest.raises(DataError, match="in UTF-8"):
        from_csv(tmp_path / "latin.csv", text="text", label="label").load()


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
