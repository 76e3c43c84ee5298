"""Where keys come from: so far a pre-shared secret, which is not quantum key distribution and never called so."""

from .keys import Key, Keys, KeySource, Source
from .preshared import PresharedKeys, PresharedSource

__all__ = ["Key", "KeySource", "Keys", "PresharedKeys", "PresharedSource", "Source"]
