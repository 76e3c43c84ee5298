"""Reports: one file that fetches nothing and runs nothing, and whose command line makes the same thing again."""

import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from tiny import arrays, experiment

from qfedfm import Result, compare, run, sections, sweep
from qfedfm.backends import Exact, Shots
from qfedfm.cli import _parser
from qfedfm.data import from_arrays
from qfedfm.errors import RunError
from qfedfm.federation import Clients
from qfedfm.heads import Mlp, Variational
from qfedfm.report import Report, Section, environment_rows, picture, write
from qfedfm.svg import canvas, svg

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
    quantum = experiment(head=Variational("strongly_entangling", {"n": 2, "layers": 1}), rounds=1)
    data = arrays(classes=(HOSTILE, "ok"), clients=np.resize([HOSTILE, "second", "third"], 90))
    failing = experiment(data=data, clients=Clients(failing="exclude"), rounds=2)
    own = {HOSTILE: experiment(head=Mlp(hidden=(2,)), rounds=1), "probe = linear": experiment(rounds=1)}
    return {
        "run": run(experiment(data=arrays(classes=(HOSTILE, "ok"))), folder / "run", progress=False),
        "twins": compare(quantum, seeds=2, rates=[0.03, 0.1], directory=folder / "twins", progress=False),
        "own": compare(own[HOSTILE], own, seeds=2, metric="loss", directory=folder / "own", progress=False),
        "failing": run(failing, folder / "failing", progress=False, intervene=breaks_in_round_two),
        "numbers": run(experiment(data=numbers()), folder / "numbers", progress=False),
        "sweep": sweep(
            quantum, {"training.optimizer.lr": [0.03, 0.1]}, seeds=2, directory=folder / "sweep", progress=False
        ),
    }


def breaks_in_round_two(client, round, update):
    return (
        {name: tensor * float("nan") for name, tensor in update.items()} if (client, round) == (HOSTILE, 2) else update
    )


def numbers():
    points = np.random.default_rng(1).normal(size=(90, 3))
    return from_arrays(points, points.sum(1), task="numbers")


@pytest.fixture(scope="module", params=["run", "twins", "own", "failing", "numbers", "sweep"])
def page(made, request):
    return Page((made[request.param].directory / "report.html").read_text(encoding="utf-8"))


def command(made, name):
    text = (made[name].directory / "report.html").read_text(encoding="utf-8")
    (line,) = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    return Page(f"<pre>{line}</pre>").text


def test_nothing_is_fetched_and_nothing_runs(page):
    assert_self_contained(page)
    assert page.tags.count("svg") == page.tags.count("figure") == page.tags.count("figcaption") >= 1
    assert page.tags.count("table") >= 2
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == page.tags.count("svg")
    assert all(labels)


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
    assert f"bytes up {made['run'].ledger.totals()['bytes_up']:,}" in text


def test_a_comparison_opens_with_its_verdicts(made):
    for name in ("twins", "own"):
        assert HEADINGS | {"Statistics"} <= headings(made, name)
        text = Page((made[name].directory / "report.html").read_text(encoding="utf-8")).text
        for sentence in made[name].verdicts:
            assert " ".join(sentence.split()) in text
        assert "TOST" in text


HEADINGS = {"Learning curves", "Each client", "Confusion and calibration", "Partition", "Ledger", "Environment"}


def headings(made, name):
    text = (made[name].directory / "report.html").read_text(encoding="utf-8")
    return {Page(part).text for part in re.findall(r"<h2>.*?</h2>", text)}


def test_a_run_has_the_parts_that_fit_its_task(made):
    assert headings(made, "run") >= HEADINGS
    assert headings(made, "numbers") >= HEADINGS - {"Confusion and calibration"}
    assert "Confusion and calibration" not in headings(made, "numbers")
    assert "Circuit" not in headings(made, "run")
    assert "Excluded" not in headings(made, "run")


def test_a_circuit_is_drawn_and_its_dead_parameters_are_counted(made):
    # two qubits, one layer: RZ RY RZ on each, then CX gates, which leave the last RZ without effect on any <Z>
    for name in ("twins", "sweep"):
        text = Page((made[name].directory / "report.html").read_text(encoding="utf-8")).text
        assert re.search(r"strongly_entangling 2 \d+ .* 2 values 4 2 ", text)
        assert "(w[5])" in text


