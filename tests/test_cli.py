"""The command line: every command on tiny data, its mistakes, and what it returns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import experiment

from qfedfm import __version__
from qfedfm.cli import _parser, main
from qfedfm.heads import Variational
from qfedfm.records import EVENTS

COMMANDS = ("demo", "run", "check", "compare", "sweep", "report", "qkd", "kme")
MISTAKES = """
roundz = 3
[training]
batch_size = "many"
[head]
kind = "Variationel"
[training.optimizer]
kind = "Adam"
learning_rate = 0.1
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return an experiment file in the working directory."""
    monkeypatch.chdir(tmp_path)
    return experiment(head=Variational("angle_ring", {"n": 2})).save(tmp_path).name


def test_run_prints_the_result_and_where_the_report_is(file, capsys):
    assert main(["run", file, "--directory", "out", "--set", "rounds=1"]) == 0
    shown = capsys.readouterr()
    assert "1 of 1" in shown.out
    assert "out/report.html" in shown.out
    assert "round 1/1" in shown.err
    assert Path("out/report.html").exists()


def test_run_resumes(file, capsys):
    assert main(["run", file, "--directory", "out", "--resume"]) == 0
    before = Path("out", EVENTS).read_text()
    assert main(["run", file, "--directory", "out", "--resume"]) == 0
    assert Path("out", EVENTS).read_text() == before
    assert main(["run", file, "--directory", "out"]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert main(["run", file, "--directory", "out", "--resume", "--set", "seed=9"]) == 1
    assert "belongs to another experiment" in capsys.readouterr().err


def test_check_reads_without_running(file, capsys):
    assert main(["check", file]) == 0
    assert capsys.readouterr().out.startswith("experiment.toml: a valid experiment")
    assert main(["check", file, "--set", "head={kind='Variational', circuit='no_such'}"]) == 1
    assert "circuit 'no_such' is not in the library" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["data.safetensors", "experiment.toml"]


def test_check_tells_of_a_plateau_before_anything_is_paid(file, capsys):
    wide = "head={kind='Variational', circuit='strongly_entangling', sizes={n=8, layers=4}}"
    for shots, told in ((16, True), (100_000, False)):
        assert main(["check", file, "--set", wide, "--set", f"backend={{kind='Shots', shots={shots}}}"]) == 0
        assert ("Plateau: " in capsys.readouterr().out) == told


def test_four_mistakes_show_four_errors(tmp_path, capsys):
    (tmp_path / "e.toml").write_text(MISTAKES)
    for command in ("check", "run", "compare"):
        assert main([command, str(tmp_path / "e.toml")]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 5
        assert all(line.startswith("qfedfm: ") for line in lines)
        assert lines[-1] == "qfedfm: 4 mistakes"
        text = "\n".join(lines)
        for part in (
            "[experiment]",
            "'rounds'?",
            "[training]",
            "batch_size",
            "[head]",
            "'Variational'?",
            "[training.o",
        ):
            assert part in text
    assert [path.name for path in tmp_path.iterdir()] == ["e.toml"]


def test_compare_and_report(file, capsys):
    words = ["compare", file, "--seeds", "2", "--rates", "0.05", "0.1", "--margin", "0.1", "--directory", "c"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "quantum head" in shown
    assert "margin of 10 points" in shown
    assert main(words) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert capsys.readouterr().out == shown
    Path("c/report.html").unlink()
    assert main(["report", "c"]) == 0
    assert "quantum head" in capsys.readouterr().out
    assert Path("c/report.html").exists()


def test_report_of_a_run(file, capsys):
    assert main(["run", file, "--directory", "out", "--set", "rounds=1"]) == 0
    Path("out/report.html").unlink()
    capsys.readouterr()
    assert main(["report", "out"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert Path("out/report.html").exists()
    assert main(["report", "."]) == 1
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_compare_takes_arms_of_ones_own(file, capsys):
    Path("linear").mkdir()
    experiment().save(Path("linear"))
    words = ["compare", file, "--seeds", "1", "--rates", "0.1", "--metric", "loss", "--directory", "c"]
    assert main([*words, "--arm", f"circuit={file}", "--arm", "a=b=linear/experiment.toml"]) == 0
    assert "on circuit against a=b in loss from one seed" in capsys.readouterr().out
    assert main([*words[:-1], "d", "--arm", f"only={file}"]) == 1
    assert "at least one twin" in capsys.readouterr().err


def test_interrupted_it_says_how_to_go_on(file, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("qfedfm.runs.run_round", interrupt)
    assert main(["run", file, "--directory", "out"]) == 130
    assert "--resume goes on from the last round" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["runn"],
        ["run"],
        ["run", "a.toml", "--rounds", "3"],
        ["compare", "a.toml", "--seeds", "many"],
        ["compare", "a.toml", "--arm", "no-file"],
    ],
)
def test_a_wrong_command_line_is_status_two(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: qfedfm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "none.toml"], "cannot read the experiment file none.toml"),
        (["check", "none.toml"], "cannot read the experiment file none.toml"),
        (["compare", "none.toml"], "cannot read the experiment file none.toml"),
        (["report", "none"], "none is not a run directory"),
        (["run", "experiment.toml", "--set", "rounds"], "--set 'rounds': expected section.key=value"),
        (["compare", "experiment.toml", "--seeds", "0"], "seeds: expected a whole number of at least 1"),
        (["compare", "experiment.toml", "--metric", "f2"], "metric: expected one of accuracy, loss"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(file, arguments, expected, capsys):
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qfedfm: ")
    assert expected in line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: qfedfm {command}" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_demo_takes_a_directory_and_resumes():
    arguments = _parser().parse_args(["demo", "--smoke", "--directory", "d", "--resume"])
    assert (arguments.smoke, arguments.directory, arguments.resume) == (True, Path("d"), True)


@pytest.mark.slow
def test_the_installed_command_works_without_a_display_and_finds_classes_beside_it(tmp_path):
    (tmp_path / "my_heads.py").write_text(
        "from qfedfm.declaration import declared\n"
        "from qfedfm.heads import Linear\n"
        "@declared\n"
        "class Mine:\n"
        "    width: int = 1\n"
        "    def bind(self, n_features, n_outputs):\n"
        "        return Linear().bind(n_features, n_outputs)\n"
    )
    experiment(rounds=1).save(tmp_path)
    script = Path(sys.executable).with_name("qfedfm")
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [script, "run", "experiment.toml", "--set", "head={kind='my_heads:Mine', width=2}", "--directory", "out"],
        cwd=tmp_path,
        env=environment | {"MPLBACKEND": "tkagg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    report = [script, "report", tmp_path / "out"]
    assert subprocess.run(report, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    elsewhere = subprocess.run(report, cwd="/", env=environment, capture_output=True, text=True)
    assert "run from the folder that holds my_heads.py" in elsewhere.stderr
    assert 'kind = "my_heads:Mine"' in (tmp_path / "out" / "experiment.toml").read_text(encoding="utf-8")
