"""Local training: every client of a round at once."""

from .cohort import Lane, Trained, train_cohort
from .optimizers import Adam, Optimizer, Sgd

__all__ = ["Adam", "Lane", "Optimizer", "Sgd", "Trained", "train_cohort"]
