"""qfedfm: federated foundation models with quantum parts.

    import qfedfm as qf

    experiment = qf.Experiment(head=qf.heads.Variational("strongly_entangling", {"n": 4, "layers": 2}), rounds=10)
    result = qf.run(experiment)

Names are loaded when they are first used, so importing the package is quick and imports no heavy library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        aggregation,
        attacks,
        backbones,
        backends,
        codecs,
        data,
        evidence,
        federation,
        heads,
        incentives,
        inference,
        plots,
        privacy,
        qkd,
        quantum,
        seal,
        training,
        trust,
    )
    from .arms import twins
    from .callbacks import Callback, EarlyStopping, LiveChart
    from .citations import cite
    from .comparison import Comparison, compare
    from .data import IID, Dirichlet, Natural, NaturalSplit, QuantitySkew, Shards
    from .errors import QfedfmError
    from .estimation import Estimate, estimate
    from .estimator import FederatedClassifier
    from .experiment import Experiment
    from .federation import Clients, Training
    from .installation import about
    from .mlflow_logger import MlflowLogger
    from .result import Result
    from .runs import run
    from .sweeps import sweep
    from .swept import Sweep

_HOMES = {
    "about": "installation",
    "cite": "citations",
    "Callback": "callbacks",
    "Clients": "federation",
    "Comparison": "comparison",
    "Dirichlet": "data",
    "Estimate": "estimation",
    "EarlyStopping": "callbacks",
    "Experiment": "experiment",
    "LiveChart": "callbacks",
    "MlflowLogger": "mlflow_logger",
    "FederatedClassifier": "estimator",
    "IID": "data",
    "Natural": "data",
    "NaturalSplit": "data",
    "QfedfmError": "errors",
    "QuantitySkew": "data",
    "Result": "result",
    "Shards": "data",
    "Sweep": "swept",
    "Training": "federation",
    "compare": "comparison",
    "estimate": "estimation",
    "run": "runs",
    "sweep": "sweeps",
    "twins": "arms",
}

__version__ = "0.1.0"
__all__ = [
    "IID",
    "Callback",
    "Clients",
    "Comparison",
    "Dirichlet",
    "EarlyStopping",
    "Estimate",
    "Experiment",
    "FederatedClassifier",
    "LiveChart",
    "MlflowLogger",
    "Natural",
    "NaturalSplit",
    "QfedfmError",
    "QuantitySkew",
    "Result",
    "Shards",
    "Sweep",
    "Training",
    "about",
    "aggregation",
    "attacks",
    "backbones",
    "backends",
    "cite",
    "client_rules",
    "codecs",
    "compare",
    "data",
    "estimate",
    "evidence",
    "federation",
    "heads",
    "incentives",
    "inference",
    "plots",
    "privacy",
    "qkd",
    "quantum",
    "run",
    "seal",
    "sweep",
    "training",
    "trust",
    "twins",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'qfedfm' has no attribute '{name}'")
    home = _HOMES.get(name)
    value = getattr(import_module(f"{__name__}.{home}"), name) if home else import_module(f"{__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
