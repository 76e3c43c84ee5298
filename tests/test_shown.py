"""Figures show themselves in a notebook, without pyplot."""

import pytest
from matplotlib.figure import Figure

import qfedfm as qf
from qfedfm.figures import showing


@pytest.mark.parametrize("figure", [showing(Figure()), qf.quantum.draw(qf.quantum.load("iqp", {"n": 2}))])
def test_a_figure_shows_itself_without_pyplot(figure):
    formatter = pytest.importorskip("IPython.core.formatters").PNGFormatter()
    shown = formatter(figure)
    data = shown if isinstance(shown, bytes) else shown[0]
    assert data.startswith(b"\x89PNG")
