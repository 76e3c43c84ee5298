"""What a notebook shows: only what differs, every text escaped, and it is well-formed HTML."""

from html.parser import HTMLParser

import numpy as np
import pytest
from tiny import arrays, experiment

from qfedfm import Experiment
from qfedfm.aggregation import Krum
from qfedfm.data import IID, Assignment, Dirichlet, assign, split
from qfedfm.federation import Clients, Training
from qfedfm.heads import Variational
from qfedfm.ledger import Entry, Ledger
from qfedfm.notebook import declaration, differing, table
from qfedfm.quantum.library import load
from qfedfm.training import Adam

HOSTILE = "<script>alert('x')</script>&"


class Cells(HTMLParser):
    """Collects the text of table cells and checks that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.open, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def test_an_experiment_shows_only_what_differs():
    one = Experiment(
        head=Variational("strongly_entangling", {"n": 3, "layers": 1}),
        clients=Clients(count=4, partition=Dirichlet(alpha=0.5)),
        training=Training(optimizer=Adam(lr=0.2)),
        aggregation=Krum(f=2),
        rounds=3,
    )
    assert [*differing(one)] == [
        (0, "head", ""),
        (1, "sizes", "{'n': 3, 'layers': 1}"),
        (0, "clients", ""),
        (1, "count", "4"),
        (1, "partition", "Dirichlet"),
        (2, "alpha", "0.5"),
        (0, "training", ""),
        (1, "optimizer", ""),
        (2, "lr", "0.2"),
        (0, "aggregation", "Krum"),
        (1, "f", "2"),
        (0, "rounds", "3"),
    ]
    page = Cells(one._repr_html_())
    assert page.cells[:2] == ["head", ""]
    assert page.cells[-2:] == ["rounds", "3"]


def test_a_default_experiment_says_so():
    assert Cells(Experiment()._repr_html_()).cells == ["everything is at its default"]


def test_arrays_are_named_and_not_printed():
    shown = Cells(experiment(data=arrays(classes=(HOSTILE, "b")))._repr_html_())
    assert shown.cells[:2] == ["data", "Arrays"]
    assert len(" ".join(shown.cells)) < 400


def test_long_and_hostile_values_are_cut_and_escaped():
    shown = table(HOSTILE, {HOSTILE: HOSTILE})
    assert "<script" not in shown
    assert Cells(shown).cells == [HOSTILE, HOSTILE]
    head = Variational(load("angle_ring", {"n": 2}))
    text = declaration(experiment(head=head), HOSTILE)
    assert "<script" not in text
    assert max(map(len, Cells(text).cells)) < 250


def test_a_circuit_shows_its_drawing_and_facts():
    page = load("strongly_entangling")._repr_html_()
    assert Cells(page).tags.count("svg") == 1
    assert "4 wires, 36 gates, depth 13, 4 inputs, 24 parameters" in page
    assert "currentColor" in page
    assert "#000000" not in page


def test_an_assignment_shows_its_clients_and_stops_at_many():
    dataset = arrays().load()
    parts = split(dataset, 0, 0.2, 0.2)
    shown = Cells(assign(IID(), dataset, parts, 3, 0)._repr_html_()).cells
    assert shown == ["client-000", "30 rows", "client-001", "30 rows", "client-002", "30 rows"]
    many = Assignment(tuple(f"c{i:03}" for i in range(99)), np.arange(99))
    assert Cells(many._repr_html_()).cells[-2:] == ["…", "49 more clients"]
    assert repr(many) == "Assignment of 99 rows to 99 clients"


def test_a_ledger_shows_its_totals():
    entries = [Entry(r, c, bytes_up=1500, key_bits={"model": 256}) for r in (1, 2) for c in "ab"]
    page = Ledger(entries)._repr_html_()
    assert Cells(page).cells == ["bytes up", "6,000", "key bits", "1,024"]
    assert "2 clients, 2 rounds" in page
    assert Cells(Ledger()._repr_html_()).cells == []


@pytest.mark.parametrize("value", [np.zeros(2), [np.zeros(2)]])
def test_a_default_that_cannot_be_compared_is_shown(value):
    from dataclasses import dataclass, field

    @dataclass
    class Holder:
        values: object = field(default_factory=lambda: [np.ones(2)])

    assert [depth for depth, *_ in differing(Holder(value))] == [0]
