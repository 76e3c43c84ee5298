"""Notebooks are jupytext pairs that run from top to bottom at their small setting."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def sources(notebook):
    return [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_both_halves_of_the_pair_hold_the_same_cells(script):
    pair = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    assert sources(pair) == sources(jupytext.read(script)), f"run  jupytext --sync {script}"


@pytest.mark.slow
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(script, tmp_path):
    copy = tmp_path / script.with_suffix(".ipynb").name
    copy.write_bytes(script.with_suffix(".ipynb").read_bytes())
    execute = Path(sys.executable).with_name("jupyter-execute")
    environment = os.environ | {"QFEDFM_SMOKE": "1", "PATH": f"{execute.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([execute, copy], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
