"""Quantum key distribution: links, protocols and their key rates, simulated sessions from pulses to keys, and delivery.

Simulated keys are for research and protect nothing in the real world; `Source` labels where each key came from.
"""

from .authentication import AuthenticationPool
from .b92 import B92
from .budget import KeyBudget, budget
from .cascade import cascade_alice, cascade_bob, frames_of, near_optimal, original
from .channel import ClassicalChannel, Party, converse
from .decoy_bb84 import DecoyBB84, FiniteDecoyBB84, InfiniteDecoyBB84, NoDecoyBB84
from .eavesdroppers import BeamSplitting, Eavesdropper, InterceptResend, PhotonNumberSplitting
from .entangled import E91, Bbm92
from .entropy import binary_entropy, plob
from .etsi014 import Etsi014, Etsi014Source
from .events import Eavesdropping, Event, Outage
from .finite_key import FiniteKey, finite_length
from .gg02 import Gg02
from .key_store import KeyStore, KeySupply, RandomSupply
from .keys import FollowsRounds, KeepsAccount, Key, Keys, KeySource, NamesNodes, Source
from .link import (
    Detectors,
    Fibre,
    Link,
    PulsedSource,
    SatellitePass,
    SinglePhotons,
    gys,
    lim,
    metro,
    satellite,
    textbook,
)
from .network import (
    KeyRates,
    Network,
    Relay,
    RelayedKey,
    key_rates,
    ring,
    route_rate,
    shortest_route,
    star,
    widest_route,
)
from .preshared import PresharedKeys, PresharedSource
from .protocol import QkdProtocol, Rate
from .pulses import Transmission, transmit
from .rates import RateCurve, rate_curve
from .sarg04 import Sarg04
from .scenario import Scenario
from .session import run_session
from .session_result import Ledger, Session
from .simulated import SimulatedSource
from .single_photon import SinglePhotonBB84
from .six_state import SixState
from .supply import SessionSupply

__all__ = [
    "B92",
    "E91",
    "AuthenticationPool",
    "Bbm92",
    "BeamSplitting",
    "ClassicalChannel",
    "DecoyBB84",
    "Detectors",
    "Eavesdropper",
    "Eavesdropping",
    "Etsi014",
    "Etsi014Source",
    "Event",
    "Fibre",
    "FiniteDecoyBB84",
    "FiniteKey",
    "FollowsRounds",
    "Gg02",
    "InfiniteDecoyBB84",
    "InterceptResend",
    "KeepsAccount",
    "Key",
    "KeyBudget",
    "KeyRates",
    "KeySource",
    "KeyStore",
    "KeySupply",
    "Keys",
    "Ledger",
    "Link",
    "NamesNodes",
    "Network",
    "NoDecoyBB84",
    "Outage",
    "Party",
    "PhotonNumberSplitting",
    "PresharedKeys",
    "PresharedSource",
    "PulsedSource",
    "QkdProtocol",
    "RandomSupply",
    "Rate",
    "RateCurve",
    "Relay",
    "RelayedKey",
    "Sarg04",
    "SatellitePass",
    "Scenario",
    "Session",
    "SessionSupply",
    "SimulatedSource",
    "SinglePhotonBB84",
    "SinglePhotons",
    "SixState",
    "Source",
    "Transmission",
    "binary_entropy",
    "budget",
    "cascade_alice",
    "cascade_bob",
    "converse",
    "finite_length",
    "frames_of",
    "gys",
    "key_rates",
    "lim",
    "metro",
    "near_optimal",
    "original",
    "plob",
    "rate_curve",
    "ring",
    "route_rate",
    "run_session",
    "satellite",
    "shortest_route",
    "star",
    "textbook",
    "transmit",
    "widest_route",
]
