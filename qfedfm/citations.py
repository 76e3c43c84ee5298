"""What to cite: the papers behind every method that an experiment uses, as BibTeX.

`docs/papers.bib` says in the note of each entry which module, or which circuit of the library, the paper stands behind;
the pieces of an experiment lead to their modules. The file is shipped inside the wheel.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from .errors import ConfigurationError
from .experiment import Experiment, pieces
from .heads import HoldsCircuit

SURVEY = "ren2024advances"
ALWAYS = ("seeds.py", "evidence/statistics.py")  # what every run and comparison rests on
_ENTRY = re.compile(r"^@\w+\{([^,]+),.*?^\}", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"note=\{(.*?)\}\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Citations:
    """BibTeX entries by key, the package itself first."""

    entries: dict[str, str]

    @property
    def bibtex(self) -> str:
        """All entries, as one BibTeX file."""
        return "\n".join(self.entries.values()) + "\n"

    def __repr__(self) -> str:
        return self.bibtex

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.bibtex)}</pre>"


def cite(experiment: Experiment | str | Path | None = None) -> Citations:
    """Return what to cite for an experiment, or for qfedfm alone.

    For each declared piece the papers of its module (those that name one class of it, if it is another one, left out),
    for a circuit of the library its own, and those behind seeds and statistics.
    """
    own = (
        f"@software{{qfedfm,\n  title={{qfedfm: federated foundation models with quantum parts}},\n"
        f"  author={{{{The qfedfm authors}}}},\n  version={{{version('qfedfm')}}},\n  license={{Apache-2.0}}\n}}"
    )
    known = papers()
    entries = {"qfedfm": own, SURVEY: known[SURVEY]}
    if experiment is None:
        return Citations(entries)
    wanted = list(_places(Experiment.of(experiment)))
    for key, entry in known.items():
        note = _NOTE.search(entry)
        if note and any(_stands_behind(note[1], place, name) for place, name in wanted):
            entries[key] = entry
    return Citations(entries)


def _places(experiment: Experiment) -> Iterable[tuple[str, str]]:
    """Yield module paths such as "aggregation/krum.py", each with the name of the class that is used from it."""
    yield from ((place, "") for place in ALWAYS)
    for piece in pieces(experiment):
        module = type(piece).__module__
        if module.startswith("qfedfm."):
            yield module.removeprefix("qfedfm.").replace(".", "/") + ".py", type(piece).__name__
        if isinstance(piece, HoldsCircuit) and isinstance(piece.circuit, str):
            yield f"circuits/{piece.circuit}", ""


def _stands_behind(note: str, place: str, name: str) -> bool:
    """Whether a note names a module, or its folder, and no other class of it than `name`."""
    folder, _, file = place.rpartition("/")
    parts = [part.strip() for part in re.split(r"[;,]", note)]
    classes = [part for part in parts if re.fullmatch(r"[A-Z]\w+", part)]
    named = any(
        re.search(rf"(^|\s){re.escape(place)}$", part) or part in (f"{folder}/", file if folder in note else place)
        for part in parts
    )
    return named and (not classes or not name or name in classes)


@lru_cache(maxsize=1)
def papers() -> dict[str, str]:
    """Return every entry of the bibliography by its key."""
    here = Path(__file__).resolve().parent
    for file in (here / "papers.bib", here.parent / "docs" / "papers.bib"):
        if file.exists():
            return {match[1]: match[0] for match in _ENTRY.finditer(file.read_text(encoding="utf-8"))}
    raise ConfigurationError("papers.bib is not part of this installation: install qfedfm again")
