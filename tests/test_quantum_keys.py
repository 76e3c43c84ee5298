"""Keys of simulated links as a federation uses them: each once, none where Eve listens, every bit in the account."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import experiment

import qfedfm
from qfedfm import Experiment
from qfedfm.data import IID
from qfedfm.errors import ConfigurationError, KeyExhausted, KeySourceError, QuorumError
from qfedfm.federation import Clients
from qfedfm.qkd import (
    DecoyBB84,
    Eavesdropping,
    Etsi014,
    InterceptResend,
    Outage,
    PulsedSource,
    Scenario,
    SessionSupply,
    SimulatedSource,
    budget,
    metro,
)
from qfedfm.qkd.etsi014 import serve
from qfedfm.qkd.etsi014.certificates import make_certificates
from qfedfm.seal import Aead, OneTimePad

LINK = replace(
    metro(50), source=PulsedSource((0.5, 0.22, 0.0), (0.2, 0.5, 0.3), repetition_hz=2.5e9), basis_probability=0.76
)
PROTOCOL = DecoyBB84(LINK, block=150_000)
A_TO_B = ("a", "b")


def source(**options) -> SimulatedSource:
    made = SimulatedSource(PROTOCOL, generator=np.random.default_rng(5), **options)
    made.begin_round(1)
    return made


def test_keys_are_handed_out_once_to_either_end_and_counted():
    keys = source()
    drawn = [keys.draw(*A_TO_B, bits, "model") for bits in (256, 8, 4096)]
    assert [len(key.material) * 8 for key in drawn] == [256, 8, 4096]
    assert keys.fetch(*A_TO_B, drawn[2].ids, 4096, "model").material == drawn[2].material
    with pytest.raises(KeySourceError, match="is spent"):
        keys.fetch(*A_TO_B, drawn[2].ids, 4096, "model")
    session, balance = keys.account()
    assert session["delivered"] - session["delivered"] % 8 == balance["delivered"]
    assert balance["left"] == balance["delivered"] - 256 - 8 - 4096
    assert [record["what"] for record in keys.account()] == ["balance"]


@pytest.mark.parametrize(
    ("end", "bits", "purpose"), [(("b", "a"), 256, "model"), (A_TO_B, 128, "model"), (A_TO_B, 256, "update")]
)
def test_a_key_is_fetched_as_it_was_drawn_or_not_at_all(end, bits, purpose):
    keys = source()
    key = keys.draw(*A_TO_B, 256, "model")
    with pytest.raises(KeySourceError):
        keys.fetch(*end, key.ids, bits, purpose)


@pytest.mark.parametrize("bits", [0, -8, 7])
def test_a_key_has_whole_bytes(bits):
    with pytest.raises(KeySourceError, match="whole bytes"):
        source().draw(*A_TO_B, bits, "model")


def test_no_two_draws_share_a_bit_however_many_threads_ask():
    keys = source()
    keys.draw(*A_TO_B, 8, "model")
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda _: keys.draw(*A_TO_B, 128, "model").material, range(100)))
    assert len(set(many)) == 100
    assert keys.account()[-1]["drawn"] == 8 + 100 * 128


def test_a_link_runs_no_more_sessions_than_it_may():
    keys = source(sessions_per_round=1)
    keys.draw(*A_TO_B, 256, "model")
    left = keys.account()[-1]["left"]
    with pytest.raises(KeyExhausted, match=rf"has {left} bits of key left and {left + 8} are needed; it ran 1 session"):
        keys.draw(*A_TO_B, left + 8, "update")
    keys.begin_round(2)
    assert len(keys.draw(*A_TO_B, left + 8, "update").material) == left // 8 + 1
    assert [record["round"] for record in keys.account()] == [2, 2]


def test_eve_on_one_link_costs_that_link_its_key_for_the_round_and_no_other():
    eve = Eavesdropping("b", InterceptResend(), first=2, last=3)
    keys = source(events=(eve,))
    for pair in (A_TO_B, ("a", "c")):
        keys.draw(*pair, 256, "model")
    for number in (2, 3):
        keys.begin_round(number)
        for _ in range(2):
            with pytest.raises(KeyExhausted, match="between 'a' and 'b' gives no key: given up"):
                keys.draw(*A_TO_B, 256, "model")
        keys.draw("a", "c", 256, "model")
    keys.begin_round(4)
    keys.draw("b", "a", 256, "update")
    sessions = [record for record in keys.account() if record["what"] == "session"]
    assert [(r["round"], r["link"], r["aborted"] is None) for r in sessions] == [
        (1, ["a", "b"], True), (1, ["a", "c"], True), (2, ["a", "b"], False), (3, ["a", "b"], False),
    ]  # fmt: skip
    caught = [record for record in sessions if record["aborted"]]
    assert all(abs(record["qber_test"][0] - 0.25) < 0.03 and record["delivered"] == 0 for record in caught)
    assert all("intercept-resend" in record["eve"] for record in caught)


def test_a_link_comes_back_when_eve_has_gone_however_long_she_stayed():
    keys = source(events=(Eavesdropping("b", InterceptResend(), first=1, last=9),))
    for number in range(1, 10):
        keys.begin_round(number)
        with pytest.raises(KeyExhausted, match="given up"):
            keys.draw(*A_TO_B, 256, "model")
    keys.begin_round(10)
    keys.draw(*A_TO_B, 256, "model")
    balance = keys.account()[-1]
    assert balance["left"] == balance["delivered"] - balance["drawn"] - balance["authentication"]


def test_a_scenario_about_nobody_is_refused(tmp_path):
    wrong = Scenario(PROTOCOL, (Outage("client-0001"), Outage("server"), Outage("harbour")))
    with pytest.raises(
        ConfigurationError, match=r"'client-0001', which is no node .*did you mean 'client-001'"
    ) as caught:
        qfedfm.run(replace(FEDERATION, seal=Aead(wrong)), tmp_path / "run", progress=False)
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run").exists()


def test_a_block_that_gives_no_key_is_refused_before_anything_is_loaded():
    small = replace(PROTOCOL, block=5000)
    with pytest.raises(ConfigurationError, match=r"a block of 5000 sifted bits gives no key on this link .*tuned\(\)"):
        replace(FEDERATION, seal=Aead(small)).check()


def test_an_outage_is_named():
    keys = source(events=(Outage("b", "KME down", first=1, last=1),))
    with pytest.raises(KeySourceError, match=r"between 'b' and 'a' gives no key: KME down, rounds 1 to 1"):
        keys.draw("b", "a", 256, "model")
    keys.begin_round(2)
    keys.draw("b", "a", 256, "model")


def test_an_event_cannot_end_before_it_begins():
    for make in (lambda: Outage("b", first=3, last=2), lambda: Eavesdropping("b", InterceptResend(), 3, 2)):
        with pytest.raises(ConfigurationError, match="expected last to be first or later; got rounds 3 to 2"):
            make()


FEDERATION = experiment(
    seal=OneTimePad(
        Scenario(
            PROTOCOL, (Eavesdropping("client-000", InterceptResend(), 2, 2), Outage("client-001", first=2, last=2))
        )
    ),
    clients=Clients(count=3, partition=IID(), failing="exclude"),
    rounds=3,
)


def test_a_federation_goes_on_without_the_clients_it_cannot_reach_safely(tmp_path):
    result = qfedfm.run(FEDERATION, tmp_path / "run", progress=False)
    assert [line["excluded"] for line in result.rounds[1:]] == [[], ["client-000", "client-001"], []]
    assert result.rounds[2]["clients"] == ["client-002"]
    sessions, left = result.key_sessions(), result.key_balances()
    assert sorted(sessions["link"].unique()) == [f"client-00{i} – server" for i in range(3)]
    assert left.groupby("round").size().to_list() == [3, 3, 3]
    used = left[left["round"] == 3].set_index("link")["drawn"].sum()
    assert used == sum(sum(entry.key_bits.values()) for entry in result.ledger.entries)
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (
        "Quantum keys",
        "protect nothing in the real world",
        "given up",
        "Excluded",
        "fibre cut, rounds 2 to 2",
    ):
        assert text in page
    assert result.plot_keys().get_ylabel() == "key left, kilobits"


def test_a_federation_that_must_reach_everybody_stops(tmp_path):
    stopping = replace(FEDERATION, clients=replace(FEDERATION.clients, quorum=2))
    with pytest.raises(QuorumError, match="round 2 needs 2 clients and 1 are left"):
        qfedfm.run(stopping, tmp_path / "run", progress=False)
    assert qfedfm.Result.load(tmp_path / "run").rounds[-1]["round"] == 1


def test_a_scenario_survives_toml():
    assert Experiment.from_toml(replace(FEDERATION, data=Experiment().data).to_toml()).seal == FEDERATION.seal


def test_the_budget_is_what_a_run_draws(tmp_path):
    result = qfedfm.run(FEDERATION, tmp_path / "run", progress=False)
    entry = next(entry for entry in result.ledger.entries if entry.client == "client-002")
    planned = budget(FEDERATION, PROTOCOL)
    assert planned.key_bits["model"] == entry.key_bits["model"]
    assert abs(planned.key_bits["update"] - entry.key_bits["update"]) <= 8 * 12  # digits of the report's numbers
    assert planned.bits_per_round == sum(planned.key_bits.values())


def test_a_budget_by_hand():
    exp = replace(FEDERATION, seal=Aead())
    planned = budget(exp, PROTOCOL)
    key = PROTOCOL.finite().length
    seconds = PROTOCOL.pulses() / 2.5e9
    assert planned.key_bits == {"model": 256, "update": 256}
    assert planned.rate == pytest.approx((key - 512) / seconds)
    assert planned.rounds_per_hour == pytest.approx(3600 * (key - 512) / seconds / 512)
    assert set(planned.alternatives) == {"25 km of fibre"}
    assert planned.alternatives["25 km of fibre"] > planned.rounds_per_hour
    assert "protect nothing" in str(planned)
    assert re.search(r"512 key bits a round and client", str(planned))


def test_a_pad_that_a_link_cannot_feed_has_no_round_an_hour():
    planned = budget(FEDERATION, PROTOCOL.at(300))
    assert planned.rounds_per_hour == 0
    assert planned.alternatives["150 km of fibre"] >= 0


def test_the_budget_plot_has_a_line_for_each_size_and_none_where_there_is_no_key():
    ax = budget(FEDERATION, PROTOCOL).plot(km=[10, 50, 300])
    labels = [line.get_label() for line in ax.get_lines()]
    assert labels[0].startswith("AES-256-GCM")
    assert sum(label.startswith("one-time pad") for label in labels) == 4
    values = np.array([line.get_ydata() for line in ax.get_lines()])
    assert np.isnan(values[:, 2]).all()
    assert (values[:, 0] > values[:, 1]).all()


def test_a_federation_runs_on_keys_that_two_kmes_deliver_from_simulated_sessions(tmp_path):
    clients = [f"client-00{i}" for i in range(3)]
    make_certificates(tmp_path, ["kme-a", "kme-b"], ["server", *clients])
    places = {"kme-a": (0, ["server"]), "kme-b": (0, clients)}
    with serve(tmp_path, places, supply=SessionSupply(PROTOCOL)) as servers:
        keys = Etsi014(
            url=servers["kme-b"].url,
            urls={"server": servers["kme-a"].url},
            certificate=tmp_path / "{sae}.pem",
            key=tmp_path / "{sae}.key",
            authority=tmp_path / "authority.pem",
        )
        made = replace(FEDERATION, seal=Aead(keys=keys), rounds=1)
        result = qfedfm.run(made, tmp_path / "run", progress=False)
    assert result.rounds[1]["clients"] == clients
    assert result.summary()["keys"] == "1536 bits, etsi014"
