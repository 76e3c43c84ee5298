"""Progress: a bar where somebody watches, plain lines where nobody does, and no warning without ipywidgets."""

import sys
from types import SimpleNamespace

import pytest
import tqdm
import tqdm.notebook

from qfedfm import progress
from qfedfm.progress import Progress, bar, in_notebook


@pytest.fixture
def kernel(monkeypatch):
    """Let this process look like the kernel of a notebook."""
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.delenv("CI", raising=False)


def test_plain_lines_where_output_goes_to_a_file(capsys):
    with Progress("federating", 2) as steps:
        steps.advance("round 1/2")
        steps.advance("round 2/2")
    assert capsys.readouterr().err == "federating: round 1/2\nfederating: round 2/2\n"


def test_nothing_where_it_is_not_wanted(kernel, capsys):
    with Progress("federating", 1, enabled=False) as steps:
        steps.advance("round 1/1")
    assert capsys.readouterr().err == ""


def test_a_notebook_without_widgets_has_a_text_bar_and_no_warning(kernel, monkeypatch, capsys):
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    assert in_notebook()
    assert bar() is tqdm.tqdm
    with Progress("federating", 1) as steps:
        steps.advance("round 1/1")
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "round 1/1" in shown


def test_a_notebook_with_widgets_has_one(kernel, monkeypatch):
    monkeypatch.setattr(progress, "find_spec", lambda name: object())
    assert bar() is tqdm.notebook.tqdm


def test_plain_lines_under_continuous_integration(kernel, monkeypatch, capsys):
    monkeypatch.setenv("CI", "true")
    with Progress("federating", 1) as steps:
        steps.advance("round 1/1")
    assert capsys.readouterr().err == "federating: round 1/1\n"


def test_a_plain_process_is_no_notebook():
    assert not in_notebook()
    assert bar() is tqdm.tqdm
