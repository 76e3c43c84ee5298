"""Three searches of the unit cube at equal evaluations: quantum-inspired evolution, CMA-ES, and random points.

Each minimises a function that takes many points at once, (count, n) in [0, 1]^n to (count,), asks it for exactly
`evaluations` values, and returns the best point. They stand side by side because a search is worth what it finds beyond
random points at the same price. "Quantum-inspired" is a name: all three are classical programs.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]
Found = tuple[Floats, float]


@runtime_checkable
class Search(Protocol):
    """Looks for a minimum in the unit cube."""

    def minimise(self, function: Function, n: int, evaluations: int, generator: np.random.Generator) -> Found:
        """Return the best point (n,) of `evaluations` and its value."""
        ...


@declared
class RandomSearch:
    """Independent uniform points."""

    def minimise(self, function: Function, n: int, evaluations: int, generator: np.random.Generator) -> Found:
        """Return the best of `evaluations` uniform points."""
        points = generator.random((evaluations, n))
        values = function(points)
        return points[values.argmin()], float(values.min())


@declared
class QuantumEvolution:
    """The quantum-inspired evolutionary algorithm (Han and Kim 2002, doi:10.1109/TEVC.2002.804320).

    A Q-bit is an angle theta with P(1) = sin^2 theta, at first pi/4. Each generation observes every individual's string
    of Q-bits (`bits` for each coordinate, most significant first), and turns each Q-bit that shows another value than
    the individual's best string by `rotation` towards it, unless the observation was better. Every `migration`
    generations all take over the best string of all. Departures: no local migration, the angle is kept in [0, pi/2].
    """

    population: int = 10
    bits: int = 8
    rotation: float = 0.01 * math.pi
    migration: int = 20

    def __post_init__(self) -> None:
        wrong = [
            f"QuantumEvolution.{name}: expected one or more; got {value}"
            for name, value in (("population", self.population), ("bits", self.bits), ("migration", self.migration))
            if value < 1
        ]
        if not 0 < self.rotation < math.pi / 2:
            wrong.append(f"QuantumEvolution.rotation: expected radians in (0, pi/2); got {self.rotation}")
        if wrong:
            raise ConfigurationError(wrong)

    def minimise(self, function: Function, n: int, evaluations: int, generator: np.random.Generator) -> Found:
        """Return the best string observed, as a point of the grid of 2^bits steps in each coordinate."""
        places = 2.0 ** -np.arange(1, self.bits + 1) / (1 - 2.0**-self.bits)
        theta = np.full((self.population, n, self.bits), math.pi / 4)
        best, values = np.zeros(theta.shape, dtype=bool), np.full(self.population, math.inf)
        generation = 0
        while evaluations > 0:
            some = min(self.population, evaluations)
            seen = generator.random(theta.shape) < np.sin(theta) ** 2
            found = np.full(self.population, math.inf)
            found[:some] = function(seen[:some] @ places)
            evaluations -= some
            worse = (found >= values)[:, None, None]
            theta += np.where(worse & (seen != best), np.where(best, self.rotation, -self.rotation), 0)
            theta = theta.clip(0, math.pi / 2)
            best = np.where(worse, best, seen)
            values = np.minimum(values, found)
            generation += 1
            if generation % self.migration == 0:
                leader = values.argmin()
                best[:], values[:] = best[leader].copy(), values[leader]
        return best[values.argmin()] @ places, float(values.min())


@declared
class CmaEs:
    """Covariance matrix adaptation, (mu/mu_w, lambda) with default constants (Hansen 2016, arXiv:1604.00772).

    Begins in the middle of the cube. sigma: first step size. Points outside are moved to the nearest face, and the
    squared way is added to their values in units of the spread of values (Hansen's advice for boxes, simplified).
    """

    sigma: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ConfigurationError(f"CmaEs.sigma: expected a positive number; got {self.sigma}")

    def minimise(self, function: Function, n: int, evaluations: int, generator: np.random.Generator) -> Found:
        """Return the best point evaluated."""
        size = 4 + int(3 * math.log(n))
        mu = size // 2
        weights = math.log((size + 1) / 2) - np.log(np.arange(1, mu + 1))
        weights /= weights.sum()
        mass = 1 / (weights**2).sum()
        c_sigma = (mass + 2) / (n + mass + 5)
        damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + c_sigma
        c_c = (4 + mass / n) / (n + 4 + 2 * mass / n)
        c_1 = 2 / ((n + 1.3) ** 2 + mass)
        c_mu = min(1 - c_1, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        mean, sigma, covariance = np.full(n, 0.5), self.sigma, np.eye(n)
        path_sigma, path_c, generation = np.zeros(n), np.zeros(n), 0
        best, least = mean, math.inf
        while evaluations > 0:
            scales, axes = np.linalg.eigh(covariance)
            scales = np.sqrt(scales.clip(1e-20))
            steps = (generator.standard_normal((size, n)) * scales) @ axes.T
            points = mean + sigma * steps
            inside = points.clip(0, 1)
            some = min(size, evaluations)
            values = np.full(size, math.inf)
            values[:some] = function(inside[:some])
            evaluations -= some
            generation += 1
            if values.min() < least:
                best, least = inside[values.argmin()], float(values.min())
            if some < size:
                break
            ranked = values + (np.ptp(values) + 1e-12) * ((points - inside) ** 2).sum(1)
            chosen = steps[ranked.argsort()[:mu]]
            step = weights @ chosen
            mean = mean + sigma * step
            white = axes @ ((axes.T @ step) / scales)
            path_sigma = (1 - c_sigma) * path_sigma + math.sqrt(c_sigma * (2 - c_sigma) * mass) * white
            length = float(np.linalg.norm(path_sigma))
            usual = math.sqrt(1 - (1 - c_sigma) ** (2 * generation)) * (1.4 + 2 / (n + 1)) * expected
            moving = float(length < usual)
            path_c = (1 - c_c) * path_c + moving * math.sqrt(c_c * (2 - c_c) * mass) * step
            lost = (1 - moving) * c_c * (2 - c_c)
            covariance = (
                (1 - c_1 - c_mu + c_1 * lost) * covariance
                + c_1 * np.outer(path_c, path_c)
                + c_mu * (chosen.T * weights) @ chosen
            )
            covariance = (covariance + covariance.T) / 2
            sigma *= math.exp(min(1.0, c_sigma / damping * (length / expected - 1)))
        return best, least
