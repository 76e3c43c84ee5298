"""Foundation models that turn private data into features, on the client."""

from .backbone import Backbone, KnowsWidth
from .efficientnet import EfficientNetLite0
from .features import features
from .huggingface import HuggingFace, MiniLM
from .identity import Identity

__all__ = ["Backbone", "EfficientNetLite0", "HuggingFace", "Identity", "KnowsWidth", "MiniLM", "features"]
