"""The federated round: server, clients, and the engine that carries messages between them."""

from .clients import Cohort, Training
from .evaluation import Evaluation, evaluate
from .local import Engine, Failure, LocalEngine
from .messages import Channel
from .server import Clients, Round, Server, run_round

__all__ = [
    "Channel",
    "Clients",
    "Cohort",
    "Engine",
    "Evaluation",
    "Failure",
    "LocalEngine",
    "Round",
    "Server",
    "Training",
    "evaluate",
    "run_round",
]
