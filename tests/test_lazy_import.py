"""`import qfedfm` and `qfedfm --help` answer before any heavy package is imported."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "pennylane", "transformers", "qiskit", "scipy", "pandas", "matplotlib"}
REPORT = "\nimport sys\nprint('IMPORTED', *sys.modules)"
HELP = """
from qfedfm.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize("code", ["import qfedfm", "import qfedfm; dir(qfedfm)", HELP], ids=["import", "dir", "help"])
def test_imports_nothing_heavy(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.rpartition("IMPORTED")[2].split())
    assert "qfedfm" in imported
    assert not imported & HEAVY
