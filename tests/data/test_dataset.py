from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.data import Dataset, split
from qfedfm.data.dataset import unfit_name
from qfedfm.errors import ConfigurationError, DataError
from qfedfm.federation.messages import SERVER


def dataset(groups, domains=None, items=None):
    rows = len(groups)
    return Dataset(
        name="made",
        items=np.arange(rows, dtype=np.float32)[:, None] if items is None else items,
        labels=np.arange(rows) % 2,
        classes=("no", "yes"),
        groups=np.array(groups, dtype=np.int64),
        domains=np.array(["all"] * rows if domains is None else domains),
    )


@given(
    sizes=st.lists(st.lists(st.integers(1, 7), min_size=20, max_size=60), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_every_row_is_in_one_part_groups_stay_whole_and_domains_keep_their_proportions(sizes, seed):
    numbers = iter(range(10_000))
    groups = [group for domain in sizes for size in domain for group in [next(numbers)] * size]
    domains = [f"d{index}" for index, domain in enumerate(sizes) for _ in range(sum(domain))]
    data = dataset(groups, domains)
    parts = split(data, seed)
    rows = [parts.train, parts.validation, parts.test]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(len(data)))
    assert all(np.array_equal(part, np.sort(part)) for part in rows)
    assert sum(len(np.unique(data.groups[part])) for part in rows) == len(np.unique(data.groups))
    for index, domain in enumerate(sizes):
        for part, fraction in zip(rows, (0.6, 0.15, 0.25), strict=True):
            count = (data.domains[part] == f"d{index}").sum()
            assert abs(count - fraction * sum(domain)) <= max(domain)


def test_single_rows_are_split_to_the_exact_fractions():
    parts = split(dataset(range(400)), seed=1)
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [240, 60, 100]


def test_the_split_depends_on_the_seed_and_on_no_other_domain():
    one = dataset(range(100), ["a"] * 100)
    two = dataset(range(200), ["a"] * 100 + ["b"] * 100)
    first = split(one, seed=3)
    assert np.array_equal(first.train, split(one, seed=3).train)
    assert not np.array_equal(first.train, split(one, seed=4).train)
    assert np.array_equal(first.train, [row for row in split(two, seed=3).train if row < 100])


def test_domains_smaller_than_a_part_are_treated_fairly():
    parts = split(dataset(range(600), np.repeat(np.arange(300), 2).astype(str)), seed=0)
    # 300 domains of 2 rows, each with a random start: expected 150 test rows, standard deviation at most sqrt(300)/2
    assert abs(len(parts.test) - 150) < 35


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.5, 0.5), (0.2, -0.1), (0.9, 0.2)])
def test_fractions_that_leave_nothing_are_refused(validation, test):
    with pytest.raises(ConfigurationError, match="must be fractions above 0"):
        split(dataset(range(100)), 0, validation=validation, test=test)


def test_parts_that_come_out_empty_are_named():
    with pytest.raises(ConfigurationError, match=r"leave no .*rows of 'made' \(100 rows in 1 groups\)"):
        split(dataset([5] * 100), 0)


def test_the_fingerprint_covers_all_content_and_no_name():
    base = dataset(range(6))
    assert replace(base, name="other") == base
    assert hash(replace(base, name="other")) == hash(base)
    changed = [
        replace(base, items=base.items + 1),
        replace(base, items=tuple("abcdef")),
        replace(base, labels=1 - base.labels),
        replace(base, classes=("yes", "no")),
        replace(base, groups=base.groups + 1),
        replace(base, domains=np.array(list("aaabbb"))),
    ]
    assert len({data.fingerprint for data in [base, *changed]}) == 7
    assert base != changed[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1])}, "got 6 items, 2 labels, 6 groups, 6 domains"),
        ({"labels": np.ones(6, dtype=np.int64)}, "at least two classes; got 1 in 6 rows"),
        ({"labels": np.array([0, 1, 2, 0, 1, 2])}, "labels must be 0 to 1 for 2 classes; got 0 to 2"),
        ({"items": np.array([[1.0], [2], [np.nan], [4], [5], [6]], dtype=np.float32)}, "row 2, feature 0 is nan"),
        ({"items": np.array([[1.0], [2], [3], [np.inf], [5], [6]], dtype=np.float32)}, "row 3, feature 0 is inf"),
        ({"domains": np.array(["a", "a", "b\n", "a", "a", "a"])}, r"row 2: a client's name .*: write 'b'"),
        ({"domains": np.array(["a", "", "a", "a", "a", "a"])}, "row 1: a client's name .*: give it a name"),
        ({"domains": np.array(["a"] * 5 + ["server"])}, "row 5: a client is named 'server'"),
        ({"classes": ("no", "no")}, "each class needs a name of its own; 'no' is named twice"),
        ({"items": np.zeros(6, dtype=np.float32)}, r"float32 \(rows, features\); got float32 \(6,\)"),
    ],
)
def test_content_that_cannot_be_a_task_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        replace(dataset(range(6)), **change)


def test_the_reserved_name_is_the_servers():
    assert unfit_name(SERVER)
    assert not any(unfit_name(name) for name in ("Server", "server-1", "größe 1/b", "<b>"))
