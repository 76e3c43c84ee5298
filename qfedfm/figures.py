"""Figures that show themselves in a notebook.

Notebooks show matplotlib's figures once pyplot has drawn one there; a bare `Figure`, which leaves pyplot alone, would
be a line of text until then.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def showing(figure: "Figure") -> "Figure":
    """Return `figure`, which IPython then knows how to show as a PNG."""
    drawn: Any = figure

    def png() -> bytes:
        buffer = BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight", facecolor="white")
        return buffer.getvalue()

    drawn._repr_png_ = png
    return figure
