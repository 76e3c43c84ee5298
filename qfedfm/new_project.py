"""`qfedfm init NAME`: a small project to start from, with an experiment, a circuit, a head and a test of one's own.

The files are those of `examples/project` in a checkout, `qfedfm/project` in an installed package, copied as they are;
the table is drawn from a formula.
"""

import csv
import shutil
from pathlib import Path

from .errors import ConfigurationError
from .seeds import stream

_HERE = Path(__file__).resolve().parent
TEMPLATES = _HERE / "project", _HERE.parent / "examples" / "project"
CLIENTS, ROWS = ("north", "east", "south"), 60


def new_project(folder: str | Path) -> list[Path]:
    """Write the project into a new folder and return its files; raise `ConfigurationError` if something is there."""
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(f"{target} exists and is not empty: choose another name")
    target.mkdir(parents=True, exist_ok=True)
    template = next(place for place in TEMPLATES if place.exists())
    for file in template.iterdir():
        if file.suffix in (".py", ".qasm", ".toml"):
            shutil.copyfile(file, target / file.name)
    _write_table(target / "data.csv")
    return sorted(target.iterdir())


def _write_table(path: Path) -> None:
    """Write made-up rows: three numbers, of class "agree" where the first two have the same sign."""
    generator = stream(0, "new-project")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["site", "a", "b", "c", "signs"])
        for site in CLIENTS:
            for a, b, c in generator.normal(size=(ROWS, 3)):
                writer.writerow([site, f"{a:.3f}", f"{b:.3f}", f"{c:.3f}", "agree" if a * b > 0 else "differ"])
