"""Keys delivered over ETSI GS QKD 014 v1.1.1: a client for any conforming KME, and KMEs with simulated keys."""

from .client import Etsi014, Etsi014Source
from .kme import Kme, Limits, SimulatedLink
from .server import KmeServer, serve

__all__ = ["Etsi014", "Etsi014Source", "Kme", "KmeServer", "Limits", "SimulatedLink", "serve"]