def test_a_failing_client_is_named_with_round_and_reason(made):
    text = (made["failing"].directory / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    shown = Page(text).text
    assert "1 client failed in 1 round. They were chosen" in shown
    assert re.search(rf"round client reason 2 {re.escape(HOSTILE)} .*finite", shown)
    assert made["failing"].rounds[2]["excluded"] == [HOSTILE]


def test_interruptions_and_failed_callbacks_are_told():
    events = [
        {"event": "stopped", "time": "then", "round": 1, "reason": "the lights went out", "trace": ""},
        {"event": "callback failed", "callback": "Mine", "during": "round_ended", "reason": "KeyError: 'x'"},
        {"event": "excluded", "round": 1, "client": "a", "reason": "no key"},
        {"event": "excluded", "round": 1, "client": "a", "reason": "no key, again"},
    ]
    found = {section.title: section for section in sections.failures(events)}
    assert found["Interruptions"].table["reason"].tolist() == ["the lights went out"]
    assert found["Callbacks that failed"].table["callback"].tolist() == ["Mine"]
    assert found["Excluded"].table["reason"].tolist() == ["no key, again"]  # the round was run again
    assert sections.failures([]) == ()


def test_of_many_clients_those_served_worst_are_shown():
    table = pd.DataFrame({"client": [f"c{i}" for i in range(30)], "rows": 5, "accuracy": np.arange(30) / 30})
    found = sections.clients(table.assign(rule="r", seed=0), "accuracy", table, "of all")
    assert found.table["client"].tolist() == [f"c{i}" for i in range(sections.SHOWN_CLIENTS)]
    assert "Of 30 clients, the 12 served worst" in found.text
    losses = table.rename(columns={"accuracy": "loss"})
    assert sections.clients(losses.assign(rule="r", seed=0), "loss", losses, "of all").table["client"].iloc[0] == "c29"


def test_what_ran_the_circuit_is_in_the_limits():
    circuits = sections.held(experiment(head=Variational("angle_ring", {"n": 2})))
    exact, sampled = (sections.limits(experiment(backend=backend), circuits) for backend in (Exact(), Shots(100)))
    assert any("simulated exactly" in line for line in exact)
    assert not any("simulated exactly" in line for line in sampled)
    assert any("ran on Shots(" in line for line in sampled)
    assert not any("ran on" in line or "simulated exactly" in line for line in sections.limits(experiment(), ()))


def test_a_run_of_an_early_version_has_a_report_without_what_it_did_not_keep(made, tmp_path):
    copy = Result.load(made["run"].save(tmp_path / "early"))
    (copy.directory / "partition.csv").unlink()
    assert "Partition" not in Page(copy.report().read_text(encoding="utf-8")).text
    with pytest.raises(RunError, match="kept no partition"):
        copy.partition()


def test_dark_print_and_phone_have_rules(made):
    text = (made["run"].directory / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text
    assert "var(--violet, #6d4bd8)" in text


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
    drawn = picture(canvas(), HOSTILE, HOSTILE)
    sections = (Section(HOSTILE, HOSTILE, (drawn,), frame), Section("empty"))
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
    drawn = svg(ax.figure, 'a "plot" of <b>&')
    page = Page(drawn)
    assert page.tags[0] == "svg"
    assert ("svg", "aria-label", 'a "plot" of <b>&') in page.attributes
    assert "<b>&" in page.text
    assert "currentColor" in drawn
    assert "#010203" not in drawn
    assert "metadata" not in page.tags
    assert svg(canvas().figure, "x") == svg(canvas().figure, "x")
    detached = Figure().subplots()
    detached.remove()
    with pytest.raises(ValueError, match="belong to no figure"):
        picture(detached, "x")


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report"):
        write(Report("t", (), (), {}, "", ()), tmp_path / "file" / "report.html")


def test_environment_leaves_out_what_is_not_there():
    rows = environment_rows({"python": "3.12", "commit": None, "cores": 2, "packages": {"torch": "2", "none": None}})
    assert rows == {"python": "3.12", "cores": "2", "packages": "torch 2"}
