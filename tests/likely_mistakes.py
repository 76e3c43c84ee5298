"""The mistakes that people make most, as code: what `docs/errors.md` shows and `test_likely_mistakes` provokes.

Each is a title, a snippet that runs in an empty folder with `qf`, `np` and `Path` at hand, and the error it ends in.
Run this file to write the page again.
"""

import contextlib
import io
import os
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

import qfedfm as qf

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
OPENING = """\
# Errors

The mistakes that are made most, with what qfedfm answers. Every message says what was expected, what came, and what to
do; all derive from `qf.QfedfmError`. This page is written by `tests/likely_mistakes.py`; the tests provoke every one.
"""


class Mistake(NamedTuple):
    """title: what went wrong. code: what was typed. error: the class of error, or SystemExit on the command line."""

    title: str
    code: str
    error: str = "ConfigurationError"


SMALL = """\
points, labels = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
data = qf.data.from_arrays(points, labels, clients=["north"] * 30 + ["south"] * 30)
"""
TABLE = 'Path("reviews.csv").write_text("text,label,shop\\nfine,good,a\\npoor,bad,b\\n")\n'

MISTAKES = (
    Mistake("A field that does not exist", "qf.Experiment(round=3)"),
    Mistake("A value of the wrong type", 'qf.Experiment(rounds="ten")'),
    Mistake("A class in place of an object", "qf.Experiment(aggregation=qf.aggregation.Krum)"),
    Mistake("A name in place of an object", 'qf.Experiment(aggregation="krum")'),
    Mistake(
        "Several mistakes in one file",
        'Path("e.toml").write_text(\'roundz = 3\\n[head]\\nkind = "Variationel"\\n[training]\\nbatch_size = 0\\n\')\n'
        'qf.Experiment.load("e.toml")',
    ),
    Mistake("A file that is not there", 'qf.run("experiment.toml")'),
    Mistake(
        "A column that the table does not have",
        f'{TABLE}qf.data.from_csv("reviews.csv", text="review", label="label", client="shop").load()',
    ),
    Mistake(
        "Missing numbers in a table",
        "points = np.ones((4, 2))\npoints[2, 1] = np.nan\nqf.data.from_arrays(points, [0, 1, 0, 1]).load()",
        "DataError",
    ),
    Mistake("One class only", "qf.data.from_arrays(np.ones((4, 2)), [1, 1, 1, 1]).load()", "DataError"),
    Mistake(
        "Texts without a language model",
        f'{TABLE}qf.Experiment(data=qf.data.from_csv("reviews.csv", text="text", label="label"), '
        "backbone=qf.backbones.Identity()).check()",
    ),
    Mistake(
        "A number of clients where the data decide",
        "qf.Clients(count=10, partition=qf.Natural())",
    ),
    Mistake(
        "More clients than rows allow",
        f"{SMALL}qf.run(qf.Experiment(data=data, backbone=qf.backbones.Identity(), "
        "clients=qf.Clients(count=40, partition=qf.IID())))",
    ),
    Mistake(
        "A circuit of another name",
        'qf.Experiment(head=qf.heads.Variational("strongly_entangled")).check()',
        "CircuitError",
    ),
    Mistake(
        "A size that the circuit does not have",
        'qf.Experiment(head=qf.heads.Variational("strongly_entangling", {"n": 4, "depth": 2})).check()',
        "CircuitError",
    ),
    Mistake(
        "A circuit that measures probabilities",
        "import pennylane as qml\n\ndef circuit(x):\n    qml.AngleEmbedding(x, wires=range(2))\n"
        '    return qml.probs(wires=0)\n\nqf.heads.Variational(circuit, {"x": 2}).bind(4, 2)',
        "CircuitError",
    ),
    Mistake(
        "More qubits than can be simulated",
        'qf.Experiment(head=qf.heads.Variational("strongly_entangling", {"n": 24, "layers": 1})).check()',
        "CircuitError",
    ),
    Mistake(
        "A robust rule with too few clients",
        f"{SMALL}qf.run(qf.Experiment(data=data, backbone=qf.backbones.Identity(), head=qf.heads.Linear(), "
        "aggregation=qf.aggregation.Krum(f=1)), progress=False)",
    ),
    Mistake(
        "A learning rate that makes training diverge",
        f"{SMALL}sgd = qf.training.Sgd(lr=1e38, momentum=0.9)\n"
        "qf.run(qf.Experiment(data=data, backbone=qf.backbones.Identity(), head=qf.heads.Linear(), "
        "training=qf.Training(optimizer=sgd, epochs=30)), progress=False)",
        "UpdateError",
    ),
    Mistake(
        "A directory that is used already",
        f"{SMALL}tiny = qf.Experiment(data=data, backbone=qf.backbones.Identity(), head=qf.heads.Linear(), rounds=1)\n"
        'qf.run(tiny, "mine", progress=False)\nqf.run(tiny, "mine", progress=False)',
        "RunError",
    ),
    Mistake(
        "Resuming another experiment",
        f"{SMALL}tiny = qf.Experiment(data=data, backbone=qf.backbones.Identity(), head=qf.heads.Linear(), rounds=1)\n"
        'qf.run(tiny, "mine", progress=False)\n'
        "from dataclasses import replace\n"
        'qf.run(replace(tiny, rounds=2), "mine", resume=True)',
        "RunError",
    ),
    Mistake("An arm without a twin", "qf.compare(qf.Experiment(), {'alone': qf.Experiment()})"),
    Mistake(
        "A GPU that is not there",
        'qf.Experiment(device="cuda:7").check()',
    ),
    Mistake(
        "A one-time pad on pre-shared keys",
        "qf.seal.OneTimePad(keys=qf.qkd.PresharedKeys())",
    ),
    Mistake(
        "A kernel head on a machine with shots",
        f"{SMALL}qf.Experiment(data=data, backbone=qf.backbones.Identity(), head=qf.heads.Kernel('iqp'), "
        "backend=qf.backends.Shots(1024)).check()",
    ),
    Mistake(
        "A head defined in a notebook",
        "from qfedfm.declaration import declared\n\n@declared\nclass Mine:\n"
        "    def bind(self, n_features, n_outputs):\n"
        "        return qf.heads.Linear().bind(n_features, n_outputs)\n\nqf.Experiment(head=Mine()).to_toml()",
    ),
)


def provoke(mistake: Mistake) -> BaseException:
    """Run a snippet in a new folder and return what it raised."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        os.chdir(folder)
        try:
            exec(mistake.code, {"qf": qf, "np": np, "Path": Path, "__name__": "__main__"})
        except Exception as error:  # noqa: BLE001
            return error
        finally:
            os.chdir(here)
    raise AssertionError(f"'{mistake.title}' raises nothing")


def page() -> str:
    """Return the page."""
    parts = [OPENING]
    for mistake in MISTAKES:
        error = provoke(mistake)
        said = textwrap.indent(str(error), "    ")
        parts.append(f"## {mistake.title}\n\n```python\n{mistake.code}\n```\n\n`{type(error).__name__}`\n\n{said}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
