"""Data sets, their splits, and their partitions into clients."""

from .arrays import ArrayFile, Arrays, as_items, from_arrays
from .dataset import Dataset, Source, Split, split
from .partition import IID, Assignment, Dirichlet, Natural, NaturalSplit, Partition, Plan, apportion, assign
from .sentiment import Sentiment
from .tables import Csv, from_csv

__all__ = [
    "IID",
    "ArrayFile",
    "Arrays",
    "Assignment",
    "Csv",
    "Dataset",
    "Dirichlet",
    "Natural",
    "NaturalSplit",
    "Partition",
    "Plan",
    "Sentiment",
    "Source",
    "Split",
    "apportion",
    "as_items",
    "assign",
    "from_arrays",
    "from_csv",
    "split",
]
