"""Evidence: what a set of seeds allows one to say, and what a circuit lets one expect before it is paid for."""

from .assessment import LightCone, Trainability, light_cones, trainability
from .capacity import EffectiveDimension, effective_dimension
from .ensemble import Expressibility, entangling_capability, expressibility
from .fairness import Fairness, fairness
from .fourier import Spectrum, fourier_coefficients, spectrum
from .metrics import METRICS, Metric, Reliability, confusion, headline, probabilities, reliability, score
from .plateau import GradientScaling, GradientVariance, gradient_scaling, gradient_variance, plateau_warning
from .scores import Score, by_client, by_model, tables
from .statistics import Interval, Paired, mean_interval, paired, verdict
from .surrogate import Surrogate, fourier_surrogate

__all__ = [
    "METRICS",
    "EffectiveDimension",
    "Expressibility",
    "Fairness",
    "GradientScaling",
    "GradientVariance",
    "Interval",
    "LightCone",
    "Metric",
    "Paired",
    "Reliability",
    "Score",
    "Spectrum",
    "Surrogate",
    "Trainability",
    "by_client",
    "by_model",
    "confusion",
    "effective_dimension",
    "entangling_capability",
    "expressibility",
    "fairness",
    "fourier_coefficients",
    "fourier_surrogate",
    "gradient_scaling",
    "gradient_variance",
    "headline",
    "light_cones",
    "mean_interval",
    "paired",
    "plateau_warning",
    "probabilities",
    "reliability",
    "score",
    "spectrum",
    "tables",
    "trainability",
    "verdict",
]
