"""What a backbone is: a foundation model that turns items (texts, or rows of numbers) into features."""

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Items

if TYPE_CHECKING:
    from ..params import Specs


@runtime_checkable
class KnowsWidth(Protocol):
    """A backbone whose number of features is known without loading it."""

    width: ClassVar[int]


@runtime_checkable
class Backbone(Protocol):
    """A foundation model below the head.

    specs: its parameters and which of them train (none of a frozen backbone's). fingerprint: identifies weights,
    pooling and preprocessing; equal fingerprints mean equal features.
    """

    def specs(self) -> "Specs":
        """Return what its parameters are."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of everything that its features depend on but the items."""
        ...

    def embed(self, items: Items, progress: bool = True) -> NDArray[np.float32]:
        """Return (rows, features) for (rows,) items."""
        ...
