"""What protects a message on its way: the envelope, and the suites that seal it."""

from .aead import Aead
from .envelope import Expected, Header, Kind, ReplayGuard, Seal

__all__ = ["Aead", "Expected", "Header", "Kind", "ReplayGuard", "Seal"]
