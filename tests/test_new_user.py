"""What a new user types first: doctor, about, init, cite."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import qfedfm as qf
from qfedfm import installation
from qfedfm.citations import cite, papers
from qfedfm.cli import main
from qfedfm.demo import experiment as demonstration
from qfedfm.installation import SelfCheck, about, extras, self_check
from qfedfm.new_project import new_project

ROOT = Path(__file__).parents[1]


def test_the_simulator_agrees_with_pennylane_here():
    found = self_check()
    assert found.passed
    assert "agrees" in repr(found)
    assert "DISAGREES" in repr(SelfCheck(1e-3, 0, 0))


def test_the_self_check_would_notice_a_wrong_simulator(monkeypatch):
    right = qf.quantum.simulate
    monkeypatch.setattr(qf.quantum, "simulate", lambda *a: right(*a) * (1 + 1e-8))
    assert not self_check().passed


def test_about_lists_versions_extras_and_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path))
    (tmp_path / "thing").write_bytes(bytes(2**20))
    found = about()
    text = repr(found)
    assert found.cache_bytes == 2**20
    assert "1.0 MiB" in text
    assert f"{qf.__version__}" in text
    assert {"text", "kme", "qubo"} <= {extra.name for extra in found.extras}
    assert "<table>" in found._repr_html_()


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    installed = installation._installed
    monkeypatch.setattr(installation, "_installed", lambda name: name != "transformers" and installed(name))
    by_name = {extra.name: extra for extra in extras()}
    assert by_name["text"].missing == ("transformers",)
    assert by_name["text"].line == "pip install 'qfedfm[text]'"
    assert "transformers" in by_name["test"].missing  # through qfedfm[text]
    assert "missing transformers: pip install 'qfedfm[text]'" in repr(about())


def test_doctor_on_the_command_line(capsys):
    assert main(["doctor"]) == 0
    assert "self-check" in capsys.readouterr().out


@pytest.mark.slow
def test_a_new_project_passes_its_own_tests_and_runs(tmp_path, capsys):
    assert main(["init", str(tmp_path / "mine")]) == 0
    listed = capsys.readouterr().out
    for name in ("circuit.qasm", "data.csv", "experiment.toml", "head.py", "test_project.py"):
        assert str(tmp_path / "mine" / name) in listed
    environment = os.environ | {"PYTHONPATH": f"{ROOT}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path / "mine", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    result = qf.run(tmp_path / "mine" / "experiment.toml", tmp_path / "run", progress=False)
    assert result.rounds[-1]["test"]["accuracy"] > 0.7  # chance is about one half


def test_init_overwrites_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(qf.QfedfmError, match="not empty"):
        new_project(tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_cite_names_the_papers_of_each_piece_and_no_others():
    ours = replace(
        demonstration(),
        aggregation=qf.aggregation.Krum(f=1),
        clients=qf.Clients(count=20, partition=qf.Dirichlet(alpha=0.3)),
    )
    keys = set(cite(ours).entries)
    text = cite(ours).bibtex
    assert {"qfedfm", "ren2024advances"} <= keys
    for place in ("aggregation/krum.py", "data/partition.py", "heads/variational.py", "circuits/strongly_entangling"):
        assert place in text
    for place in ("aggregation/bulyan.py", "circuits/iqp", "qkd/cascade.py", "attacks/"):
        assert place not in text


def test_cite_tells_classes_of_one_module_apart():
    ours = replace(demonstration(), adversary=qf.attacks.Adversary(attack=qf.attacks.Alie(), fraction=0.2))
    text = cite(ours).bibtex
    assert "poisoned_updates.py, Alie" in text
    assert "poisoned_updates.py, MinMax" not in text


def test_cite_on_the_command_line_gives_every_entry_whole(capsys):
    assert main(["cite", str(ROOT / "examples" / "sentiment.toml")]) == 0
    text = capsys.readouterr().out
    assert text.count("{") == text.count("}")
    assert text.startswith("@software{qfedfm,")
    assert len(papers()) == (ROOT / "docs" / "papers.bib").read_text(encoding="utf-8").count("\n@")
