"""The user's own arrays, lists and columns of a pandas table as a data set, and the file that keeps them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..cache import write_atomically
from ..declaration import declared
from ..errors import DataError, nearest
from .dataset import Dataset, Items, Outline, Rows, Task
from .labels import distinct, numbered


@dataclass(frozen=True)
class Arrays:
    """A data set that is in memory already, as a source for an experiment; equal when the content is."""

    dataset: Dataset

    def load(self) -> Dataset:
        """Return the data set."""
        return self.dataset

    def outline(self) -> Outline:
        """Return texts or numbers, and how many features and classes."""
        items = self.dataset.items
        texts = isinstance(items, tuple)
        return Outline(texts, None if isinstance(items, tuple) else items.shape[1], len(self.dataset.classes))

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
    clients: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    task: Task = "classes",
) -> Arrays:
    """Return arrays, lists or columns of a pandas table as a data source.

    features: (rows, features) numbers, or (rows,) texts. labels: (rows,) integers or strings; with `classes`, integers
    are indices into it and strings are among it; without, the classes are the labels' distinct values, sorted. With
    task="numbers" they are numbers to be predicted. clients:
    (rows,) names; groups: (rows,) integers or strings; without them all rows are of one domain, each its own group.

    Raises DataError for lengths that differ, missing values, features that are not finite, labels that are outside the
    classes or look like measurements, one class only, names that a client cannot have.
    """
    if task not in get_args(Task):
        raise DataError(f"task: expected 'classes' or 'numbers'; got {task!r}")
    if task == "numbers" and classes is not None:
        raise DataError(f"numbers to be predicted have no classes; got classes={list(classes)}: leave them out")
    names, numbers = (
        ((), as_numbers("labels", labels)) if task == "numbers" else _classes(_words("labels", labels), classes)
    )
    rows = len(numbers)
    return Arrays(
        Dataset(
            name="arrays",
            items=as_items(features),
            labels=numbers,
            classes=names,
            groups=np.arange(rows) if groups is None else numbered(_words("groups", groups).tolist()),
            domains=np.array(["all"] * rows if clients is None else _words("clients", clients), dtype=np.str_),
        )
    )


def as_items(values: ArrayLike | Sequence[str]) -> Items:
    """Return (rows, features) numbers as float32, or (rows,) texts as a tuple; anything else raises `DataError`."""
    array = _unboxed("features", values)
    if array.dtype.kind == "U" and array.ndim == 1:
        return tuple(array.tolist())
    if array.dtype.kind not in "biuf" or array.ndim != 2:
        got = f"{array.dtype} {array.shape}"
        raise DataError(f"features must be numbers (rows, features) or one text per row; got {got}")
    with np.errstate(over="ignore"):  # too large a number becomes infinite, which `Dataset` refuses with its place
        return array.astype(np.float32)


def as_numbers(what: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return numbers to be predicted, (rows,) float64; anything else raises `DataError`."""
    array = _unboxed(what, values)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise DataError(f"{what} must be one number for each row; got {array.dtype} {array.shape}")
    return array.astype(np.float64)


@declared
class ArrayFile:
    """Arrays that `Arrays.save` wrote."""

    path: Path

    def check(self) -> None:
        """Read the file: what is wrong with it would stop a run at once."""
        self.load()

    def outline(self) -> Outline:
        """Return what `Arrays.outline` does; the file is read."""
        return Arrays(self.load()).outline()

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
    if classes is None:
        return distinct(labels)
    if labels.dtype.kind != "U":
        return tuple(classes), labels.astype(np.int64)
    if strange := sorted(set(labels.tolist()) - set(classes)):
        raise DataError(
            f"label '{strange[0]}' is not among the classes {', '.join(classes)}{nearest(strange[0], classes)}"
        )
    index = {name: number for number, name in enumerate(classes)}
    return tuple(classes), np.array([index[label] for label in labels.tolist()], dtype=np.int64)


def _words(what: str, values: ArrayLike) -> NDArray[Any]:
    """Return integers or strings, one for each row."""
    array = _unboxed(what, values)
    if array.dtype.kind not in "iubU":
        instead = ": write labels.astype(int), or predict numbers with task='numbers'" if what == "labels" else ""
        raise DataError(f"{what} must be integers or strings; got {array.dtype}{instead}")
    return array


def _unboxed(what: str, values: ArrayLike) -> NDArray[Any]:
    """Return an array of numbers or of strings, where pandas has an array of objects too."""
    try:
        array = np.asarray(values)
    except RuntimeError as error:  # torch's: a tensor that requires a gradient, or lies on a GPU
        raise DataError(f"{what} cannot be made an array: {error}") from error
    except ValueError as error:
        raise DataError(f"{what} must be an array with rows of equal length: {error}") from error
    if array.ndim == 0:
        instead = (
            "a list with one text per row" if isinstance(values, str) else "an array; of a sparse matrix .toarray()"
        )
        raise DataError(f"{what} must have one entry a row; got {values!r:.100}: give {instead}")
    if array.dtype.kind != "O":
        return array
    objects = array.ravel().tolist()
    wanted = str if any(isinstance(item, str) for item in objects) else int | float
    for number, item in enumerate(objects):
        if not isinstance(item, wanted):
            row = number * len(array) // len(objects)
            raise DataError(
                f"{what} must be texts or numbers throughout; row {row} holds {item!r:.100}: fill or drop such rows, "
                "as in table.dropna()"
            )
    return np.array(array.tolist())
