"""Data sets, their splits, and their partitions into clients."""

from .dataset import Dataset, Source, Split, split
from .partition import IID, Assignment, Dirichlet, Natural, NaturalSplit, Partition, Plan, apportion, assign
from .sentiment import Sentiment
from .tables import ArrayFile, Arrays, Csv, from_arrays, from_csv

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
    "assign",
    "from_arrays",
    "from_csv",
    "split",
]
