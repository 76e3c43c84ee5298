"""Reports: one self-contained HTML file, readable offline, in light and dark, on paper.

Figures are inline SVG whose text and axes take the page's colour. Nothing is fetched, no script runs.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache import write_atomically
from .errors import DataError, RunError

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template
    from matplotlib.axes import Axes

LIMITS = (
    "One data set, one partition and one backbone: another task may turn out otherwise.",
    "The circuit is simulated exactly, without noise or shots: a real machine has both, and takes far longer.",
    "No speed-up is claimed: a circuit of this size is easily simulated by a classical computer.",
    "The server sees every update in clear after opening it; sealing protects the links only.",
)
"""What no result of this version shows, whatever it says."""

INK = "#010203"
"""The colour that axes and text are drawn in, replaced in the SVG by the page's own."""


@dataclass(frozen=True)
class Section:
    """A headed part of a report: a text, a figure (SVG, see `svg`), a table; each may be missing."""

    title: str
    text: str = ""
    figure: str = ""
    caption: str = ""
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


def canvas(size: tuple[float, float] = (6.4, 3.6)) -> "Axes":
    """Return axes of `size` inches to draw a report's figure in, which needs no display and opens no window."""
    from matplotlib.figure import Figure

    axes: Axes = Figure(figsize=size, layout="constrained").subplots()
    return axes


def svg(ax: "Axes", description: str) -> str:
    """Return the figure of `ax` as inline SVG with a transparent ground; `description` is read aloud."""
    from matplotlib import rc_context

    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure")
    for axes in figure.axes:
        axes.tick_params(colors=INK, which="both")
        for item in (axes.xaxis.label, axes.yaxis.label, axes.title):
            item.set_color(INK)
        for side, spine in axes.spines.items():
            spine.set_color(INK)
            spine.set_visible(side in ("left", "bottom"))
        legend = axes.get_legend()
        for text in legend.get_texts() if legend else ():
            text.set_color(INK)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "qfedfm", "font.family": "sans-serif"}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{_attribute(description)}" ', 1)


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


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


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
