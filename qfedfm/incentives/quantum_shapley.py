"""Shapley values of voting games by quantum amplitude estimation (Burge et al. 2023, arXiv:2301.04727), simulated.

In a monotone game whose coalitions are worth 0 or 1, a player's Shapley value is the probability that it is pivotal:
that S loses and S + i wins, S being of a size uniform on 0..n-1 and uniform among the coalitions of others of that
size. `arrivals` prepares that superposition: sizes in unary, each turned into a Dicke state (Baertschi and Eidenbenz
2019, doi:10.1007/978-3-030-25027-0_9); it needs no sampling of orders and no call of the game. One Grover iterate flips
the sign where i is pivotal, (-1)^v(S) (-1)^v(S+i): two calls of the game's phase oracle. Amplitude estimation (Brassard
et al. 2002, arXiv:quant-ph/0005055) with M = 2^qubits makes M - 1 iterates a run and errs by at most pi/M in the angle
of the amplitude, with probability 8/pi^2 at least; the median of several runs is surer.

This is a simulation of qubits, exact up to the drawing of outcomes, and needs the worth of every coalition; its price
is counted in oracle calls and never in time. Departure from Burge et al.: sizes are prepared exactly instead of by a
partition of the beta integral, which leaves no error of discretisation. Weighted voting games have a classical dynamic
programme that needs no calls at all (Matsui and Matsui 2000): the gain is over sampling an opaque game, no more.
"""

import math
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import bdtrc, ndtri

from ..declaration import declared
from ..errors import ConfigurationError
from ..quantum.program import Gate, Program, assemble
from ..quantum.statevector import states
from .game import Floats, Game, Values, all_coalitions

MOST_PLAYERS = 12
GOOD = 8 / math.pi**2


@declared
class QuantumShapley:
    """Shapley values of monotone voting games, estimated as a quantum computer would.

    qubits: that hold the phase, so that the grid of angles has steps of pi / 2^qubits. runs: whose median is taken, an
    odd number.
    """

    qubits: Annotated[int, Field(ge=1, le=12)] = 6
    runs: Annotated[int, Field(ge=1)] = 9

    def __post_init__(self) -> None:
        if self.runs % 2 == 0:
            raise ConfigurationError(f"QuantumShapley.runs: a median needs an odd number; got {self.runs}")

    @property
    def confidence(self) -> float:
        """The least probability that a player's interval holds its value: that most runs are within pi/M."""
        return 1 - float(bdtrc(self.runs // 2, self.runs, 1 - GOOD))

    def values(self, game: Game, generator: np.random.Generator) -> Values:
        """Return each player's value, its interval, and the oracle calls of all players together.

        Raises `ConfigurationError` for games that are larger than `MOST_PLAYERS`, not monotone, or not of worth 0 or 1.
        """
        if not 2 <= game.players <= MOST_PLAYERS:
            raise ConfigurationError(
                f"amplitude estimation is simulated for 2 to {MOST_PLAYERS} players; got {game.players}"
            )
        worth = game(all_coalitions(game.players))
        start = states(arrivals(game.players), {}, {})[0, :, 0].abs().double().numpy()
        start = start / np.linalg.norm(start)  # the circuit has no argument and so single precision
        grid = 2**self.qubits
        angles = np.empty(game.players)
        for i in range(game.players):
            outcomes = generator.choice(grid, self.runs, p=phases(start, _pivotal(worth, i), grid))
            angles[i] = math.pi / grid * np.median(np.minimum(outcomes, grid - outcomes))
        ends = (np.clip(angles + shift, 0, math.pi / 2) for shift in (0, -math.pi / grid, math.pi / grid))
        value, low, high = (np.sin(angle) ** 2 for angle in ends)
        calls = game.players * self.runs * 2 * (grid - 1)
        return Values(value, game.evaluations, low, high, self.confidence, calls)


def arrivals(players: int) -> Program:
    """Return the circuit that prepares sum_S sqrt(|S|! (n-1-|S|)! / n!) |S> on n - 1 qubits, one for each other player.

    It has O(n^2) gates. The state is the same under any exchange of qubits.
    """
    last = players - 2
    gates = [Gate("ry", (last,), (_turn(last + 1, players),))]
    for wire in range(last - 1, -1, -1):
        gates.append(Gate("cry", (wire + 1, wire), (_turn(wire + 1, wire + 2),)))
    for count in range(last + 1, 1, -1):
        end = count - 1
        for moved in range(1, count):
            wire, angle = end - moved, _turn(count - moved, count)
            rotation = [Gate("cry", (end, wire), (angle,))]
            if moved > 1:
                rotation = _twice_controlled(wire + 1, end, wire, angle)
            gates += [Gate("cx", (wire, end)), *rotation, Gate("cx", (wire, end))]
    return assemble(players - 1, gates, [], {}, {})


def phases(start: Floats, marked: np.ndarray, grid: int) -> Floats:
    """Return the probability of each outcome of phase estimation, (grid,): outcome k stands for the angle pi k / grid.

    start: the real amplitudes that the estimation begins from. marked: (len(start),) bool, whose weight is estimated.
    """
    paths = np.empty((grid, len(start)))
    state = start
    for k in range(grid):
        paths[k] = state
        flipped = np.where(marked, -state, state)
        state = 2 * start * (start @ flipped) - flipped
    found = (np.abs(np.fft.fft(paths, axis=0) / grid) ** 2).sum(1)
    return np.asarray(found / found.sum())


def sampling_calls(value: float, half_width: float, confidence: float) -> int:
    """Return the calls that sampling coalitions classically needs for an interval of that half width: z^2 p(1-p)/w^2.

    Two calls for each sample, whether the player is pivotal; normal approximation at the value p itself, at least one
    sample. What amplitude estimation has to be compared with.
    """
    z = float(ndtri((1 + confidence) / 2))
    return 2 * max(1, math.ceil(z**2 * value * (1 - value) / half_width**2))


def _pivotal(worth: Floats, player: int) -> np.ndarray:
    """Return for every coalition of the others whether `player` turns it from losing to winning, (2^(n-1),)."""
    without = np.flatnonzero(np.arange(len(worth)) >> player & 1 == 0)
    gain = worth[without + 2**player] - worth[without]
    if not (np.isin(worth, (0, 1)).all() and (gain >= 0).all()):
        raise ConfigurationError(
            "amplitude estimation counts pivots: coalitions should be worth 0 or 1, and no less when somebody joins; "
            "use Shapley() for other games"
        )
    return np.asarray(gain == 1)


def _turn(part: int, whole: int) -> float:
    """Return the angle of a Y rotation that takes |0> to |1> with probability part / whole."""
    return 2 * math.asin(math.sqrt(part / whole))


def _twice_controlled(first: int, second: int, target: int, angle: float) -> list[Gate]:
    """Return a Y rotation of `target` where both controls are 1, from gates with one control."""
    return [
        Gate("cry", (second, target), (angle / 2,)),
        Gate("cx", (first, second)),
        Gate("cry", (second, target), (-angle / 2,)),
        Gate("cx", (first, second)),
        Gate("cry", (first, target), (angle / 2,)),
    ]
