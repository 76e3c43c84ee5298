"""Labels and groups as people write them, and as numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import Rows


def distinct(labels: NDArray[Any]) -> tuple[tuple[str, ...], Rows]:
    """Return the distinct labels, sorted, and the number of each row's; labels that are measurements are refused."""
    values, numbers = np.unique(labels, return_inverse=True)
    names = tuple(str(value) for value in values.tolist())
    if len(names) > 10 and (2 * len(names) > len(labels) or _are_fractions(names)):
        raise DataError(
            f"{len(names)} different labels in {len(labels)} rows, such as {', '.join(names[:3])}: they look like "
            "measurements or free text; predict them with task='numbers', or "
            "make classes of them first, as in pandas.cut(values, 2, labels=['low', 'high'])"
        )
    return names, numbers.astype(np.int64)


def numbered(values: Iterable[Any]) -> Rows:
    """Return for each value the number of its kind, in the order of first appearance."""
    number: dict[Any, int] = {}
    return np.array([number.setdefault(value, len(number)) for value in values], dtype=np.int64)


def _are_fractions(names: Iterable[str]) -> bool:
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    return not all(number.is_integer() for number in numbers)
