"""The documents' Python runs: every block of every page; the long runs of README, front page and docstring are checked.

A block that begins with `# name.py` is written to that file, as the page tells its reader to do. Pages about which more
can be said than that they run have a test of their own; all others, new ones too, are run by one.
"""

import re
import shutil
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pennylane as qml
import pytest

import qfedfm
from qfedfm import Experiment

ROOT = Path(__file__).parents[1]
FILE = re.compile(r"# (\w+)\.py\n")
REVIEWS = "review,stars,shop\nfine,5,north\nbad,1,south\n"


APART = "data", "qkd", "contributions", "threats", "sweeps", "trainability", "backends", "hardware", "extending"
CHECKED = "index", "optimizers"  # only checked: their runs take minutes
PROVOKED = ("errors",)  # by test_likely_mistakes


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Work in an empty folder whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) == str(tmp_path / f"{name}.py"):
            del sys.modules[name]


def ran(page: str) -> dict[str, Any]:
    """Run a page's blocks one after another, as its reader does, and return what they defined."""
    namespace: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / f"{page}.md"):
        if file := FILE.match(block):
            Path(f"{file[1]}.py").write_text(block, encoding="utf-8")
        else:
            exec(block, namespace)
    return namespace


def pages() -> list[str]:
    """Return the pages with Python on them."""
    return sorted(page.stem for page in (ROOT / "docs").glob("*.md") if blocks(page))


def test_the_pages_that_are_not_simply_run_exist():
    assert set(pages()) >= {*APART, *CHECKED, *PROVOKED}


@pytest.mark.parametrize("page", sorted({*pages()} - {*APART, *CHECKED, *PROVOKED}))
def test_every_block_of_a_page_runs(workplace, page):
    ran(page)


def test_every_example_of_extending_runs_learns_and_can_be_opened_again(workplace):
    namespace, results = {}, []
    for block in blocks(ROOT / "docs" / "extending.md"):
        if file := FILE.match(block):
            (workplace / f"{file[1]}.py").write_text(block, encoding="utf-8")
            continue
        exec(block, namespace)
        if "result" in namespace:
            results.append(namespace.pop("result"))
    assert len(results) == 10
    for result in results:
        assert result.finished
        assert Experiment.load(result.directory / "experiment.toml").identity == result.experiment.identity
        losses = result.to_frame()["validation_loss"]
        assert losses.iloc[-1] < losses.iloc[0]


def test_every_example_of_the_page_on_data_runs(workplace):
    namespace = ran("data")
    namespace["clothes"].check()
    assert namespace["result"].finished
    assert len(namespace["result"].confusion()) == 10


def test_the_codec_of_extending_refuses_what_it_did_not_write(workplace):
    (source,) = (block for block in blocks(ROOT / "docs" / "extending.md") if block.startswith("# half.py"))
    namespace = {"__name__": "half"}
    exec(source, namespace)
    model = qfedfm.heads.Linear().bind(3, 2)
    tensors, codec = model.init(0), namespace["Half"]()
    data, meta, left = codec.encode(tensors, model.specs, {}, None)
    decoded = codec.decode(data, meta, model.specs)
    assert all((decoded[name] + left[name] == tensors[name]).all() for name in tensors)
    for wrong in [(data[:-1], meta), (data + b"\0", meta), (data, meta[:1])]:
        with pytest.raises(qfedfm.QfedfmError):
            codec.decode(*wrong, model.specs)


@pytest.fixture
def only_checked(monkeypatch):
    """Let `run` and `compare` check their experiments instead of running them; return what they were given."""
    given = []

    def take(experiment, arms=(), **options):
        for one in (experiment, *dict(arms).values()):
            one.check()
        given.append(experiment)
        return SimpleNamespace(verdict="")

    monkeypatch.setattr(qfedfm, "run", take, raising=False)
    monkeypatch.setattr(qfedfm, "compare", take, raising=False)
    return given


@pytest.mark.parametrize("page", CHECKED)
def test_every_block_of_a_page_of_long_runs_is_valid(workplace, only_checked, page):
    shutil.copytree(ROOT / "examples", workplace / "examples")
    ran(page)
    assert only_checked


def test_the_readme_is_valid(workplace, only_checked):
    (workplace / "reviews.csv").write_text(REVIEWS)
    namespace = {"qml": qml}
    for block in blocks(ROOT / "README.md"):
        exec(block, namespace)
    assert len(only_checked) == 2
    assert namespace["experiment"].data.load().classes == ("1", "5")


def test_the_packages_docstring_is_valid(only_checked):
    lines = [line for line in qfedfm.__doc__.splitlines() if line.startswith("    ")]
    exec(textwrap.dedent("\n".join(lines)), {})
    assert len(only_checked) == 1


@pytest.mark.slow
def test_every_block_of_the_page_on_quantum_keys_runs_and_does_what_it_says(workplace, capsys):
    namespace = ran("qkd")
    assert namespace["session"].ledger.delivered > 0
    assert namespace["eve"].ledger.delivered == 0
    assert [line.get("excluded") for line in namespace["result"].rounds] == [None, [], [], []]
    assert "[None, [], ['client-001'], ['client-002']]" in capsys.readouterr().out


def test_the_experiment_file_of_the_page_on_quantum_keys_is_valid():
    text = (ROOT / "docs" / "qkd.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^```toml\n(\[seal\]\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    keys = Experiment.from_toml(table).seal.keys
    keys.check()
    assert keys.source == "qkd-simulated"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "shown"), [("contributions", "client-004"), ("threats", "a period away")])
def test_the_pages_on_clients_run(workplace, capsys, page, shown):
    ran(page)
    assert shown in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_on_sweeps_runs_and_chooses(workplace, capsys):
    namespace = ran("sweeps")
    assert namespace["sweep"].best.training.optimizer.lr in (0.01, 0.03, 0.1)
    assert len(namespace["found"].points) == 6
    assert namespace["search"].best_score_ > 0.9
    assert "has the best validation accuracy" in capsys.readouterr().out


def test_the_page_on_trainability_runs_and_says_what_it_says(capsys):
    namespace = ran("trainability")
    shown = capsys.readouterr().out
    assert namespace["found"].warning is None
    assert "Plateau: at random weights a gradient of strongly_entangling (10 qubits" in shown
    assert "it falls exponentially" in shown
    assert namespace["surrogate"].dequantised
    assert namespace["scores"].shape == (1, 2)


def test_the_page_on_machines_runs(workplace, monkeypatch, capsys):
    monkeypatch.setenv("QFEDFM_CACHE", str(workplace))
    ran("backends")
    lines = capsys.readouterr().out.splitlines()
    raw, inverted, extrapolated = (float(line.split()[1].strip(",")) for line in lines[:3])
    assert raw > inverted > 0
    assert raw > extrapolated > 0
    assert [line.split(":")[0] for line in lines[3:6]] == ["forward", "SPSA", "parameter shift"]
    assert lines[-1] == "4 28 True"


def test_the_page_on_hardware_declares_what_the_example_file_does():
    namespace = ran("hardware")
    written, filed = namespace["experiment"], Experiment.load(ROOT / "examples" / "hardware.toml")
    for name in ("backend", "head", "evaluation", "rounds"):
        assert getattr(written, name) == getattr(filed, name)


def test_the_page_on_reports_runs(workplace, capsys):
    namespace = {}
    for block in blocks(ROOT / "docs" / "report.md"):
        exec(block, namespace)
    assert (namespace["result"].directory / "report.html").is_file()
    assert (workplace / "panels.pdf").is_file()
    assert r"\label{tab:run}" in capsys.readouterr().out
