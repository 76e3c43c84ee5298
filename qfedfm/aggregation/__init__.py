"""Aggregation: the updates of a round in, new parameters out. Classical, robust and quantum-inspired rules."""

from .angular import AngularMean
from .bucketing import Bucketing
from .bulyan import Bulyan
from .centred_clipping import CentredClipping
from .density_matrix import ensemble_prediction
from .dp_fedavg import DpFedAvg
from .evolutionary import EvolutionaryWeights, MedianDistance, RootDistance, ValidationLoss
from .fednova import FedNova
from .fidelity import FidelityWeighted
from .fisher import FisherWeighted
from .fltrust import FLTrust
from .foolsgold import FoolsGold
from .geodesic import GeodesicMean
from .geometric_median import GeometricMedian
from .ghz import GhzMean
from .krum import Krum, MultiKrum
from .mean import Mean
from .median import Median
from .minimum_diameter import MinimumDiameter
from .norm_clipping import NormClipping
from .qffl import QFedAvg
from .qubo import QuboSubset
from .qubo_solvers import ExactSolver, Qaoa, SimulatedAnnealing
from .server_optimizer import FedAdagrad, FedAdam, FedAvgM, FedYogi
from .trimmed_mean import TrimmedMean
from .updates import Aggregator, Context, Metric, Root, Selects, Updates, Utility
from .weight_search import CmaEs, QuantumEvolution, RandomSearch

__all__ = [
    "Aggregator",
    "AngularMean",
    "Bucketing",
    "Bulyan",
    "CentredClipping",
    "CmaEs",
    "Context",
    "DpFedAvg",
    "EvolutionaryWeights",
    "ExactSolver",
    "FLTrust",
    "FedAdagrad",
    "FedAdam",
    "FedAvgM",
    "FedNova",
    "FedYogi",
    "FidelityWeighted",
    "FisherWeighted",
    "FoolsGold",
    "GeodesicMean",
    "GeometricMedian",
    "GhzMean",
    "Krum",
    "Mean",
    "Median",
    "MedianDistance",
    "Metric",
    "MinimumDiameter",
    "MultiKrum",
    "NormClipping",
    "QFedAvg",
    "Qaoa",
    "QuantumEvolution",
    "QuboSubset",
    "RandomSearch",
    "Root",
    "RootDistance",
    "Selects",
    "SimulatedAnnealing",
    "TrimmedMean",
    "Updates",
    "Utility",
    "ValidationLoss",
    "ensemble_prediction",
]
