"""How far a federation can be trusted: rules against attacks, whom they serve, and what updates and models give away.

A gradient can be inverted and a member recognised: the audits here measure it, they do not prevent it.
"""

from .frontier import Frontier, frontier
from .inversion import Inversion, inversion_audit
from .membership import Membership, membership_audit
from .stress import Stress, stress

__all__ = [
    "Frontier",
    "Inversion",
    "Membership",
    "Stress",
    "frontier",
    "inversion_audit",
    "membership_audit",
    "stress",
]
