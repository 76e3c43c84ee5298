"""Client rules: federated algorithms that change what clients do, each with its half on the server."""

from .client_rule import Chooses, ClientRule, Setting
from .feddyn import FedDyn
from .fedprox import FedProx
from .ifca import Ifca
from .scaffold import Scaffold

__all__ = ["Chooses", "ClientRule", "FedDyn", "FedProx", "Ifca", "Scaffold", "Setting"]
