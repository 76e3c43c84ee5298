"""The user's own table: a CSV file, with the user's own client and group columns."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError, DataError, nearest
from .dataset import Dataset, Items, Outline, Task, unfit_name
from .labels import distinct, numbered

LARGEST = float(np.finfo(np.float32).max)
SEPARATORS = (",", ";", "\t", "|")
MISSING = ("nan", "#n/a", "<na>")  # what other programs write for a missing value; an empty cell is refused anyway


@declared
class Csv:
    """A CSV file in UTF-8 whose first line names the columns.

    text: the column of texts, or several columns of numbers, the features. label: the column of classes, or, with
    task = "numbers", of the numbers to be predicted. client: the
    column that says whose row it is; without it all rows are of one domain, "all". group: the column of what must not
    be parted by a split (a document, a patient); without it rows with equal text or features form a group. separator:
    of the cells, one character.
    """

    path: Path
    text: str | tuple[str, ...]
    label: str
    client: str | None = None
    group: str | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    task: Task = "classes"

    def __post_init__(self) -> None:
        features = (self.text,) if isinstance(self.text, str) else self.text
        wrong = [] if features else ["Csv.text: expected a column of texts, or columns of numbers; got none"]
        if self.label in features:
            wrong.append(f"Csv.text: '{self.label}' is the label, and would be predicted from itself: leave it out")
        wrong += [f"Csv.text: '{name}' is named twice" for name in dict.fromkeys(features) if features.count(name) > 1]
        if wrong:
            raise ConfigurationError(wrong)

    def check(self) -> None:
        """Read the file's first line: is it there, and does it name the columns?"""
        with self._rows():
            pass

    def outline(self) -> Outline:
        """Return texts or numbers, how many features, and 0 classes for numbers to be predicted."""
        texts = isinstance(self.text, str)
        return Outline(texts, None if texts else len(self.text), 0 if self.task == "numbers" else None)

    def load(self) -> Dataset:
        """Read the file.

        Raises ConfigurationError for columns that it lacks; DataError for a missing or malformed file, a cell that is
        empty, NaN or not what its column is for (with its line), labels that look like measurements, or a single class.
        """
        table = self._read()
        if isinstance(self.text, str):
            items: Items = tuple(table[self.text])
            content: list[Any] = table[self.text]
        else:
            items = np.array([table[column] for column in self.text], dtype=np.float32).T.copy()
            content = [row.tobytes() for row in items]
        values: NDArray[Any] = np.array(table[self.label])
        classes, labels = ((), values) if self.task == "numbers" else distinct(values)
        return Dataset(
            name=self.path.stem,
            items=items,
            labels=labels,
            classes=classes,
            groups=numbered(table[self.group] if self.group else content),
            domains=np.array(table[self.client] if self.client else ["all"] * len(labels), dtype=np.str_),
        )

    @property
    def _columns(self) -> tuple[str, ...]:
        items = (self.text,) if isinstance(self.text, str) else self.text
        return (*items, self.label, *filter(None, (self.client, self.group)))

    @contextmanager
    def _rows(self) -> "Iterator[csv.DictReader[str]]":
        """Open the file, check its columns and yield its rows."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, delimiter=self.separator, strict=True)
                self._require_columns(reader.fieldnames or ())
                yield reader
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path} cannot be read as CSV in UTF-8: {error}; save it as UTF-8") from error
        except (OSError, csv.Error) as error:
            raise DataError(f"{self.path} cannot be read as CSV in UTF-8: {error}") from error

    def _require_columns(self, known: Sequence[str]) -> None:
        missing = [column for column in self._columns if column not in known]
        likely = [mark for mark in SEPARATORS if len(known) == 1 and mark in known[0]]
        if missing and likely:
            raise ConfigurationError(
                f"{self.path} seems to be separated by {likely[0]!r}: its first line is {known[0]!r:.200}; "
                f"give separator={likely[0]!r}"
            )
        if missing:
            raise ConfigurationError(without_columns(str(self.path), missing, known))
        if twice := [column for column in self._columns if known.count(column) > 1]:
            raise ConfigurationError(
                [f"{self.path} has more than one column '{name}': rename one" for name in dict.fromkeys(twice)]
            )

    def _read(self) -> dict[str, list[Any]]:
        """Return the needed columns: numbers for features, texts for the rest."""
        numbers = {*(() if isinstance(self.text, str) else self.text), *((self.label,) * (self.task == "numbers"))}
        table: dict[str, list[Any]] = {column: [] for column in self._columns}
        with self._rows() as reader:
            for row in reader:
                where = f"{self.path}, line {reader.line_num}"
                if None in row:
                    raise DataError(f"{where}: more cells than columns; quote texts that hold {self.separator!r}")
                for column, cells in table.items():
                    cells.append(_cell(where, column, row[column], number=column in numbers))
                if self.client and (reason := unfit_name(table[self.client][-1])):
                    raise DataError(f"{where}: {reason}")
        return table


def without_columns(owner: str, missing: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return one line for each missing column of a table, with the nearest that there is."""
    has = ", ".join(known) or "no columns"
    return [f"{owner} has no column '{name}'{nearest(name, known)}; it has {has}" for name in missing]


def from_csv(
    path: str | Path,
    text: str | Sequence[str],
    label: str,
    client: str | None = None,
    group: str | None = None,
    separator: str = ",",
    task: Task = "classes",
) -> Csv:
    """Return the declaration of a CSV file; see `Csv` for the columns."""
    return Csv(Path(path), text if isinstance(text, str) else tuple(text), label, client, group, separator, task)


def _cell(where: str, column: str, value: str | None, number: bool) -> str | float:
    text = (value or "").strip()
    if not text or text.casefold() in MISSING:
        raise DataError(f"{where}: column '{column}' is {text or 'empty'}; fill the cell or remove the line")
    if not number:
        return text
    try:
        found = float("" if "_" in text else text)  # Python reads 1_000 as a number; no table means it so
    except ValueError:
        raise DataError(f"{where}: column '{column}' must hold numbers; got '{text}'") from None
    if abs(found) > LARGEST:
        raise DataError(f"{where}: column '{column}' holds {text}; a number must lie within +-{LARGEST:.1e}")
    return found
