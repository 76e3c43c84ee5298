"""QKD beyond one link: routes over trusted nodes, the key rate of every pair, and keys carried from node to node.

A link gives key to its two ends alone. For any other pair the key is carried along a route: one end draws it at random
and every hop encrypts it with a one-time pad of its own key, c_i = k xor p_i, of which each node but the last needs two
(Salvail et al. 2010, doi:10.3233/JCS-2010-0373; the SECOQC network, Peev et al. 2009,
doi:10.1088/1367-2630/11/7/075001). Every node on the way decrypts and so knows the key: it is trusted, and the record
names it. A relayed bit costs one bit of key on every hop, so a route is as fast as its slowest hop while nothing else
uses it; `key_rates` gives each pair's rate in that sense, not a share that all pairs could have at once.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, KeyExhausted
from .key_store import KeySupply
from .protocol import QkdProtocol

if TYPE_CHECKING:
    import pandas as pd

Route = tuple[str, ...]
"""Node names from one end to the other, both included."""


@dataclass(frozen=True)
class Network:
    """Nodes joined by links; `rates` holds secret bits per second by pair of neighbours, in either order, once."""

    rates: Mapping[tuple[str, str], float]

    def __post_init__(self) -> None:
        pairs = [frozenset(pair) for pair in self.rates]
        if any(len(pair) != 2 for pair in pairs) or len(set(pairs)) != len(pairs):
            raise ConfigurationError("a network's links join two different nodes, one link a pair")
        if not all(np.isfinite(rate) and rate >= 0 for rate in self.rates.values()):
            raise ConfigurationError(f"rates are secret bits per second, finite and not below 0; got {self.rates}")

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, in the order in which the links name them."""
        return tuple(dict.fromkeys(node for pair in self.rates for node in pair))

    def rate(self, one: str, other: str) -> float:
        """Return the bits per second of the link between two neighbours; `ConfigurationError` if there is none."""
        for pair in ((one, other), (other, one)):
            if pair in self.rates:
                return self.rates[pair]
        raise ConfigurationError(f"no link joins '{one}' and '{other}'")

    def neighbours(self, node: str) -> tuple[str, ...]:
        """Return the nodes with a link to `node` whose rate is above 0."""
        working = [pair for pair, rate in self.rates.items() if rate > 0 and node in pair]
        return tuple(two if one == node else one for one, two in working)


def star(centre: str, leaves: Mapping[str, QkdProtocol]) -> Network:
    """Return a network with a link from `centre` to every leaf: a federation's server and clients."""
    return Network({(centre, leaf): protocol.rate().bits_per_second for leaf, protocol in leaves.items()})


def ring(links: Mapping[str, QkdProtocol]) -> Network:
    """Return a network in which each node has a link, by its protocol, to the next, and the last one to the first."""
    nodes = tuple(links)
    if len(nodes) < 3:
        raise ConfigurationError(f"a ring has at least three nodes; got {len(nodes)}")
    follows = zip(nodes, (*nodes[1:], nodes[0]), strict=True)
    return Network({(one, two): links[one].rate().bits_per_second for one, two in follows})


def shortest_route(network: Network, start: str, end: str) -> Route | None:
    """Return a route with the fewest trusted nodes and, of those, the fastest; None if no key can get through."""
    return _best(network, start, end, lambda hops, rate: (hops, -rate))


def widest_route(network: Network, start: str, end: str) -> Route | None:
    """Return the route whose slowest hop is fastest and, of those, one with the fewest nodes; None if there is none.

    Dijkstra's algorithm with the minimum in place of the sum (Pollack 1960, doi:10.1287/opre.8.5.733).
    """
    return _best(network, start, end, lambda hops, rate: (-rate, hops))


