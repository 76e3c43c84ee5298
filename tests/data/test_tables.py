import numpy as np
import pytest

from qfedfm.data import Csv, from_csv
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
    with pytest.raises(DataError, match="line 3: column 'x' must hold numbers; got 'two'"):
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


NAMES = [
    ("Zürich\xa0café", r"line 3: a client's name must be printable .* got 'Zürich\\xa0café': write 'Zürich café'"),
    ('"two\nlines"', r"line 4: a client's name .*: write 'two lines'"),
    ("server", r"line 3: a client is named 'server', which is the server's own name: use another"),
    ("NaN", r"line 3: column 'shop' is NaN; fill the cell or remove the line"),
]


@pytest.mark.parametrize(("name", "message"), NAMES)
def test_a_name_that_a_client_cannot_have_is_refused_with_the_line_and_a_better_one(tmp_path, name, message):
    path = tmp_path / "shops.csv"
    path.write_text(f"text,label,shop\na,0,north\nb,1,{name}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"shops\.csv, {message}"):
        from_csv(path, text="text", label="label", client="shop").load()
    assert len(from_csv(path, text="text", label="label").load()) == 2 or name == "NaN"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("NaN", r"line 3: column 'x' is NaN; fill the cell"),
        ("inf", r"line 3: column 'x' holds inf; a number must lie within \+-3.4e\+38"),
        ("1e300", r"line 3: column 'x' holds 1e300"),
    ],
)
def test_a_feature_that_is_not_finite_is_refused_with_the_line(tmp_path, cell, message):
    path = tmp_path / "numbers.csv"
    path.write_text(f"x,label\n1,0\n{cell},1\n")
    with pytest.raises(DataError, match=message):
        from_csv(path, text=["x"], label="label").load()


def test_a_label_that_is_missing_is_no_class(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("text,label\na,0\nb,nan\nc,1\n")
    with pytest.raises(DataError, match="line 3: column 'label' is nan"):
        from_csv(path, text="text", label="label").load()


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_noticed_and_can_be_given(tmp_path, separator):
    path = tmp_path / "other.csv"
    path.write_text(f"text{separator}label\na, b{separator}0\nc{separator}1\n")
    with pytest.raises(ConfigurationError) as caught:
        from_csv(path, text="text", label="label").load()
    (line,) = caught.value.problems
    assert f"seems to be separated by {separator!r}" in line
    assert line.endswith(f"give separator={separator!r}")
    assert from_csv(path, text="text", label="label", separator=separator).load().items == ("a, b", "c")


def test_check_reads_no_further_than_the_columns(reviews, tmp_path):
    from_csv(reviews, text="Text", label="Verdict").check()
    with pytest.raises(ConfigurationError, match="has no column 'Txt'"):
        from_csv(reviews, text="Txt", label="Verdict").check()
    with pytest.raises(DataError, match="cannot be read"):
        from_csv(tmp_path / "none.csv", text="a", label="b").check()


@pytest.mark.parametrize(
    ("header", "text", "message"),
    [
        ("x,x,label", "x", "more than one column 'x'"),
        ("x,label,label", ["x"], "more than one column 'label'"),
        ("x,y,label", ["x", "x"], "'x' is named twice"),
        ("x,y,label", ["x", "label"], "'label' is the label, and would be predicted from itself"),
        ("x,y,label", "label", "'label' is the label"),
        ("x,y,label", [], "expected a column of texts, or columns of numbers; got none"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(tmp_path, header, text, message):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,2,0\n3,4,1\n")
    with pytest.raises(ConfigurationError, match=message):
        from_csv(path, text=text, label="label").load()


def test_a_column_twice_that_is_not_asked_for_does_no_harm(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,x,y,label\n1,2,3,0\n4,5,6,1\n")
    assert from_csv(path, text=["y"], label="label").load().items.tolist() == [[3], [6]]


def test_a_header_alone_another_encoding_and_pythons_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,label\n")
    with pytest.raises(DataError, match="there are no rows"):
        from_csv(path, text=["x"], label="label").load()
    path.write_bytes("x,label\n1,caf\xe9\n2,tea\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"UTF-8: .*; save it as UTF-8"):
        from_csv(path, text=["x"], label="label").load()
    path.write_text("x,label\n1_0,a\n2,b\n")
    with pytest.raises(DataError, match="must hold numbers; got '1_0'"):
        from_csv(path, text=["x"], label="label").load()
