"""The coordinate-wise trimmed mean (Yin et al. 2018, arXiv:1803.01498), on the circle for angles.

Between the mean (f = 0) and the median (f just below n / 2): it forgets the extremes and averages the rest.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from .admissible import require
from .geometry import added, by_coordinate
from .updates import Context, Info, Updates


@declared
class TrimmedMean:
    """params + the mean of what is left of each coordinate without its f smallest and f largest values.

    Angles are ordered as seen from their circular median. Cost n log n comparisons a coordinate. Needs n >= 2f + 1;
    then f clients cannot move it out of the range of the others. The paper states f as a share beta = f / n. All
    clients count the same: rows are a client's own word.
    """

    f: Annotated[int, Field(ge=0)] = 1

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: the trimmed mean remembers nothing."""
        return {}

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless n >= 2f + 1."""
        require(self, n, self.f, 2 * self.f + 1, "n >= 2f + 1")

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the parameters moved by the trimmed mean; `ConfigurationError` where n < 2f + 1."""
        n = len(updates.clients)
        self.admit(n)

        def kept_mean(ordered: Tensor) -> Tensor:
            return ordered[:, self.f : n - self.f].double().mean(1)

        return added(params, by_coordinate(updates.delta, specs, kept_mean), specs), state, {}
