"""Figures as inline SVG for HTML that may be light or dark: they take the page's colours.

Used by reports and by what a notebook shows of a circuit. Nothing here opens a window or needs a display.
"""

import io
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GROUND = "#010203", "#040506"
"""The colours that axes and text, and what hides a line behind it, are drawn in; replaced in the SVG by the page's."""

VIOLET = "#6d4bd8"
"""The first colour of plots, which a dark page makes lighter."""

PAGE = "var(--ground, var(--jp-layout-color0, var(--vscode-editor-background, Canvas)))"
"""The page's ground, in a report, in a notebook or anywhere else."""


def canvas(size: tuple[float, float] = (4.6, 3.2)) -> "Axes":
    """Return axes of `size` inches to draw a figure for a page in, legible on a phone."""
    from matplotlib.figure import Figure

    axes: Axes = Figure(figsize=size, layout="constrained").subplots()
    return axes


def svg(figure: "Figure", description: str) -> str:
    """Return a figure as inline SVG with a transparent ground; `description` is read aloud."""
    from matplotlib import rc_context

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
    drawn = (
        drawn[drawn.index("<svg") :]
        .replace(INK, "currentColor")
        .replace(GROUND, PAGE)
        .replace(VIOLET, f"var(--violet, {VIOLET})")
    )
    return drawn.replace("<svg ", f'<svg role="img" aria-label={quoteattr(description)} ', 1)
