"""Reports: one file that fetches nothing and runs nothing, and whose command line makes the same thing again."""

import re
import shlex
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure
from tiny import arrays, experiment

from qfedfm import compare, run
from qfedfm.cli import _parser
from qfedfm.errors import RunError
from qfedfm.heads import Mlp, Variational
from qfedfm.report import Report, Section, canvas, environment_rows, svg, write

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}
HOSTILE = "<script>alert('$x_1^^$')</script>\"&"


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and checks that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def assert_self_contained(page):
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "xlink:href", "src", "srcset", "action", "data"):
            assert value.startswith("#"), (tag, name, value)
        if not name.startswith("xmlns"):
            assert "//" not in (value or ""), (tag, name, value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and two comparisons: one of the built-in twins, one of own arms with hostile names."""
    folder = tmp_path_factory.mktemp("reports")
    quantum = experiment(head=Variational("angle_ring", {"n": 2}), rounds=1)
    own = {HOSTILE: experiment(head=Mlp(hidden=(2,)), rounds=1), "probe = linear": experiment(rounds=1)}
    return {
        "run": run(experiment(data=arrays(classes=(HOSTILE, "ok"))), folder / "run", progress=False),
        "twins": compare(quantum, seeds=2, rates=[0.03, 0.1], directory=folder / "twins", progress=False),
        "own": compare(own[HOSTILE], own, seeds=2, metric="loss", directory=folder / "own", progress=False),
    }


@pytest.fixture(scope="module", params=["run", "twins", "own"])
def page(made, request):
    return Page((made[request.param].directory / "report.html").read_text(encoding="utf-8"))


def command(made, name):
    text = (made[name].directory / "report.html").read_text(encoding="utf-8")
    (line,) = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    return Page(f"<pre>{line}</pre>").text


def test_nothing_is_fetched_and_nothing_runs(page):
    assert_self_contained(page)
    assert page.tags.count("svg") == 2
    assert page.tags.count("table") >= 3


def test_every_report_says_what_it_does_not_show_and_where_it_was_made(page):
    for words in (
        "What this does not show",
        "No speed-up is claimed",
        "Run it again",
        "Environment",
        "torch",
        "Ledger",
    ):
        assert words in page.text


def test_a_run_claims_nothing_from_one_seed(made):
    text = Page((made["run"].directory / "report.html").read_text()).text
    assert "One seed has no interval and no twin stands beside it" in text
    assert f"{100 * made['run'].rounds[-1]['test']['accuracy']:.1f} %" in text
    assert str(made["run"].ledger.totals()["bytes_up"]) in text


def test_a_comparison_opens_with_its_verdicts(made):
    for name in ("twins", "own"):
        text = Page((made[name].directory / "report.html").read_text(encoding="utf-8")).text
        for sentence in made[name].verdicts:
            assert " ".join(sentence.split()) in text
        assert "TOST" in text


def test_hostile_names_stay_text(made):
    text = (made["own"].directory / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    shown = Page(text).text
    assert HOSTILE in shown
    assert shown.count("$x_1^^$") > 3  # in the figures too, as it is written


@pytest.mark.parametrize("name", ["twins", "own"])
def test_the_command_makes_the_same_comparison(made, name, tmp_path, monkeypatch):
    words = shlex.split(command(made, name))
    assert words[:2] == ["qfedfm", "compare"]
    monkeypatch.chdir(made[name].directory)
    arguments = _parser().parse_args([*words[1:], "--directory", str(tmp_path / "again")])
    arguments.command(arguments)
    again = (tmp_path / "again" / "comparison.json").read_text()
    assert again == (made[name].directory / "comparison.json").read_text()


def test_the_command_makes_the_same_run(made, tmp_path, monkeypatch):
    words = shlex.split(command(made, "run"))
    monkeypatch.chdir(made["run"].directory)
    arguments = _parser().parse_args([*words[1:], "--directory", str(tmp_path / "again")])
    arguments.command(arguments)
    assert (tmp_path / "again" / "rounds.jsonl").read_bytes() == (made["run"].directory / "rounds.jsonl").read_bytes()


def test_an_awkward_title_table_and_environment_are_escaped(tmp_path):
    frame = pd.DataFrame({HOSTILE: [HOSTILE, None], "x": [float("nan"), 0.123456]})
    sections = (Section(HOSTILE, HOSTILE, caption=HOSTILE, table=frame), Section("empty"))
    text = write(
        Report(HOSTILE, (HOSTILE,), sections, {"processor": HOSTILE}, HOSTILE, (HOSTILE,)), tmp_path / "r.html"
    ).read_text(encoding="utf-8")
    page = Page(text)
    assert_self_contained(page)
    assert "0.1235" in page.text
    assert "–" in page.text
    assert page.text.count(HOSTILE) >= 8


def test_a_figure_is_inline_and_takes_the_pages_colour():
    ax = canvas((3, 2))
    ax.plot([0, 1], label="line")
    ax.legend()
    ax.set_xlabel("<b>&")
    drawn = svg(ax, 'a "plot" of <b>&')
    page = Page(drawn)
    assert page.tags[0] == "svg"
    assert ("svg", "aria-label", 'a "plot" of <b>&') in page.attributes
    assert "<b>&" in page.text
    assert "currentColor" in drawn
    assert "#010203" not in drawn
    assert "metadata" not in page.tags
    assert svg(canvas(), "x") == svg(canvas(), "x")
    detached = Figure().subplots()
    detached.remove()
    with pytest.raises(ValueError, match="belong to no figure"):
        svg(detached, "x")


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report"):
        write(Report("t", (), (), {}, "", ()), tmp_path / "file" / "report.html")


def test_environment_leaves_out_what_is_not_there():
    rows = environment_rows({"python": "3.12", "commit": None, "cores": 2, "packages": {"torch": "2", "none": None}})
    assert rows == {"python": "3.12", "cores": "2", "packages": "torch 2"}
