"""Small tables that come with scikit-learn, so that they need no network: digits, breast cancer, diabetes.

scikit-learn (extra `sklearn`) is imported here and nowhere else. Nothing in these tables says who a row is from: there
are no natural clients.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import MissingExtraError
from .dataset import Dataset, Outline
from .labels import numbered


@declared
class Digits:
    """1,797 handwritten digits of 8 x 8 pixels from 0 to 1, ten classes (Alpaydin and Kaynak 1998, UCI, CC BY 4.0).

    The test part of the UCI set, whose 13 writers are not named: rows of one writer may lie on both sides of a split.
    """

    def check(self) -> None:
        """Find scikit-learn."""
        _require("Digits()")

    def outline(self) -> Outline:
        """Return 64 pixels, ten classes."""
        return Outline(texts=False, features=64, classes=10)

    def load(self) -> Dataset:
        """Return the digits. Raises MissingExtraError without scikit-learn."""
        _require("Digits()")
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return _dataset("digits", pixels / 16, labels.astype(np.int64), tuple("0123456789"))


@declared
class BreastCancer:
    """569 tumours, 30 measures of cell nuclei each, malignant or benign (Street et al. 1993, UCI, CC BY 4.0).

    standardise: subtract each measure's mean and divide by its standard deviation, over all rows, which hospitals would
    have to agree upon beforehand; otherwise measures range from .001 to 4,000 and most heads learn nothing.
    """

    standardise: bool = True

    def check(self) -> None:
        """Find scikit-learn."""
        _require("BreastCancer()")

    def outline(self) -> Outline:
        """Return 30 measures, two classes."""
        return Outline(texts=False, features=30, classes=2)

    def load(self) -> Dataset:
        """Return the tumours. Raises MissingExtraError without scikit-learn."""
        _require("BreastCancer()")
        from sklearn.datasets import load_breast_cancer

        measures, labels = load_breast_cancer(return_X_y=True)
        if self.standardise:
            measures = (measures - measures.mean(0)) / measures.std(0)
        return _dataset("breast-cancer", measures, labels.astype(np.int64), ("malignant", "benign"))


@declared
class Diabetes:
    """442 patients, ten readings each, and how far their disease went in a year.

    From Efron et al. 2004, arXiv:math/0406456. Numbers to be predicted: the progression in hundreds of the study's
    units, from .25 to 3.46. Readings have mean 0 and standard deviation 1 over all patients.
    """

    def check(self) -> None:
        """Find scikit-learn."""
        _require("Diabetes()")

    def outline(self) -> Outline:
        """Return ten readings, numbers to be predicted."""
        return Outline(texts=False, features=10, classes=0)

    def load(self) -> Dataset:
        """Return the patients. Raises MissingExtraError without scikit-learn."""
        _require("Diabetes()")
        from sklearn.datasets import load_diabetes

        readings, progression = load_diabetes(return_X_y=True)  # each reading's squares sum to 1
        return _dataset("diabetes", readings * np.sqrt(len(readings)), progression.astype(np.float64) / 100, ())


def _dataset(name: str, features: NDArray[Any], labels: NDArray[Any], classes: tuple[str, ...]) -> Dataset:
    items = features.astype(np.float32)
    return Dataset(
        name=name,
        items=items,
        labels=labels,
        classes=classes,
        groups=numbered(row.tobytes() for row in items),
        domains=np.full(len(items), "all"),
    )


def _require(purpose: str) -> None:
    if find_spec("sklearn") is None:
        raise MissingExtraError("scikit-learn", "sklearn", purpose)
