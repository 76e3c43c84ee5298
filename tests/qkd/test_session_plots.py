"""Plots of a session show the numbers of its ledger and of its channel, and nothing where a stage was not reached."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from qfedfm.qkd import InterceptResend, Ledger, run_session
from qfedfm.qkd.authentication import AuthenticationPool
from qfedfm.qkd.decoy_bb84 import DecoyBB84
from qfedfm.qkd.link import Detectors, Fibre, Link, PulsedSource
from qfedfm.qkd.session import STAGES
from qfedfm.qkd.session_plots import SAID
from qfedfm.seeds import stream

PROTOCOL = DecoyBB84(
    Link(
        channel=Fibre(km=0.0),
        detectors=Detectors(efficiency=1.0, misalignment=0.01),
        source=PulsedSource(intensities=(0.5, 0.2, 0.0), probabilities=(0.4, 0.4, 0.2)),
    ),
    eps_sec=1e-4,
    eps_cor=1e-9,
)


def run(**given):
    return run_session(PROTOCOL, 200_000, stream(1, "session"), AuthenticationPool(bytes(64)), **given)


@pytest.fixture(scope="module")
def good():
    return run()


@pytest.fixture(scope="module")
def caught():
    return run(eve=InterceptResend())


def axes():
    return Figure().subplots()


def bars(ax):
    """Return name to (start, end) of each bar, and name to its number."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    numbers = [int(text.get_text().replace(",", "").replace("\N{MINUS SIGN}", "-")) for text in ax.texts]
    return dict(zip(names, ends, strict=True)), dict(zip(names, numbers, strict=True))


def test_the_waterfall_holds_the_ledger_and_each_step_ends_where_the_next_begins(good):
    ends, numbers = bars(good.plot_ledger(axes()))
    ledger = good.ledger
    assert numbers["clicks"] == ledger.raw
    assert numbers["sifted"] == ledger.sifted
    assert numbers["test basis, made public"] == -ledger.sample
    assert numbers["reconciled"] == ledger.reconciled
    assert numbers["told in reconciliation"] == -ledger.leaked
    assert numbers["told in verification"] == -ledger.verification
    assert numbers["secret"] == ledger.secret
    assert numbers["delivered"] == ledger.delivered > 0
    assert "frames that failed" not in numbers
    left = ledger.raw
    for name, (start, end) in ends.items():
        assert end == left, name
        assert end - start == abs(numbers[name])
        left = start if numbers[name] < 0 else end
    assert left == ledger.delivered


def test_a_session_that_was_given_up_delivers_nothing_and_says_why(caught):
    ax = caught.plot_ledger(axes())
    _, numbers = bars(ax)
    assert list(numbers) == [
        "clicks", "bases that differ", "sifted", "test basis, made public", "given up", "delivered",
    ]  # fmt: skip
    assert numbers["given up"] == caught.ledger.sample - caught.ledger.sifted
    assert numbers["delivered"] == 0
    assert ax.get_title().startswith("given up: ")


def test_a_session_that_costs_more_than_it_makes_is_drawn_below_zero(good):
    poor = replace(good, ledger=replace(good.ledger, secret=200), key_alice=np.zeros(0), key_bob=np.zeros(0))
    ax = poor.plot_ledger(axes())
    ends, numbers = bars(ax)
    assert ends["authentication"] == (-312, 200)
    assert numbers["delivered"] == 0
    assert ax.get_title() == "no key to use: a net of -312 bits"
    assert ax.get_xlim()[0] <= -312


def test_a_session_without_a_click_can_be_drawn(caught):
    dark = replace(caught, ledger=Ledger(pulses=100), traffic=caught.traffic[:1], aborted="no pulse clicked")
    assert bars(dark.plot_ledger(axes()))[1] == {"delivered": 0}
    assert any(text.get_text() == "given up: no pulse clicked" for text in dark.plot_sequence(axes()).texts)


def test_the_traffic_of_the_stages_is_all_that_was_said(good):
    assert tuple(part.stage for part in good.traffic) == STAGES
    assert sum(part.messages_alice + part.messages_bob for part in good.traffic) == good.messages
    assert sum(part.bits_alice for part in good.traffic) == good.bits_alice
    assert sum(part.bits_bob for part in good.traffic) == good.bits_bob
    spoken = {part.stage: part for part in good.traffic if part.messages_alice + part.messages_bob}
    assert list(spoken) == list(SAID)
    assert (spoken["sifting"].messages_bob, spoken["sifting"].messages_alice) == (2, 1)
    assert spoken["reconciliation"].bits_alice >= good.ledger.leaked
    assert spoken["authentication"].bits_bob == 128


def test_the_sequence_names_every_message_of_every_stage(good):
    texts = [text.get_text() for text in good.plot_sequence(axes()).texts]
    assert {"Alice", "Bob", *SAID} <= set(texts)
    assert f"{good.ledger.pulses:,} pulses, of which {good.ledger.raw:,} clicked" in texts
    asked = next(part for part in good.traffic if part.stage == "reconciliation")
    assert any(text.startswith(f"questions: {asked.messages_bob:,} messages, ") for text in texts)
    assert "tag: 1 message, 128 bits" in texts
    assert texts[-1] == f"{good.ledger.delivered:,} bits of key, simulated"


def test_the_sequence_ends_where_the_session_was_given_up(caught):
    texts = [text.get_text() for text in caught.plot_sequence(axes()).texts]
    assert "estimation" in texts
    assert "reconciliation" not in texts
    assert texts[-1].startswith("given up: ")
