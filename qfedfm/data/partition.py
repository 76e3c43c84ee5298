"""Who owns which rows: a partition deals the rows of a data set out to clients.

Every partition is the same thing: it divides the rows into strata and gives each stratum one share per client.
`Natural` gives every domain to a client of its own, `NaturalSplit` divides a domain among several, `IID` gives one
stratum out in equal shares, `QuantitySkew` in random ones, `Dirichlet` draws the shares of every class at random
(Yurochkin et al. 2019, arXiv:1905.12022), `Shards` gives each client a few slices of the rows sorted by label. `assign`
deals training, validation and test rows by the same shares, so a client is tested on the mixture it trains on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from ..notebook import table
from ..seeds import stream
from .dataset import Dataset, Rows, Split, unfit_name

if TYPE_CHECKING:
    import pandas as pd

ROWS = "rows"  # stands for the class where the labels are numbers
SHOWN = 50  # clients listed in a notebook


@dataclass(frozen=True)
class Plan:
    """Strata and their shares.

    names: of the clients, sorted. stratum: (rows,) int64. shares: (strata, clients), each row sums to 1.
    """

    names: tuple[str, ...]
    stratum: Rows
    shares: NDArray[np.float64]


@runtime_checkable
class Partition(Protocol):
    """A way to divide a data set.

    draws: how many plans may be drawn until every client has enough rows. counted: whether it has to be told how many
    clients there are; otherwise the data says so.
    """

    draws: ClassVar[int]
    counted: ClassVar[bool]

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:
        """Return strata and shares for `count` clients (None unless `counted`)."""
        ...


@declared
class Natural:
    """One client per domain, that is, per value of the data set's client column."""

    draws: ClassVar[int] = 1
    counted: ClassVar[bool] = False

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:  # noqa: ARG002  (nothing is random)
        """Return the domains as strata, each wholly its own client's."""
        domains, stratum = np.unique(dataset.domains, return_inverse=True)
        if count not in (None, len(domains)):
            raise ConfigurationError(
                f"Natural() has one client per domain, and '{dataset.name}' has {len(domains)}; got count={count}: "
                f"leave it out, or use NaturalSplit() to divide each domain"
            )
        return Plan(tuple(domains.tolist()), stratum, np.eye(len(domains)))


