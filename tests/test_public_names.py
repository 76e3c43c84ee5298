"""What a subpackage offers is what its `__all__` lists: nothing missing, nothing leaking, nothing unresolved."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parents[1] / "qfedfm"
SUBPACKAGES = sorted(f"qfedfm.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_all_lists_exactly_the_public_names(name: str) -> None:
    names = vars(import_module(name))
    offered = [key for key, value in names.items() if not key.startswith("_") and not isinstance(value, ModuleType)]
    assert sorted(names["__all__"]) == sorted(offered)


def test_the_package_resolves_all_it_lists() -> None:
    package = import_module("qfedfm")
    assert len(package.__all__) == len(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert set(package.__all__) <= set(dir(package))


def test_no_module_hides_a_public_function() -> None:
    # importing a submodule binds its name in the package: no module may be called like a public function
    code = (
        "import qfedfm, qfedfm.comparison, qfedfm.sweeps\n"
        "assert all(map(callable, [qfedfm.run, qfedfm.compare, qfedfm.sweep]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_every_subpackage_says_what_it_is(name: str) -> None:
    assert (import_module(name).__doc__ or "").strip()


def test_every_folder_is_a_package() -> None:
    assert {path.parent for path in PACKAGE.rglob("*.py")} == {path.parent for path in PACKAGE.rglob("__init__.py")}
