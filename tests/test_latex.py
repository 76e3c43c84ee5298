"""Tables for papers: booktabs, escaped, with intervals where there are any."""

import re

import pytest

from qfedfm.latex import escape, interval, table


def test_every_special_character_is_escaped():
    shown = escape("a_b & 50 % of $x^2$ #1 {y} ~ \\z <q>\nnext")
    assert shown == (
        r"a\_b \& 50 \% of \$x\textasciicircum{}2\$ \#1 \{y\} \textasciitilde{} \textbackslash{}z "
        r"\textless{}q\textgreater{} next"
    )


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.8123, 0.79, 0.8349), "0.812 [0.790, 0.835]"),
        ((0.5, float("-inf"), float("inf")), "0.500"),
        ((float("nan"), 0.0, 1.0), "–"),
    ],
)
def test_intervals_stand_where_there_are_any(numbers, expected):
    assert interval(*numbers) == expected


def test_a_table_by_hand():
    rows = [("[odd] name", 3, 0.123456, "0.5 [0.4, 0.6]"), ("b_2", None, float("nan"), "")]
    assert table(("arm", "n", "x", "test"), rows, "50 %", "tab:one") == (
        "\\begin{table}\n\\centering\n\\caption{50 \\%}\n\\label{tab:one}\n"
        "\\begin{tabular}{lrrr}\n\\toprule\narm & n & x & test \\\\\n\\midrule\n"
        "{}[odd] name & 3 & 0.1235 & 0.5 [0.4, 0.6] \\\\\nb\\_2 & -- & -- &  \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_rows_have_as_many_cells_as_the_head():
    lines = table(("a", "b & c"), [("x & y", 1.0)], "c").splitlines()
    assert all(len(re.findall(r"(?<!\\)&", line)) == 1 for line in lines if line.endswith(r"\\"))
