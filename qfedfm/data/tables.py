"""The user's own data: a CSV file, or arrays in memory, with the user's own client and group columns."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..cache import write_atomically
from ..declaration import declared
from ..errors import ConfigurationError, DataError, nearest
from .dataset import Dataset, Items, Rows


@declared
class Csv:
    """A CSV file in UTF-8 whose first line names the columns.

    text: the column of texts, or several columns of numbers, the features. label: the column of classes. client: the
    column that says whose row it is; without it all rows are of one domain, "all". group: the column of what must not
    be parted by a split (a document, a patient); without it rows with equal text or features form a group.
    """

    path: Path
    text: str | tuple[str, ...]
    label: str
    client: str | None = None
    group: str | None = None

    def load(self) -> Dataset:
        """Read the file.

        Raises ConfigurationError for columns that it lacks; DataError for a missing or malformed file, an empty cell or
        a feature that is no number (with its line), or a single class.
        """
        table = self._read()
        if isinstance(self.text, str):
            items: Items = tuple(table[self.text])
            content: list[Any] = table[self.text]
        else:
            items = np.array([table[column] for column in self.text], dtype=np.float32).T.copy()
            content = [row.tobytes() for row in items]
        classes, labels = np.unique(table[self.label], return_inverse=True)
        return Dataset(
            name=self.path.stem,
            items=items,
            labels=labels.astype(np.int64),
            classes=tuple(classes.tolist()),
            groups=_numbered(table[self.group] if self.group else content),
            domains=np.array(table[self.client] if self.client else ["all"] * len(labels), dtype=np.str_),
        )

    def _read(self) -> dict[str, list[Any]]:
        """Return the needed columns: numbers for features, texts for the rest."""
        features = () if isinstance(self.text, str) else self.text
        texts = [self.text] if isinstance(self.text, str) else []
        columns = [*features, *texts, self.label, *filter(None, (self.client, self.group))]
        table: dict[str, list[Any]] = {column: [] for column in columns}
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                _require_columns(self.path, columns, reader.fieldnames or ())
                for row in reader:
                    where = f"{self.path}, line {reader.line_num}"
                    if None in row:
                        raise DataError(f"{where}: more cells than columns; quote texts that hold commas")
                    for column, cells in table.items():
                        cells.append(_cell(where, column, row[column], number=column in features))
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} cannot be read as CSV in UTF-8: {error}") from error
        return table


def from_csv(
    path: str | Path, text: str | Sequence[str], label: str, client: str | None = None, group: str | None = None
) -> Csv:
    """Return the declaration of a CSV file; see `Csv` for the columns."""
    return Csv(Path(path), text if isinstance(text, str) else tuple(text), label, client, group)


@dataclass(frozen=True)
class Arrays:
    """A data set that is in memory already, as a source for an experiment; equal when the content is."""

    dataset: Dataset

    def load(self) -> Dataset:
        """Return the data set."""
        return self.dataset

    def save(self, path: Path) -> None:
        """Write the data set to one safetensors file, strings as JSON in its metadata; `ArrayFile(path)` reads it."""
        data = self.dataset
        tensors: dict[str, NDArray[Any]] = {"labels": data.labels, "groups": data.groups}
        strings = {"name": data.name, "classes": data.classes, "domains": data.domains.tolist(), "items": None}
        if isinstance(data.items, np.ndarray):
            tensors["items"] = np.ascontiguousarray(data.items)
        else:
            strings["items"] = data.items
        metadata = {"fingerprint": data.fingerprint, "strings": json.dumps(strings)}
        write_atomically(Path(path), save(tensors, metadata=metadata))


def from_arrays(
    features: ArrayLike | Sequence[str],
    labels: ArrayLike,
    clients: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> Arrays:
    """Return arrays as a data source.

    features: (rows, features) numbers, or (rows,) texts. labels: (rows,) integers or strings; with `classes`, integers
    are indices into it and strings are among it; without, the classes are the labels' distinct values, sorted. clients:
    (rows,) names; groups: (rows,) integers or strings; without them all rows are of one domain, each its own group.

    Raises DataError for lengths that differ, features that are not finite, labels outside the classes, one class only.
    """
    try:
        array = np.asarray(features)
        items: Items = tuple(array.tolist()) if array.dtype.kind == "U" else array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"features must be numbers (rows, features) or one text per row: {error}") from error
    names, numbers = _classes(np.asarray(labels), classes)
    rows = len(numbers)
    return Arrays(
        Dataset(
            name="arrays",
            items=items,
            labels=numbers,
            classes=names,
            groups=np.arange(rows) if groups is None else _numbered(np.asarray(groups).tolist()),
            domains=np.array(["all"] * rows if clients is None else clients, dtype=np.str_),
        )
    )


@declared
class ArrayFile:
    """Arrays that `Arrays.save` wrote."""

    path: Path

    def load(self) -> Dataset:
        """Read the file. Raises DataError where it is missing, damaged, or was not written by `Arrays.save`."""
        try:
            with safe_open(self.path, framework="numpy") as file:
                metadata = file.metadata() or {}
                strings = json.loads(metadata["strings"])
                dataset = Dataset(
                    name=strings["name"],
                    items=file.get_tensor("items") if strings["items"] is None else tuple(strings["items"]),
                    labels=file.get_tensor("labels"),
                    classes=tuple(strings["classes"]),
                    groups=file.get_tensor("groups"),
                    domains=np.array(strings["domains"], dtype=np.str_),
                )
        except (OSError, SafetensorError, KeyError, ValueError, DataError) as error:
            raise DataError(f"{self.path} cannot be read as arrays that qfedfm saved: {error}") from error
        if dataset.fingerprint != metadata.get("fingerprint"):
            raise DataError(f"{self.path} is damaged: its content no longer has the fingerprint it was saved with")
        return dataset


def _classes(labels: NDArray[Any], classes: Sequence[str] | None) -> tuple[tuple[str, ...], Rows]:
    if labels.dtype.kind not in "iubU":
        raise DataError(f"labels must be integers or strings; got {labels.dtype}")
    if classes is None:
        values, numbers = np.unique(labels, return_inverse=True)
        return tuple(str(value) for value in values.tolist()), numbers.astype(np.int64)
    if labels.dtype.kind != "U":
        return tuple(classes), labels.astype(np.int64)
    if strange := sorted(set(labels.tolist()) - set(classes)):
        raise DataError(
            f"label '{strange[0]}' is not among the classes {', '.join(classes)}{nearest(strange[0], classes)}"
        )
    index = {name: number for number, name in enumerate(classes)}
    return tuple(classes), np.array([index[label] for label in labels.tolist()], dtype=np.int64)


def _numbered(values: Iterable[Any]) -> Rows:
    """Return for each value the number of its kind, in the order of first appearance."""
    number: dict[Any, int] = {}
    return np.array([number.setdefault(value, len(number)) for value in values], dtype=np.int64)


def _require_columns(path: Path, needed: Sequence[str], known: Sequence[str]) -> None:
    missing = [column for column in needed if column not in known]
    if missing:
        has = ", ".join(known) or "no columns"
        raise ConfigurationError(
            [f"{path} has no column '{name}'{nearest(name, known)}; it has {has}" for name in missing]
        )


def _cell(where: str, column: str, value: str | None, number: bool) -> str | float:
    text = (value or "").strip()
    if not text:
        raise DataError(f"{where}: column '{column}' is empty; fill the cell or remove the line")
    if not number:
        return text
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: column '{column}' holds features and must be a number; got '{text}'") from None
