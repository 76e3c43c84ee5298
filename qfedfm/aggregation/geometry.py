"""The space that updates live in: a line for every linear entry, a circle for every angle.

Robust rules compare updates by how far apart they are. An angle that is off by a whole period is the same angle, so a
distance on the line would make an outlier of an honest client and let an attacker hide behind turns; here every
difference of angles is taken the shorter way round, and distances are geodesics of the product of lines and circles.

`flat` lays the updates of a round out as points (n, d), `periods` says which columns are circles, `moved` adds a point
to the global parameters. The functions that take {name: (n, *shape)} and specs need no flat copy: 100 clients with a
million parameters each stay as they came, in float32, and are read a block of columns at a time.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..params import Params, Specs, wrap
from .updates import BLOCK

CANCELLED = 1e-6  # |a|^2 + |b|^2 - 2 ab below this share of |a|^2 + |b|^2 has lost six digits: taken from a - b instead


def periods(specs: Specs) -> Tensor:
    """Return the period of every entry, (d,) float64, in radians, infinite for entries that are not angles."""
    return torch.cat([torch.full((spec.size,), spec.period or math.inf, dtype=torch.float64) for spec in specs])


def wrapped(points: Tensor, periods: Tensor) -> Tensor:
    """Return points (..., d) with angular columns moved by whole periods into [-T/2, T/2); periods: (d,)."""
    angular = torch.isfinite(periods)
    if not angular.any():
        return points
    moved, turn = points.clone(), periods[angular]
    moved[..., angular] = torch.remainder(points[..., angular] + turn / 2, turn) - turn / 2
    return moved


def flat(delta: Params, specs: Specs) -> Tensor:
    """Return updates {name: (n, *shape)} as points (n, d) float64, in the order of `specs`, angles wrapped."""
    columns = [delta[spec.name].flatten(1) if spec.shape else delta[spec.name].unsqueeze(1) for spec in specs]
    points = torch.empty(len(columns[0]), sum(spec.size for spec in specs), dtype=torch.float64)
    start = 0
    for spec, column in zip(specs, columns, strict=True):
        part = points[:, start : start + spec.size].copy_(column)
        if spec.period is not None:
            part.copy_(wrap(part, spec.period))
        start += spec.size
    return points


def unflat(point: Tensor, specs: Specs) -> Params:
    """Return a point (d,) as tensors {name: (*shape)} in the types of `specs`: the opposite of `flat`."""
    parts = torch.split(point, [spec.size for spec in specs])
    return {spec.name: part.view(spec.shape).to(spec.torch_dtype) for spec, part in zip(specs, parts, strict=True)}


def moved(params: Params, step: Tensor, specs: Specs) -> Params:
    """Return global parameters {name: (*shape)} after a step (d,), angles by the shorter way round."""
    return added(params, unflat(step, specs), specs)


def added(params: Params, steps: Params, specs: Specs) -> Params:
    """Return params + steps, both {name: (*shape)}, angles by the shorter way round, in the types of `specs`."""
    new = {}
    for spec in specs:
        step = steps[spec.name] if spec.period is None else wrap(steps[spec.name], spec.period)
        new[spec.name] = params[spec.name] + step.to(spec.torch_dtype)
    return new


def squared_distances(points: Tensor, periods: Tensor) -> Tensor:
    """Return squared geodesic distances between points (n, d) of any float type: (n, n) float64, zero diagonal.

    sum_k wrap(a_k - b_k)^2. Columns on which nobody can be nearer the other way round (the line, and angles spread over
    less than half a period) go through the Gram matrix, n^2 d multiplications; pairs so close that its differences
    cancel, and all other columns, are taken difference by difference. Infinite where a square overflows.
    """
    turning = _turning(points, periods)
    straight, n = (points[:, ~turning] if turning.any() else points), len(points)
    gram = torch.zeros(n, n, dtype=torch.float64)
    for block in _blocks(straight):
        gram.addmm_(block, block.T)
    scale = gram.diagonal().unsqueeze(0) + gram.diagonal().unsqueeze(1)
    squared = (scale - 2 * gram).nan_to_num_(math.inf, math.inf, math.inf).triu_(1)
    squared += squared.T.clone()
    close = (squared < CANCELLED * scale).triu_(1)
    for i in close.any(1).nonzero().flatten().tolist():
        others = close[i].nonzero().flatten()
        line = torch.full((straight.shape[1],), math.inf, dtype=torch.float64)
        squared[i, others] = squared[others, i] = _from_differences(straight[others], straight[i], line)
    squared.fill_diagonal_(0)
    if turning.any():
        circles, turns = points[:, turning].double(), periods[turning]
        for i in range(n - 1):
            squared[i, i + 1 :] += (apart := _from_differences(circles[i + 1 :], circles[i], turns))
            squared[i + 1 :, i] += apart
    return squared


def update_distances(delta: Params, specs: Specs) -> Tensor:
    """Return squared geodesic distances between updates {name: (n, *shape)}: (n, n) float64."""
    n = len(delta[specs[0].name])
    total = torch.zeros(n, n, dtype=torch.float64)
    for spec in specs:
        points = delta[spec.name].reshape(n, -1)
        if spec.period is not None:
            points = wrap(points.double(), spec.period)
        turns = torch.tensor(spec.period or math.inf, dtype=torch.float64).expand(spec.size)
        total += squared_distances(points, turns)
    return total


def products(delta: Params, specs: Specs, centre: Params | None = None) -> Tensor:
    """Return inner products of updates {name: (n, *shape)} as seen from `centre` {name: (*shape)}: (n, n) float64.

    G_ij = <wrap(x_i - c), wrap(x_j - c)>, with c = 0 where no centre is given. n^2 d multiplications.
    """
    n = len(delta[specs[0].name])
    gram = torch.zeros(n, n, dtype=torch.float64)
    for block in _seen_from(delta, specs, centre):
        gram.addmm_(block, block.T)
    return gram


def norms(delta: Params, specs: Specs, centre: Params | None = None) -> Tensor:
    """Return |wrap(x_i - c)| of each update {name: (n, *shape)}, c = 0 where no centre is given: (n,) float64."""
    total = torch.zeros(len(delta[specs[0].name]), dtype=torch.float64)
    for block in _seen_from(delta, specs, centre):
        total += block.square().sum(1)
    return total.sqrt()


def along(delta: Params, direction: Params, specs: Specs) -> Tensor:
    """Return <x_i, u> of updates {name: (n, *shape)} and u {name: (*shape)}, angles wrapped: (n,) float64."""
    total = torch.zeros(len(delta[specs[0].name]), dtype=torch.float64)
    one = {name: tensor.unsqueeze(0) for name, tensor in direction.items()}
    for block, other in zip(_seen_from(delta, specs, None), _seen_from(one, specs, None), strict=True):
        total += block @ other[0]
    return total


def average(delta: Params, weights: Tensor, specs: Specs, near: int) -> Params:
    """Return sum_i w_i x_i of updates {name: (n, *shape)}, as a step {name: (*shape)} in float64.

    weights: (n,), summing to one. Angles are averaged as seen from update `near`, one that carries weight:
    x_near + sum_i w_i wrap(x_i - x_near), so that the mean does not depend on where an angle's zero is.
    """
    steps = {}
    for spec in specs:
        points = delta[spec.name].reshape(len(weights), -1)
        if spec.period is None:
            mean = torch.cat([weights @ block for block in _blocks(points)])
        else:
            centre = points[near].double()
            mean = centre + weights @ wrap(points.double() - centre, spec.period)
        steps[spec.name] = mean.view(spec.shape)
    return steps


def combined(delta: Params, coefficients: Tensor, specs: Specs, centre: Params | None = None) -> Params:
    """Return sum_i a_i wrap(x_i - c) of updates {name: (n, *shape)} as a step {name: (*shape)} in float64.

    coefficients: a, (n,). centre: {name: (*shape)}, zero, where the round began, if none is given.
    """
    steps = {}
    for spec in specs:
        parts = [coefficients @ block for block in _seen_from(delta, (spec,), centre)]
        steps[spec.name] = torch.cat(parts).view(spec.shape)
    return steps


def by_coordinate(delta: Params, specs: Specs, choose: Callable[[Tensor], Tensor]) -> Params:
    """Return the step {name: (*shape)} that `choose` makes of each coordinate by itself.

    delta: {name: (n, *shape)}. choose: (k, n) float32 or float64, sorted along the clients, to (k,). On a circle order
    needs a cut: angles are sorted as seen from their circular median, the cut being opposite to it.
    n log n comparisons a coordinate; n^2 where angles are spread over half a period or more.
    """
    steps = {}
    for spec in specs:
        points = delta[spec.name].reshape(len(delta[spec.name]), -1)
        centre = torch.zeros(spec.size, dtype=points.dtype)
        if spec.period is not None:
            points = wrap(points.double(), spec.period)
            centre = circular_median(points, spec.period)
            points = wrap(points - centre, spec.period)
        chosen = []
        for start in range(0, spec.size, BLOCK):
            rows = np.ascontiguousarray(points[:, start : start + BLOCK].T.numpy())
            chosen.append(choose(torch.from_numpy(np.sort(rows, axis=1))))
        step = torch.cat(chosen) if spec.period is None else centre + torch.cat(chosen)
        steps[spec.name] = step.view(spec.shape).to(spec.torch_dtype)
    return steps


def circular_median(points: Tensor, period: float) -> Tensor:
    """Return for every column of angles (n, k) the one of them nearest to all: min_i sum_j |wrap(x_j - x_i)|, (k,).

    Zero in columns spread over less than half a period, where a cut at half a period separates no two angles and the
    ordinary order holds. points: in [-period/2, period/2). n^2 k operations, n k memory.
    """
    centre = torch.zeros(points.shape[1], dtype=points.dtype)
    turning = points.amax(0) - points.amin(0) >= period / 2
    if turning.any():
        angles = points[:, turning].sort(0).values  # so that ties do not depend on the order of clients
        costs = torch.stack([wrap(angles - angle, period).abs().sum(0) for angle in angles])
        centre[turning] = angles.gather(0, costs.argmin(0, keepdim=True)).squeeze(0)
    return centre


def _turning(points: Tensor, periods: Tensor) -> Tensor:
    """Return which columns are angles spread over half a period or more, (d,) bool."""
    turning = torch.isfinite(periods)
    if turning.any():
        some = points[:, turning]
        turning = turning.clone()
        turning[turning.clone()] = some.amax(0) - some.amin(0) >= periods[turning] / 2
    return turning


def _seen_from(delta: Params, specs: Specs, centre: Params | None) -> Iterator[Tensor]:
    """Give wrap(x_i - c) in float64, (n, at most BLOCK) at a time."""
    for spec in specs:
        points = delta[spec.name].reshape(len(delta[spec.name]), -1)
        origin = None if centre is None else centre[spec.name].reshape(1, -1)
        for start in range(0, spec.size, BLOCK):
            columns = slice(start, start + BLOCK)
            block = points[:, columns].double()
            if origin is not None:
                block = block - origin[:, columns].double()
            yield block if spec.period is None else wrap(block, spec.period)


def _blocks(points: Tensor) -> Iterator[Tensor]:
    """Give the columns of points (n, d) in float64, a block at a time."""
    for start in range(0, points.shape[1], BLOCK):
        yield points[:, start : start + BLOCK].double()


def _from_differences(points: Tensor, point: Tensor, periods: Tensor) -> Tensor:
    """Return the squared distance of each of points (m, d) to one point (d,): (m,) float64."""
    total = torch.zeros(len(points), dtype=torch.float64)
    for start in range(0, points.shape[1], BLOCK):
        columns = slice(start, start + BLOCK)
        total += wrapped(points[:, columns].double() - point[columns].double(), periods[columns]).square().sum(1)
    return total
