"""Aggregation: the updates of a round in, new parameters out."""

from .angular import AngularMean
from .mean import Mean
from .updates import Aggregator, Context, Root, Updates

__all__ = ["Aggregator", "AngularMean", "Context", "Mean", "Root", "Updates"]
