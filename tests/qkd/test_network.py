"""Routes and rates against exhaustive search and the single links' own rates; relayed keys against pads known here."""

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError, KeyExhausted
from qfedfm.qkd.decoy_bb84 import DecoyBB84
from qfedfm.qkd.key_store import RandomSupply
from qfedfm.qkd.link import metro
from qfedfm.qkd.network import Network, Relay, key_rates, ring, route_rate, shortest_route, star, widest_route

KM = {"a": 10.0, "b": 25.0, "c": 50.0}


def protocols(lengths):
    return {name: DecoyBB84(metro(km)) for name, km in lengths.items()}


def test_in_a_star_clients_have_their_links_rate_and_pairs_of_them_the_slower_ones():
    alone = {name: protocol.rate().bits_per_second for name, protocol in protocols(KM).items()}
    assert alone["a"] > alone["b"] > alone["c"] > 0
    found = key_rates(star("server", protocols(KM)))
    frame = found.to_frame()
    assert found.nodes == ("server", "a", "b", "c")
    for name, rate in alone.items():
        assert frame.loc["server", name] == frame.loc[name, "server"] == rate
    for one, other in combinations(alone, 2):
        assert frame.loc[one, other] == min(alone[one], alone[other])
        assert found.routes[other, one] == (other, "server", one)
    assert np.array_equal(found.rates, found.rates.T)
    assert not found.rates.diagonal().any()
    assert key_rates(star("server", protocols(KM)), ["c", "a"]).rates.tolist() == [[0, alone["c"]], [alone["c"], 0]]


def test_a_trusted_node_halfway_carries_more_than_the_whole_distance_at_once():
    halves = star("middle", protocols({"left": 50.0, "right": 50.0}))
    whole = DecoyBB84(metro(100.0)).rate().bits_per_second
    assert route_rate(halves, ("left", "middle", "right")) > whole > 0


def test_in_a_ring_keys_go_the_wider_or_the_shorter_way_and_round_a_cut():
    network = ring(protocols({"a": 10.0, "b": 60.0, "c": 10.0, "d": 10.0, "e": 10.0}))
    assert network.nodes == ("a", "b", "c", "d", "e")
    assert widest_route(network, "a", "c") == ("a", "e", "d", "c")
    assert shortest_route(network, "a", "c") == ("a", "b", "c")
    assert route_rate(network, ("a", "e", "d", "c")) > route_rate(network, ("a", "b", "c"))
    cut = Network({**network.rates, ("a", "b"): 0.0})
    assert shortest_route(cut, "a", "b") == widest_route(cut, "a", "b") == ("a", "e", "d", "c", "b")
    apart = Network({**cut.rates, ("d", "e"): 0.0})
    assert shortest_route(apart, "a", "c") is None
    rates = key_rates(apart)
    assert ("a", "c") not in rates.routes
    assert rates.to_frame().loc["a", "c"] == 0


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(list(combinations("abcdef", 2))), st.integers(0, 4), min_size=1))
def test_routes_are_the_best_of_all_that_exhaustive_search_finds(rates):
    network = Network({pair: float(rate) for pair, rate in rates.items()})
    both = rates | {(other, one): rate for (one, other), rate in rates.items()}
    start, end, *_ = network.nodes
    between = [node for node in network.nodes if node not in (start, end)]
    costs = []
    for number in range(len(between) + 1):
        for middle in permutations(between, number):
            route = (start, *middle, end)
            slowest = min(both.get(hop, 0) for hop in pairwise(route))
            if slowest:
                costs.append((len(route), slowest))
    wide, short = widest_route(network, start, end), shortest_route(network, start, end)
    if not costs:
        assert wide is None
        assert short is None
    else:
        assert (-route_rate(network, wide), len(wide)) == min((-rate, length) for length, rate in costs)
        assert (len(short), -route_rate(network, short)) == min((length, -rate) for length, rate in costs)


def test_networks_and_routes_that_make_no_sense_are_refused():
    for rates in ({("a", "a"): 1.0}, {("a", "b"): 1.0, ("b", "a"): 2.0}):
        with pytest.raises(ConfigurationError, match="two different nodes"):
            Network(rates)
    for rate in (-1.0, np.nan, np.inf):
        with pytest.raises(ConfigurationError, match="finite and not below 0"):
            Network({("a", "b"): rate})
    network = Network({("a", "b"): 1.0, ("b", "c"): 1.0})
    with pytest.raises(ConfigurationError, match="'x' is not in the network: a, b, c"):
        widest_route(network, "a", "x")
    with pytest.raises(ConfigurationError, match="no link joins 'a' and 'c'"):
        network.rate("c", "b") and network.rate("a", "c")
    with pytest.raises(ConfigurationError, match="at least three nodes"):
        ring(protocols({"a": 1.0, "b": 1.0}))
    for route, supplies in [(("a",), 0), (("a", "b", "a"), 2), (("a", "b", "c"), 1)]:
        with pytest.raises(ConfigurationError, match="a route"):
            Relay(route, (RandomSupply(),) * supplies)


class Fixed:
    """A supply of known bits, which may differ between the ends."""

    def __init__(self, near, far=None):
        self.near, self.far = near, far or near

    def produce(self, bits):
        return self.near[: bits // 8], self.far[: bits // 8]


def test_every_hop_is_a_one_time_pad_and_all_nodes_on_the_way_are_named():
    pads = b"\x0f" * 4, b"\xf0" * 4, b"\x55" * 4
    relay = Relay(("alice", "n1", "n2", "bob"), tuple(map(Fixed, pads)))
    key = relay.carry(32)
    assert key.first == key.last
    assert [bytes(a ^ b for a, b in zip(sent, key.first, strict=True)) for sent in key.sent] == list(pads)
    assert key.seen_by == ("alice", "n1", "n2", "bob")
    assert key.trusted == ("n1", "n2")
    assert relay.carry(32).first != key.first  # drawn anew, with 2^-32 for chance
    assert key.first.hex() not in repr(key)
    assert repr(key) == "RelayedKey(route=('alice', 'n1', 'n2', 'bob'))"


def test_an_error_on_one_hop_is_an_error_in_the_key():
    relay = Relay(("alice", "n", "bob"), (Fixed(b"\x00" * 2), Fixed(b"\x00" * 2, b"\x01\x00")))
    key = relay.carry(16)
    assert bytes(a ^ b for a, b in zip(key.first, key.last, strict=True)) == b"\x01\x00"


def test_a_relay_is_a_supply_and_says_which_hop_has_no_key_left():
    relay = Relay(("alice", "n", "bob"), (RandomSupply(), RandomSupply(limit=100)))
    one, other = relay.produce(64)
    assert one == other
    assert len(one) == 8
    with pytest.raises(KeyExhausted, match="from 'n' to 'bob': the supply has 36 bits"):
        relay.produce(64)
