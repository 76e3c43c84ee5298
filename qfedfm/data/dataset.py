"""A data set in memory, its task, and its split into training, validation and test rows.

The task follows from the labels: classes are told apart, numbers are predicted (regression).

Rows of one group (the sentences of one review) resemble one another, so a split never parts them: otherwise the test
data would leak into training. A split keeps each domain's proportions, because the domains are the natural clients.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, DataError
from ..seeds import stream

RESERVED = "server"
"""The server's own name among the nodes of a federation."""

Items = tuple[str, ...] | NDArray[np.float32]
Rows = NDArray[np.int64]
Task = Literal["classes", "numbers"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled rows, each with a group and a domain. Two data sets are equal when their fingerprints are.

    items: (rows,) texts, or (rows, features) float32. labels: (rows,) int64, indices into `classes`; or, where
    `classes` is empty, the numbers to be predicted, float64. groups: (rows,) int64; rows of one group are never parted
    by a split. domains: (rows,) strings, the natural client of each row.

    Raises DataError for lengths that differ, NaN or infinite features or labels, labels outside the classes, a class
    named twice, a single class or number, and a domain that cannot be a client's name.
    """

    name: str
    items: Items
    labels: NDArray[Any]
    classes: tuple[str, ...]
    groups: Rows
    domains: NDArray[np.str_]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("items", "labels", "groups", "domains")}
        if not any(lengths.values()):
            raise DataError(f"{self.name}: there are no rows")
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise DataError(f"{self.name}: items, labels, groups and domains must have one entry per row; got {found}")
        if isinstance(self.items, np.ndarray):
            _check_features(self.name, self.items)
        elif not all(isinstance(item, str) for item in self.items):
            raise DataError(f"{self.name}: features must be float32 (rows, features), or one text for each row")
        for domain in np.unique(self.domains).tolist():
            if reason := unfit_name(domain):
                raise DataError(f"{self.name}, row {np.flatnonzero(self.domains == domain)[0]}: {reason}")
        if self.classes:
            _check_classes(self.name, self.labels, self.classes)
        else:
            _check_numbers(self.name, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def task(self) -> Task:
        """What a model learns: to tell "classes" apart, or to predict "numbers"."""
        return "classes" if self.classes else "numbers"

    @property
    def n_outputs(self) -> int:
        """The number of outputs that a head needs: one for each class, or one."""
        return len(self.classes) or 1

    def class_labels(self, purpose: str) -> Rows:
        """Return the labels as classes, (rows,) int64; raise ConfigurationError, naming `purpose`, for numbers."""
        if not self.classes:
            raise ConfigurationError(
                f"{purpose} needs classes, and the labels of '{self.name}' are numbers to be predicted"
            )
        return self.labels

    @cached_property
    def fingerprint(self) -> str:
        """Return the sha256 of all content but the name, in hex: equal on every machine."""
        digest = hashlib.sha256(json.dumps([self.classes, self.domains.tolist()]).encode())
        digest.update(
            self.labels.astype("<i8" if self.classes else "<f8").tobytes() + self.groups.astype("<i8").tobytes()
        )
        if isinstance(self.items, np.ndarray):
            digest.update(json.dumps(self.items.shape).encode() + self.items.astype("<f4").tobytes())
        else:
            digest.update(json.dumps(self.items).encode())
        return digest.hexdigest()


@runtime_checkable
class Source(Protocol):
    """What an experiment's `data` is: anything that can load a data set."""

    def load(self) -> Dataset:
        """Return the data set; the same one every time."""
        ...


class Outline(NamedTuple):
    """What is known of a data set before it is loaded. features: None for texts. classes: None if not known, 0 for
    numbers to be predicted.
    """

    texts: bool
    features: int | None
    classes: int | None


@runtime_checkable
class Outlined(Protocol):
    """A source that can say what its data will look like, so that `Experiment.check` finds what does not fit."""

    def outline(self) -> Outline | None:
        """Return the outline, without loading anything large; None if nothing is known."""
        ...


@dataclass(frozen=True)
class Split:
    """Sorted row indices of the three parts; together they are all rows, each once."""

    train: Rows
    validation: Rows
    test: Rows


def split(dataset: Dataset, seed: int, validation: float = 0.15, test: float = 0.25) -> Split:
    """Divide the rows into training, validation and test rows, by group, within each domain.

    A function of the data set and the seed alone. The groups of a domain are shuffled and laid end to end on a circle
    of circumference 1; a random arc of length `test` is the test part, the arc of length `validation` after it the
    validation part, the rest trains. (Systematic sampling: each part's expected size is exact, and it misses its size
    in a domain by at most the largest group.) A group belongs to the domain of its first row.

    Raises ConfigurationError for fractions that leave a part empty.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ConfigurationError(
            f"validation and test must be fractions above 0 that leave rows to train on; got validation={validation}, "
            f"test={test}"
        )
    _, first, group, sizes = np.unique(dataset.groups, return_index=True, return_inverse=True, return_counts=True)
    position = np.empty(len(sizes))
    for domain in np.unique(dataset.domains):
        generator = stream(seed, "split", str(domain))
        order = generator.permutation(np.flatnonzero(dataset.domains[first] == domain))
        ends = np.cumsum(sizes[order])
        if len(order):
            position[order] = ((ends - sizes[order] / 2) / ends[-1] + generator.random()) % 1
    part = np.searchsorted([test, test + validation], position, side="right")[group]
    parts = [np.flatnonzero(part == index) for index in (2, 1, 0)]
    if empty := [name for name, rows in zip(("training", "validation", "test"), parts, strict=True) if not len(rows)]:
        raise ConfigurationError(
            f"validation={validation}, test={test} leave no {' and no '.join(empty)} rows of '{dataset.name}' "
            f"({len(dataset)} rows in {len(sizes)} groups): use other fractions, more rows or smaller groups"
        )
    return Split(*parts)


def unfit_name(client: str) -> str:
    """Return why a client cannot have this name, or an empty string: it travels in headers and stands in records."""
    if client == RESERVED:
        return f"a client is named '{RESERVED}', which is the server's own name: use another, such as '{RESERVED}-1'"
    if client.isprintable() and client.strip():
        return ""
    better = " ".join("".join(c if c.isprintable() else " " for c in client).split())
    instead = f"write {better!r}" if better else "give it a name"
    return f"a client's name must be printable text without line breaks or special spaces; got {client!r}: {instead}"


def _check_classes(name: str, labels: NDArray[Any], classes: tuple[str, ...]) -> None:
    if twice := [one for number, one in enumerate(classes) if one in classes[:number]]:
        raise DataError(f"{name}: each class needs a name of its own; '{twice[0]}' is named twice")
    if labels.dtype != np.int64:
        raise DataError(f"{name}: labels of classes must be int64, indices into them; got {labels.dtype}")
    if len(present := np.unique(labels)) < 2:
        raise DataError(f"{name}: a task needs rows of at least two classes; got {len(present)} in {len(labels)} rows")
    if present[0] < 0 or present[-1] >= len(classes):
        raise DataError(
            f"{name}: labels must be 0 to {len(classes) - 1} for {len(classes)} classes; "
            f"got {present[0]} to {present[-1]}"
        )


def _check_numbers(name: str, labels: NDArray[Any]) -> None:
    if labels.dtype != np.float64:
        raise DataError(f"{name}: without classes, labels are numbers, float64; got {labels.dtype}")
    if len(bad := np.flatnonzero(~np.isfinite(labels))):
        raise DataError(f"{name}: labels must be finite; row {bad[0]} has {labels[bad[0]]} ({len(bad)} such rows)")
    if len(labels) == 0 or np.ptp(labels) == 0:
        raise DataError(f"{name}: numbers to be predicted must differ; got {len(labels)} rows of one value")


def _check_features(name: str, items: NDArray[np.float32]) -> None:
    if items.ndim != 2 or items.dtype != np.float32:
        raise DataError(f"{name}: features must be float32 (rows, features); got {items.dtype} {items.shape}")
    if items.shape[1] == 0:
        raise DataError(f"{name}: there are no features; got {items.shape}")
    if len(bad := np.argwhere(~np.isfinite(items))):
        row, column = bad[0]
        raise DataError(
            f"{name}: features must be finite; row {row}, feature {column} is {items[row, column]} "
            f"({len(bad)} such values): drop or fill them"
        )
