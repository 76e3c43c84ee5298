"""No backbone: the data set's own numbers are the features."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Items
from ..declaration import declared
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..params import Specs


@declared
class Identity:
    """Pass features through as they are."""

    def specs(self) -> "Specs":
        """Return no parameters."""
        return ()

    def fingerprint(self) -> str:
        """Return the one name that all of them share."""
        return "identity"

    def embed(self, items: Items, progress: bool = True) -> NDArray[np.float32]:  # noqa: ARG002  (nothing takes time)
        """Return `items`, (rows, features). Raises ConfigurationError for texts."""
        if not isinstance(items, np.ndarray):
            raise ConfigurationError(
                "Identity() passes numbers through and the items are texts: use a text backbone such as MiniLM(), or "
                "name columns of numbers as features"
            )
        return items
