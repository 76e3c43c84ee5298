"""Data sets of the Hugging Face hub, or in its layouts on disk, through the library `datasets` (extra `hub`).

The library is imported here and nowhere else. It runs no code of a data set (since its version 4).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError, DataError, DownloadError, MissingExtraError, nearest
from .arrays import as_items, as_numbers
from .dataset import Dataset, Items, Outline, Task
from .labels import distinct, numbered
from .tables import without_columns


@declared
class Hub:
    """One split of a data set.

    name: on the hub, such as "ag_news"; or a folder, which needs no network: one that `Dataset.save_to_disk` wrote, or
    one of CSV, JSON, Parquet or Arrow files. text: the column of texts or of lists of numbers, or several columns of
    numbers, the features. label: the column of classes or, with task = "numbers", of numbers to be predicted. client,
    group: as in `Csv`. split: of the data set; rows are split again by the experiment. config: which of the data set's
    configurations. revision: branch, tag or commit on the hub; give a commit to be sure of the same data next year.
    rows: how many of the first ones, None for all.
    """

    name: str | Path
    text: str | tuple[str, ...]
    label: str
    client: str | None = None
    group: str | None = None
    split: str = "train"
    config: str | None = None
    revision: str | None = None
    rows: Annotated[int, Field(ge=2)] | None = None
    task: Task = "classes"

    def check(self) -> None:
        """Find the library."""
        _require(self)

    def outline(self) -> Outline | None:
        """Return nothing for a column that may hold texts or lists, else how many features."""
        if isinstance(self.text, str):
            return None
        return Outline(texts=False, features=len(self.text), classes=0 if self.task == "numbers" else None)

    def load(self) -> Dataset:
        """Return the data set, fetched by the library if need be, which keeps it in its own cache.

        Raises MissingExtraError without the library, DownloadError for what cannot be had, ConfigurationError for a
        split or columns that it lacks, DataError for columns that are not what they are for.
        """
        table = self._table()
        if self.rows is not None:
            table = table.select(range(min(self.rows, len(table))))
        items = self._items(table)
        content = items if isinstance(items, tuple) else (row.tobytes() for row in items)
        classes, labels = self._labels(table)
        rows = len(table)
        return Dataset(
            name=Path(self.name).name,
            items=items,
            labels=labels,
            classes=classes,
            groups=numbered(self._column(table, self.group) if self.group else content),
            domains=np.array(
                [str(one) for one in self._column(table, self.client)] if self.client else ["all"] * rows, dtype=np.str_
            ),
        )

    def _items(self, table: Any) -> Items:
        if isinstance(self.text, str):
            return as_items(table[self.text][:])
        return as_items(np.array([as_numbers(f"column '{column}'", table[column][:]) for column in self.text]).T)

    def _labels(self, table: Any) -> tuple[tuple[str, ...], Any]:
        values = self._column(table, self.label)
        if self.task == "numbers":
            return (), as_numbers(f"column '{self.label}'", values)
        if names := getattr(table.features[self.label], "names", None):
            return tuple(names), np.array(values, dtype=np.int64)
        return distinct(np.array(values))

    def _column(self, table: Any, name: str) -> list[Any]:
        values: list[Any] = table[name][:]
        if missing := [row for row, value in enumerate(values) if value is None]:
            raise DataError(f"{self.name}: column '{name}' is empty in row {missing[0]} ({len(missing)} such rows)")
        return values

    def _table(self) -> Any:
        """Return the split, having checked that it has the columns."""
        _require(self)
        import datasets

        folder = Path(self.name).expanduser()
        saved = any((folder / file).is_file() for file in ("dataset_info.json", "dataset_dict.json"))
        try:
            if saved:
                found = datasets.load_from_disk(str(folder))
            else:
                name = str(folder if folder.is_dir() else self.name)
                found = datasets.load_dataset(name, self.config, revision=self.revision)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise DownloadError(
                f"'{self.name}' is neither a folder of data nor a data set that could be fetched from the Hugging Face "
                f"hub ({str(error).splitlines()[0]}): check the name and the network, or give a folder of CSV, JSON, "
                "Parquet or Arrow files"
            ) from error
        if isinstance(found, dict):
            if self.split not in found:
                known = ", ".join(found)
                raise ConfigurationError(
                    f"'{self.name}' has no split '{self.split}'{nearest(self.split, found)}: {known}"
                )
            found = found[self.split]
        wanted = (*((self.text,) if isinstance(self.text, str) else self.text), self.label, self.client, self.group)
        lacking = [column for column in wanted if column and column not in found.column_names]
        if lacking:
            raise ConfigurationError(without_columns(f"'{self.name}'", lacking, found.column_names))
        return found


def from_huggingface(
    name: str | Path,
    text: str | Sequence[str],
    label: str,
    client: str | None = None,
    group: str | None = None,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    rows: int | None = None,
    task: Task = "classes",
) -> Hub:
    """Return the declaration of a data set of the Hugging Face hub, or of a folder in its layouts; see `Hub`."""
    columns = text if isinstance(text, str) else tuple(text)
    return Hub(name, columns, label, client, group, split, config, revision, rows, task)


def _require(purpose: object) -> None:
    if find_spec("datasets") is None:
        raise MissingExtraError("datasets", "hub", f"{purpose!r:.80}")
