"""Every way of installing the package finds the circuit library; each is done for real, in its own environment."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import qfedfm

ROOT = Path(__file__).parents[1]
CIRCUITS = {"angle_ring", "basic_entangler", "data_reuploading", "strongly_entangling"}
ASK = """
import json, qfedfm, qfedfm.quantum.library as library
print(json.dumps([list(library.names()), qfedfm.__file__]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command printed; its errors are shown when it fails. It sees no PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what there is to install: a wheel and an sdist, both built from the checkout, and the checkout itself."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", out, ROOT, cwd=out)
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz")), "checkout": ROOT}


@pytest.mark.parametrize(
    ("source", "options"),
    [("wheel", []), ("sdist", []), ("checkout", ["--editable"])],
    ids=["wheel", "sdist", "editable"],
)
def test_installed_package_finds_the_circuits(
    built: dict[str, Path], source: str, options: list[str], tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env/bin/python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # the dependencies of this environment, but not its own qfedfm: .pth files in a folder named by a .pth are not read
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    run(python, "-m", "pip", "install", *offline, *options, built[source], cwd=tmp_path)

    names, module = json.loads(run(python, "-I", "-c", ASK, cwd=tmp_path))

    assert set(names) >= CIRCUITS
    assert Path(module).is_relative_to(ROOT / "qfedfm" if options else packages)
    assert not (ROOT / "qfedfm/circuits").exists()


def test_one_version_everywhere(built: dict[str, Path]) -> None:
    assert built["wheel"].name == f"qfedfm-{qfedfm.__version__}-py3-none-any.whl"
    assert f"\nversion: {qfedfm.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_wheel_and_sdist_hold_what_they_should(built: dict[str, Path]) -> None:
    wheel = set(zipfile.ZipFile(built["wheel"]).namelist())
    with tarfile.open(built["sdist"]) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    files = [path for path in (ROOT / "qfedfm").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    package = {str(path.relative_to(ROOT)) for path in files}
    circuits = {f"circuits/{path.name}" for path in (ROOT / "circuits").iterdir()}
    metadata = {name for name in wheel if ".dist-info/" in name}

    project = {f"qfedfm/project/{path.name}" for path in (ROOT / "examples" / "project").iterdir() if path.is_file()}
    shipped = {f"qfedfm/{name}" for name in circuits} | project | {"qfedfm/papers.bib"}
    assert wheel - metadata == package | shipped
    assert "qfedfm/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    assert sdist >= package | circuits | {"LICENSE", "README.md", "pyproject.toml"}
