"""Foundation models that turn private data into features, on the client."""

from .backbone import Backbone
from .features import features
from .huggingface import HuggingFace, MiniLM
from .identity import Identity

__all__ = ["Backbone", "HuggingFace", "Identity", "MiniLM", "features"]
