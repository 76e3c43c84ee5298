"""The layers contract names every module, and heavy optional packages are imported inside functions."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "qfedfm").rglob("*.py"))
OPTIONAL = {
    "transformers",
    "pennylane",
    "openqasm3",
    "qiskit",
    "qiskit_aer",
    "qiskit_ibm_runtime",
    "fastapi",
    "uvicorn",
    "httpx",
    "dwave",
}
PLUGIN = {"quantum/device.py", "quantum/tape.py"}
"""Loaded by PennyLane through its entry point and by nothing else."""


def test_every_module_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = [name.strip() for layer in layers for name in layer.split("|")]
    present = {path.relative_to(ROOT / "qfedfm").parts[0].removesuffix(".py") for path in FILES}

    assert set(listed) == present - {"__init__", "__main__"}
    assert len(listed) == len(set(listed))


def test_only_pennylane_loads_its_plugin() -> None:
    importers = {"quantum.device": set(), "quantum.tape": set()}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in ("device", "tape"):
                importers[f"quantum.{node.module}"].add(path.name)
    assert importers == {"quantum.device": set(), "quantum.tape": {"device.py"}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_packages_are_imported_by_the_functions_that_need_them(path: Path) -> None:
    at_import = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            at_import |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            at_import.add(str(node.module).partition(".")[0])
    plugin = str(path.relative_to(ROOT / "qfedfm")) in PLUGIN
    assert not at_import & OPTIONAL - ({"pennylane"} if plugin else set())
