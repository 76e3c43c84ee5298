"""Reports: one self-contained HTML file, readable offline, in light and dark, on paper.

Figures are inline SVG whose text and axes take the page's colour. Nothing is fetched, no script runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache import write_atomically
from .errors import DataError, RunError
from .svg import svg

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template
    from matplotlib.axes import Axes

REM, WIDE = 6.6, 3.75  # of a page for each inch of a figure, and of a wide one, whose letters are larger


@dataclass(frozen=True)
class Picture:
    """A figure of a report: SVG, caption, and the width it has at most, in rem; see `picture`.

    wide: it is not shrunk, and a narrow page scrolls it sideways.
    """

    svg: str
    caption: str
    width: float
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A headed part of a report: a text, pictures side by side where there is room, a table; each may be missing."""

    title: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    table: "pd.DataFrame | None" = None


@dataclass(frozen=True)
class Report:
    """What a report says, from top to bottom.

    verdicts: its first sentences. sections: in order. environment: label to text. rerun: the command that makes the
    same run. limits: what this report does not show.
    """

    title: str
    verdicts: tuple[str, ...]
    sections: tuple[Section, ...]
    environment: Mapping[str, str]
    rerun: str
    limits: tuple[str, ...]


def picture(ax: "Axes", description: str, caption: str = "", wide: bool = False) -> Picture:
    """Return the figure of `ax` for a report; its title becomes the caption, where a narrow page can break it.

    wide: keep it at its size and let a narrow page scroll sideways. Raises `ValueError` for axes without a figure.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure")
    title = ax.get_title().replace(r"\$", "$")
    ax.set_title("")
    words = " ".join(f"{text[0].upper()}{text[1:].rstrip('.')}." for text in (caption, title) if text)
    return Picture(svg(figure, description), words, figure.get_figwidth() * (WIDE if wide else REM), wide)


def write(report: Report, path: Path) -> Path:
    """Render a report to `path` and return it; raise `RunError` if it cannot be written."""
    from markupsafe import Markup

    page = _template().render(report=report, table=lambda frame: Markup(_table(frame)), safe=Markup)
    try:
        write_atomically(path, page.encode())
    except DataError as error:
        raise RunError(f"cannot write the report {path}: {error.__cause__}") from error
    return path


def environment_rows(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return an environment as label and text; packages that are not installed are left out."""
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    return {label: str(value) for label, value in environment.items() if value is not None} | {"packages": packages}


def _table(frame: "pd.DataFrame") -> str:
    """Return a frame as HTML with escaped cells, numbers at a readable precision."""
    return frame.to_html(
        index=False, border=0, escape=True, justify="left", na_rep="–", float_format=lambda x: f"{x:.4g}"
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("qfedfm", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