def _best(network: Network, start: str, end: str, cost: Callable[[int, float], tuple[float, float]]) -> Route | None:
    """Return the route of least cost(hops, rate of the slowest); both orders of cost grow along a route."""
    for node in (start, end):
        if node not in network.nodes:
            raise ConfigurationError(f"node '{node}' is not in the network: {', '.join(network.nodes)}")
    done: list[tuple[str, int, float]] = []
    ahead: list[tuple[tuple[float, float], Route, float]] = [(cost(0, np.inf), (start,), np.inf)]
    while ahead:
        _, route, rate = heappop(ahead)
        here, hops = route[-1], len(route) - 1
        if here == end:
            return route
        # a cost of two parts keeps every route to a node that no other beats in both
        if any(node == here and before <= hops and faster >= rate for node, before, faster in done):
            continue
        done.append((here, hops, rate))
        for node in network.neighbours(here):
            if node not in route:
                slowest = min(rate, network.rate(here, node))
                heappush(ahead, (cost(hops + 1, slowest), (*route, node), slowest))
    return None


def route_rate(network: Network, route: Sequence[str]) -> float:
    """Return the bits per second that a route carries, min over its hops."""
    return min(network.rate(one, two) for one, two in pairwise(route))


@dataclass(frozen=True)
class KeyRates:
    """The key rate of every pair of `nodes`. rates: (nodes, nodes) bits per second, symmetric, diagonal 0."""

    nodes: tuple[str, ...]
    rates: NDArray[np.float64]
    routes: Mapping[tuple[str, str], Route]

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas frame with nodes as rows and columns, in bits per second."""
        import pandas as pd

        return pd.DataFrame(self.rates, index=list(self.nodes), columns=list(self.nodes))


def key_rates(
    network: Network,
    nodes: Iterable[str] | None = None,
    choose: Callable[[Network, str, str], Route | None] = widest_route,
) -> KeyRates:
    """Return the key rate and route of every pair of `nodes` (by default all); 0 where no key gets through."""
    names = tuple(network.nodes if nodes is None else nodes)
    rates = np.zeros((len(names), len(names)))
    routes: dict[tuple[str, str], Route] = {}
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            route = choose(network, one, other)
            if route is not None:
                rates[i, j] = rates[j, i] = route_rate(network, route)
                routes[one, other], routes[other, one] = route, route[::-1]
    return KeyRates(names, rates, routes)


@dataclass(frozen=True)
class RelayedKey:
    """A key that was carried along `route`; first, last: what its two ends hold, secret, never printed.

    sent: what went over each hop in public.
    """

    route: Route
    first: bytes = field(repr=False)
    last: bytes = field(repr=False)
    sent: tuple[bytes, ...] = field(repr=False)

    @property
    def seen_by(self) -> tuple[str, ...]:
        """All nodes that know the key: its ends, and every trusted node between them."""
        return self.route

    @property
    def trusted(self) -> tuple[str, ...]:
        """The nodes between the ends, each of which could read or forge whatever the key protects."""
        return self.route[1:-1]


@dataclass(frozen=True)
class Relay:
    """A route over trusted nodes as a `KeySupply` of its two ends. supplies: those of the hops, in order."""

    route: Route
    supplies: tuple[KeySupply, ...]

    def __post_init__(self) -> None:
        if len(self.route) < 2 or len(set(self.route)) != len(self.route):
            raise ConfigurationError(f"a route has two nodes or more, each once; got {self.route}")
        if len(self.supplies) != len(self.route) - 1:
            raise ConfigurationError(
                f"a route over {len(self.route)} nodes has a supply for each of its {len(self.route) - 1} hops; "
                f"got {len(self.supplies)}"
            )

    def carry(self, bits: int) -> RelayedKey:
        """Return a fresh key of `bits` bits with its record; `KeyExhausted` names the hop that has too little left.

        Keys that earlier hops gave by then are lost.
        """
        drawn = key = os.urandom(bits // 8)
        sent = []
        for hop, supply in zip(pairwise(self.route), self.supplies, strict=True):
            try:
                near, far = supply.produce(bits)
            except KeyExhausted as error:
                raise KeyExhausted(f"no key can be carried from '{hop[0]}' to '{hop[1]}': {error}") from error
            sent.append(_xor(key, near))
            key = _xor(sent[-1], far)
        return RelayedKey(self.route, drawn, key, tuple(sent))

    def produce(self, bits: int) -> tuple[bytes, bytes]:
        """Return what `carry` gives the two ends."""
        key = self.carry(bits)
        return key.first, key.last


def _xor(one: bytes, other: bytes) -> bytes:
    return (np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).tobytes()
