"""Local training: every client of a round at once."""

from .cohort import Lane, Trained, train_cohort
from .optimizers import Adam, Optimizer, Sgd
from .schedules import Cosine, Schedule, Step
from .seeded_descent import SeededDescent

__all__ = ["Adam", "Cosine", "Lane", "Optimizer", "Schedule", "SeededDescent", "Sgd", "Step", "Trained", "train_cohort"]
