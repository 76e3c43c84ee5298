"""Data sets, their splits, and their partitions into clients."""

from .arrays import ArrayFile, Arrays, as_items, from_arrays
from .dataset import Dataset, Outline, Outlined, Source, Split, split
from .fashion_mnist import FashionMnist
from .hub import Hub, from_huggingface
from .partition import (
    IID,
    Assignment,
    Dirichlet,
    Natural,
    NaturalSplit,
    Partition,
    Plan,
    QuantitySkew,
    Shards,
    apportion,
    assign,
)
from .scikit_learn import BreastCancer, Diabetes, Digits
from .sentiment import Sentiment
from .spam_assassin import SpamAssassin
from .tables import Csv, from_csv

__all__ = [
    "IID",
    "ArrayFile",
    "Arrays",
    "Assignment",
    "BreastCancer",
    "Csv",
    "Dataset",
    "Diabetes",
    "Digits",
    "Dirichlet",
    "FashionMnist",
    "Hub",
    "Natural",
    "NaturalSplit",
    "Outline",
    "Outlined",
    "Partition",
    "Plan",
    "QuantitySkew",
    "Sentiment",
    "Shards",
    "Source",
    "SpamAssassin",
    "Split",
    "apportion",
    "as_items",
    "assign",
    "from_arrays",
    "from_csv",
    "from_huggingface",
    "split",
]
