"""Local training: every client of a round at once."""

from .cobyla import Cobyla
from .cohort import Lane, Trained, train_cohort
from .layerwise import LayerWise
from .natural_gradient import BlockDiagonal, Diagonal, FullMetric, Metric, QuantumNaturalGradient
from .optimizers import Adam, Optimizer, Sgd
from .problem import Problem
from .qn_spsa import QnSpsa
from .rotosolve import Rotosolve
from .rules import CircuitOptimizer, Rule
from .schedules import Cosine, Schedule, Step
from .seeded_descent import SeededDescent

__all__ = [
    "Adam",
    "BlockDiagonal",
    "CircuitOptimizer",
    "Cobyla",
    "Cosine",
    "Diagonal",
    "FullMetric",
    "Lane",
    "LayerWise",
    "Metric",
    "Optimizer",
    "Problem",
    "QnSpsa",
    "QuantumNaturalGradient",
    "Rotosolve",
    "Rule",
    "Schedule",
    "SeededDescent",
    "Sgd",
    "Step",
    "Trained",
    "train_cohort",
]
