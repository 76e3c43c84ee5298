import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.data import (
    IID,
    Dataset,
    Dirichlet,
    Natural,
    NaturalSplit,
    Plan,
    QuantitySkew,
    Shards,
    Split,
    apportion,
    assign,
    split,
)
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
    (QuantitySkew(alpha=2.0), 5, lambda data: np.zeros(len(data))),
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


@given(per_client=st.integers(1, 4), count=st.integers(2, 12), seed=st.integers(0, 2**32))
def test_shards_are_equal_slices_of_the_sorted_labels_and_each_client_has_as_many(per_client, count, seed):
    data = dataset(600, classes=10)
    plan = Shards(per_client).plan(data, count, np.random.default_rng(seed))
    sizes = np.bincount(plan.stratum)
    assert len(sizes) == per_client * count
    assert sizes.max() - sizes.min() <= 1
    assert (plan.shares.sum(0) == per_client).all()
    assert (plan.shares.sum(1) == 1).all()
    for lower, upper in zip(range(len(sizes)), range(1, len(sizes)), strict=False):
        assert data.labels[plan.stratum == lower].max() <= data.labels[plan.stratum == upper].min()


def test_two_shards_of_ten_classes_show_most_clients_two_of_mcmahan_2017_section_3():
    data = dataset(6000, classes=10)
    parts = split(data, 0)
    dealt = assign(Shards(2), data, parts, 100, 0)
    seen = [len(np.unique(data.labels[dealt.owner == client])) for client in range(100)]
    assert max(seen) == 2  # 200 shards of 30 rows, 20 of each class: none spans two classes
    for client in range(100):
        mine = [np.unique(data.labels[part[dealt.owner[part] == client]]) for part in (parts.train, parts.test)]
        assert set(mine[1]) <= set(mine[0])  # tested on what it trains on


def test_more_shards_than_rows_are_refused():
    with pytest.raises(ConfigurationError, match="cuts 700 shards, and 'made' has 600 rows: use fewer"):
        Shards(7).plan(dataset(600), 100, np.random.default_rng(0))


def test_quantity_skew_changes_sizes_and_keeps_the_mixture():
    data = dataset(20_000)
    parts = split(data, 0)
    sizes = {}
    for alpha in (0.5, 100.0):
        dealt = assign(QuantitySkew(alpha), data, parts, 10, 0)
        sizes[alpha] = np.bincount(dealt.owner[parts.train], minlength=10)
        largest = dealt.owner == sizes[alpha].argmax()
        assert abs(data.labels[largest].mean() - 0.5) < 4 * 0.5 / np.sqrt(largest.sum())  # four standard errors
    assert sizes[100.0].max() < 1.5 * sizes[100.0].min()  # a share's standard deviation is .1 of its mean
    assert sizes[0.5].max() > 5 * sizes[0.5].min()


def test_a_larger_alpha_is_offered_where_a_client_stays_too_small():
    data = dataset(60)
    with pytest.raises(ConfigurationError, match=r"QuantitySkew.*use fewer clients, a larger alpha"):
        assign(QuantitySkew(0.01), data, split(data, 0), 12, 0)


def test_counts_add_up_to_the_table_and_name_the_domains():
    data = dataset(classes=3)
    parts = split(data, 0)
    dealt = assign(Dirichlet(alpha=1.0), data, parts, 5, 0)
    counts = dealt.counts(data, parts)
    assert counts["rows"].sum() == len(data)
    assert counts["rows"].min() > 0
    one = counts.iloc[7]
    rows = getattr(parts, one["part"])
    mine = data.labels[rows] == data.classes.index(one["class"])
    mine &= (data.domains[rows] == one["domain"]) & (dealt.owner[rows] == dealt.names.index(one["client"]))
    assert one["rows"] == mine.sum()
    table = dealt.table(data, parts)
    for (part, label), column in table.items():
        some = counts[(counts["part"] == part) & (counts["class"] == label)].groupby("client")["rows"].sum()
        assert some.reindex(column.index, fill_value=0).tolist() == column.tolist()
