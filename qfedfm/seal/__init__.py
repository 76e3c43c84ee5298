"""What protects a message on its way: the envelope, and the suites that seal it."""

from .aead import Aead
from .envelope import Expected, Header, Kind, ReplayGuard, Seal
from .hybrid import HybridAead
from .one_time_pad import OneTimePad

__all__ = ["Aead", "Expected", "Header", "HybridAead", "Kind", "OneTimePad", "ReplayGuard", "Seal"]