@declared
class NaturalSplit:
    """Each domain divided equally among clients of its own, named "tweets-0", "tweets-1", ...

    The clients are spread over the domains as evenly as they go; the largest domains get those left over.
    """

    draws: ClassVar[int] = 1
    counted: ClassVar[bool] = True

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:  # noqa: ARG002  (nothing is random)
        """Return the domains as strata, each in equal shares for its own clients."""
        domains, stratum, rows = np.unique(dataset.domains, return_inverse=True, return_counts=True)
        if count is None or count < len(domains):
            raise ConfigurationError(
                f"NaturalSplit() needs at least one client for each of the {len(domains)} domains of '{dataset.name}'; "
                f"got count={count}: use more clients"
            )
        clients = np.full(len(domains), count // len(domains))
        clients[np.argsort(-rows, kind="stable")[: count % len(domains)]] += 1
        owner = np.repeat(np.arange(len(domains)), clients)
        names = [name for domain, k in zip(domains, clients, strict=True) for name in _numbered_names(domain, k)]
        order = np.argsort(names)
        shares = (owner == np.arange(len(domains))[:, None]) / clients[:, None]
        return Plan(tuple(names[i] for i in order), stratum, shares[:, order])


@declared
class IID:
    """Every client an equal share of all rows, at random."""

    draws: ClassVar[int] = 1
    counted: ClassVar[bool] = True

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:  # noqa: ARG002  (nothing is random)
        """Return one stratum in equal shares."""
        names = _client_names("IID()", count)
        return Plan(names, np.zeros(len(dataset), dtype=np.int64), np.full((1, len(names)), 1 / len(names)))


@declared
class Dirichlet:
    """Each class divided by shares drawn from a symmetric Dirichlet distribution: small alpha, unlike clients.

    Plans are drawn until every client has `min_rows` training rows, at most 10,000 times, as in NIID-Bench (Li et al.
    2022, arXiv:2102.02079). So the shares are Dirichlet given that no client is too small.
    """

    alpha: Annotated[float, Field(gt=0)]
    draws: ClassVar[int] = 10_000
    counted: ClassVar[bool] = True

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:
        """Return the classes as strata, with random shares."""
        names = _client_names(str(self), count)
        labels = dataset.class_labels(str(self))
        shares = generator.dirichlet(np.full(len(names), self.alpha), size=len(dataset.classes))
        return Plan(names, labels, shares)


@declared
class QuantitySkew:
    """One client has many rows and another few, all of the same mixture: sizes from a symmetric Dirichlet distribution.

    Drawn until every client has `min_rows` training rows (NIID-Bench, Li et al. 2022, arXiv:2102.02079): small alpha,
    unlike sizes.
    """

    alpha: Annotated[float, Field(gt=0)]
    draws: ClassVar[int] = 10_000
    counted: ClassVar[bool] = True

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:
        """Return one stratum in random shares."""
        names = _client_names(str(self), count)
        shares = generator.dirichlet(np.full(len(names), self.alpha), size=1)
        return Plan(names, np.zeros(len(dataset), dtype=np.int64), shares)


@declared
class Shards:
    """Rows sorted by label and cut into equal shards, of which every client gets `per_client` at random.

    With two shards most clients see two classes (McMahan et al. 2017, arXiv:1602.05629, section 3). Numbers to be
    predicted are sorted likewise. Shards are cut from all rows, before they are split, so that a client is tested on
    its own labels; a shard's share of the training rows is therefore equal only up to chance.
    """

    per_client: Annotated[int, Field(ge=1)] = 2
    draws: ClassVar[int] = 1
    counted: ClassVar[bool] = True

    def plan(self, dataset: Dataset, count: int | None, generator: np.random.Generator) -> Plan:
        """Return the shards as strata, each wholly one client's."""
        names = _client_names(str(self), count)
        shards = len(names) * self.per_client
        if shards > len(dataset):
            raise ConfigurationError(
                f"{self} for {len(names)} clients cuts {shards} shards, and '{dataset.name}' has {len(dataset)} rows: "
                "use fewer clients or shards"
            )
        shuffled = generator.permutation(len(dataset))  # so that rows of one label lie in no order of the data set's
        by_label = shuffled[np.argsort(dataset.labels[shuffled], kind="stable")]
        stratum = np.empty(len(dataset), dtype=np.int64)
        stratum[by_label] = np.arange(len(dataset)) * shards // len(dataset)
        owner = generator.permutation(shards) // self.per_client
        return Plan(names, stratum, np.eye(len(names))[owner])


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which client owns which row. names: sorted. owner: (rows,) int64, indices into `names`."""

    names: tuple[str, ...]
    owner: Rows

    def table(self, dataset: Dataset, split: Split) -> "pd.DataFrame":
        """Return the row counts: one line per client, columns (part, class); for numbers (part, "rows")."""
        import pandas as pd

        counts = {}
        classes, labels = dataset.classes, dataset.labels
        if dataset.task == "numbers":
            classes, labels = (ROWS,), np.zeros(len(dataset), dtype=np.int64)
        for part in ("train", "validation", "test"):
            rows = getattr(split, part)
            for number, label in enumerate(classes):
                owners = self.owner[rows[labels[rows] == number]]
                counts[part, label] = np.bincount(owners, minlength=len(self.names))
        return pd.DataFrame(counts, index=pd.Index(self.names, name="client"))

    def counts(self, dataset: Dataset, split: Split) -> "pd.DataFrame":
        """Return how the rows were dealt out in all: columns part, class, client, domain, rows (those above zero).

        Classes in the data set's order, everything else sorted. Numbers have the class "rows".
        """
        import pandas as pd

        parts = ("train", "validation", "test")
        rows = np.concatenate([getattr(split, part) for part in parts])
        of_classes = dataset.task == "classes"
        keys = {
            "part": np.repeat(np.arange(3), [len(getattr(split, part)) for part in parts]),
            "class": dataset.labels[rows] if of_classes else np.zeros(len(rows), dtype=np.int64),
            "client": self.owner[rows],
            "domain": dataset.domains[rows],
        }
        counts = pd.DataFrame(keys).groupby([*keys]).size().rename("rows").reset_index()
        names = {"part": parts, "class": dataset.classes if of_classes else (ROWS,), "client": self.names}
        return counts.assign(**{key: [known[i] for i in counts[key]] for key, known in names.items()})

    def __repr__(self) -> str:
        return f"Assignment of {len(self.owner)} rows to {len(self.names)} clients"

    def _repr_html_(self) -> str:
        rows = np.bincount(self.owner, minlength=len(self.names))
        shown = {name: f"{count} rows" for name, count in list(zip(self.names, rows, strict=True))[:SHOWN]}
        more = {} if len(self.names) <= SHOWN else {"…": f"{len(self.names) - SHOWN} more clients"}
        return table(repr(self), shown | more)


def assign(
    partition: Partition, dataset: Dataset, split: Split, count: int | None, seed: int, min_rows: int = 8
) -> Assignment:
    """Deal every row to one client.

    The rows of each part and stratum are shuffled and apportioned by the stratum's shares (largest remainder: every
    client gets its exact share rounded down or up). count: of clients; None where the partition knows. Raises
    ConfigurationError if a client has fewer than `min_rows` training rows, or a name that cannot travel.
    """
    for draw in range(partition.draws):
        plan = partition.plan(dataset, count, stream(seed, "partition", "shares", draw))
        train = _dealt(plan, split.train)
        smallest = train.sum(axis=0)
        if smallest.min() >= min_rows:
            break
    else:
        raise ConfigurationError(_too_small(plan.names, smallest, min_rows, partition, len(split.train)))
    if unfit := [f"{partition}: {reason}" for name in plan.names if (reason := unfit_name(name))]:
        raise ConfigurationError(unfit)
    owner = np.empty(len(dataset), dtype=np.int64)
    for part, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        for stratum, counts in enumerate(_dealt(plan, rows)):
            members = rows[plan.stratum[rows] == stratum]
            shuffled = stream(seed, "partition", part, stratum).permutation(members)
            owner[shuffled] = np.repeat(np.arange(len(plan.names)), counts)
    return Assignment(plan.names, owner)


def apportion(rows: int, shares: NDArray[np.float64]) -> Rows:
    """Return whole numbers that sum to `rows`, nearest to `rows * shares` (largest remainder; ties to the first)."""
    exact = rows * shares / shares.sum()
    counts: Rows = np.floor(exact + 1e-9).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: rows - counts.sum()]] += 1
    return counts


def _dealt(plan: Plan, rows: Rows) -> Rows:
    """Return (strata, clients): how many of `rows` each client gets."""
    sizes = np.bincount(plan.stratum[rows], minlength=len(plan.shares))
    return np.array([apportion(int(size), shares) for size, shares in zip(sizes, plan.shares, strict=True)])


def _numbered_names(stem: str, count: int, digits: int = 1) -> list[str]:
    width = max(digits, len(str(count - 1)))
    return [f"{stem}-{number:0{width}}" for number in range(count)]


def _client_names(partition: str, count: int | None) -> tuple[str, ...]:
    if count is None or count < 1:
        raise ConfigurationError(f"{partition} needs the number of clients, at least 1; got count={count}")
    return tuple(_numbered_names("client", count, digits=3))


def _too_small(names: Sequence[str], rows: Rows, min_rows: int, partition: Partition, total: int) -> str:
    worst = int(rows.argmin())
    drawn = f" after {partition.draws} draws" if partition.draws > 1 else ""
    larger = ", a larger alpha" if isinstance(partition, Dirichlet | QuantitySkew) else ""
    return (
        f"client '{names[worst]}' has {rows[worst]} training rows and needs min_rows={min_rows} ({partition}, "
        f"{len(names)} clients, {total} training rows{drawn}): use fewer clients{larger}, a smaller min_rows "
        f"or more rows"
    )
