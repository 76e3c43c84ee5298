"""The coordinate-wise median (Yin et al. 2018, arXiv:1803.01498), on the circle for angles.

A client can move a median past the honest values only with half of the clients behind it. Angles have no order, so
their median is the point of the circle with the smallest sum of distances to all (Fisher 1993, Statistical Analysis of
Circular Data, sec. 2.3.2, doi:10.1017/CBO9780511564345); the median of angles as numbers would depend on where zero is.
"""

from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from .geometry import added, by_coordinate
from .updates import Context, Info, Updates


@declared
class Median:
    """params + med_i delta_i, each coordinate by itself; of an even number, the mean of the two in the middle.

    Cost n log n comparisons a coordinate. Any n; fewer than n / 2 clients cannot move it out of the range of the
    others. All clients count the same: rows are a client's own word.
    """

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: the median remembers nothing."""
        return {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the parameters moved by the median update."""
        return added(params, by_coordinate(updates.delta, specs, middle), specs), state, {}


def middle(ordered: Tensor) -> Tensor:
    """Return the median of sorted rows (k, n): (k,) float64."""
    n = ordered.shape[1]
    return (ordered[:, (n - 1) // 2].double() + ordered[:, n // 2].double()) / 2
