import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.data import IID, Dataset, Dirichlet, Natural, NaturalSplit, Plan, Split, apportion, assign, split
from qfedfm.errors import ConfigurationError

DOMAINS = ("south", "north", "east")


def dataset(rows=600, classes=2):
    generator = np.random.default_rng(0)
    return Dataset(
        name="made",
        items=np.zeros((rows, 1), dtype=np.float32),
        labels=np.arange(rows) % classes,
        classes=tuple(f"class {index}" for index in range(classes)),
        groups=np.arange(rows),
        domains=generator.choice(DOMAINS, size=rows, p=[0.5, 0.3, 0.2]),
    )


PARTITIONS = [
    (Natural(), None, lambda data: data.domains),
    (NaturalSplit(), 7, lambda data: data.domains),
    (IID(), 9, lambda data: np.zeros(len(data))),
    (Dirichlet(alpha=1.0), 5, lambda data: data.labels),
]


@pytest.mark.parametrize(("partition", "count", "strata"), PARTITIONS)
@given(seed=st.integers(0, 2**32), rows=st.integers(300, 700), classes=st.integers(2, 5))
def test_every_row_has_one_owner_and_all_parts_the_same_shares(partition, count, strata, seed, rows, classes):
    data = dataset(rows, classes)
    parts = split(data, seed)
    dealt = assign(partition, data, parts, count, seed, min_rows=3)
    assert dealt.owner.shape == (rows,)
    assert dealt.owner.min() >= 0
    assert dealt.names == tuple(sorted(dealt.names))
    assert len(dealt.names) == len(set(dealt.names)) == (count or 3)
    assert np.bincount(dealt.owner[parts.train]).min() >= 3
    for stratum in np.unique(strata(data)):
        counts = [
            np.bincount(dealt.owner[part[strata(data)[part] == stratum]], minlength=len(dealt.names))
            for part in (parts.train, parts.test)
        ]
        train, test = (count / count.sum() for count in counts)
        assert np.abs(train - test).max() < 1 / counts[0].sum() + 1 / counts[1].sum() + 1e-9


def test_natural_gives_each_domain_to_its_client():
    data = dataset()
    dealt = assign(Natural(), data, split(data, 0), None, 0)
    assert dealt.names == ("east", "north", "south")
    assert np.array_equal(np.array(dealt.names)[dealt.owner], data.domains)


def test_natural_split_divides_each_domain_equally_among_its_own():
    data = dataset()
    parts = split(data, 0)
    dealt = assign(NaturalSplit(), data, parts, 7, 0)
    assert dealt.names == ("east-0", "east-1", "north-0", "north-1", "south-0", "south-1", "south-2")
    own = [name.partition("-")[0] for name in dealt.names]
    assert np.array_equal(np.array(own)[dealt.owner], data.domains)
    for domain in DOMAINS:
        counts = np.bincount(dealt.owner[parts.train], minlength=7)[np.array(own) == domain]
        assert counts.max() - counts.min() <= 1


def test_names_sort_in_the_order_of_their_numbers():
    data = dataset(3000)
    parts = split(data, 0)
    assert assign(IID(), data, parts, 101, 0).names[7::50] == ("client-007", "client-057")
    names = assign(NaturalSplit(), data, parts, 36, 0).names
    assert names[:3] == ("east-00", "east-01", "east-02")


def test_iid_gives_equal_numbers_and_the_seed_decides_which():
    data = dataset(700)
    parts = split(data, 0)
    first = assign(IID(), data, parts, 4, 1)
    assert np.ptp(np.bincount(first.owner[parts.train])) <= 1
    assert np.array_equal(first.owner, assign(IID(), data, parts, 4, 1).owner)
    assert not np.array_equal(first.owner, assign(IID(), data, parts, 4, 2).owner)


def test_dirichlet_label_shares_vary_as_the_distribution_says():
    # A share of a symmetric Dirichlet over n clients has variance (n - 1) / (n^2 (n alpha + 1)).
    # 300 seeds x 10 clients x 2 classes; the relative error of a variance from 600 independent draws is about 10 %.
    data = dataset(2000)
    everything = Split(np.arange(2000), np.arange(0), np.arange(0))
    for alpha in (0.5, 5.0):
        shares = []
        for seed in range(300):
            table = assign(Dirichlet(alpha), data, everything, 10, seed, min_rows=0).table(data, everything)["train"]
            shares.append(table.to_numpy() / 1000)
        expected = 9 / (100 * (10 * alpha + 1))
        assert np.var(shares) == pytest.approx(expected, rel=0.25)


def test_the_demo_setting_has_a_dirichlet_plan():
    data = dataset(2400)
    for seed in range(5):
        parts = split(data, seed)
        dealt = assign(Dirichlet(alpha=0.3), data, parts, 20, seed)
        assert np.bincount(dealt.owner[parts.train], minlength=20).min() >= 8


@pytest.mark.parametrize(
    ("partition", "count", "message"),
    [
        (IID(), 100, r"client 'client-060' has 3 training rows and needs min_rows=8 .*use fewer clients, a smaller"),
        (
            Dirichlet(alpha=0.01),
            40,
            r"needs min_rows=8 .*after 10000 draws\): use fewer clients, a larger alpha, a smal",
        ),
        (Natural(), 4, r"has one client per domain, and 'made' has 3; got count=4"),
        (NaturalSplit(), 2, r"at least one client for each of the 3 domains .*got count=2"),
        (IID(), None, r"IID\(\) needs the number of clients"),
        (Dirichlet(alpha=1), 0, r"Dirichlet\(alpha=1.0\) needs the number of clients, at least 1; got count=0"),
    ],
)
def test_what_cannot_be_dealt_says_who_fell_short_and_what_to_change(partition, count, message):
    data = dataset()
    started = time.perf_counter()
    with pytest.raises(ConfigurationError, match=message):
        assign(partition, data, split(data, 0), count, 0)
    assert time.perf_counter() - started < 10


def test_alpha_must_be_positive():
    with pytest.raises(ConfigurationError, match="greater than 0"):
        Dirichlet(alpha=0)


def test_the_table_counts_rows_by_client_part_and_class():
    data = dataset()
    parts = split(data, 0)
    dealt = assign(Natural(), data, parts, None, 0)
    table = dealt.table(data, parts)
    assert table.to_numpy().sum() == len(data)
    north = (data.domains[parts.test] == "north") & (data.labels[parts.test] == 1)
    assert table.loc["north", ("test", "class 1")] == north.sum()


@given(rows=st.integers(0, 500), weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=30))
def test_apportioning_is_exact_and_rounds_each_share_up_or_down(rows, weights):
    shares = np.array(weights) / np.sum(weights)
    counts = apportion(rows, shares)
    assert counts.sum() == rows
    assert (np.abs(counts - rows * shares) < 1 + 1e-6).all()


def test_apportioning_hamiltons_example():
    # quotas 6.6, 2.3 and 1.1 of 10 seats: rounded down 6, 2 and 1; the largest remainder, .6, gets the last seat
    assert apportion(10, np.array([0.66, 0.23, 0.11])).tolist() == [7, 2, 1]


class Renamed(IID):
    """A partition of the user's own whose names cannot travel."""

    def plan(self, dataset, count, generator):
        plan = super().plan(dataset, count, generator)
        return Plan(("a", "server"), plan.stratum, plan.shares)


def test_a_partitions_own_names_are_judged_too():
    data = dataset()
    with pytest.raises(ConfigurationError, match="a client is named 'server'"):
        assign(Renamed(), data, split(data, 0), 2, 0)
