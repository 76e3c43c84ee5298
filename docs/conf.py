"""The documentation site: `make docs` builds it into docs/_build/html, warnings being errors.

Pages are the Markdown files of this folder. Reference pages are written from the package's `__all__` lists, the gallery
of notebooks from `notebooks/`; both at build time, into folders that git ignores. Notebooks are executed at their small
setting, or shown as they are where QFEDFM_DOCS_EXECUTE is "off".
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference  # noqa: E402  (beside this file)

import qfedfm  # noqa: E402

project, author, copyright = "qfedfm", "The qfedfm authors", "The qfedfm authors, Apache-2.0"
version = release = qfedfm.__version__

extensions = ["myst_nb"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

os.environ.setdefault("QFEDFM_SMOKE", "1")
nb_execution_mode = "off" if os.environ.get("QFEDFM_DOCS_EXECUTE") == "off" else "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars, each step a line of its own

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_title = f"qfedfm {version}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#5b3cc4", "color-brand-content": "#5b3cc4"},
    "dark_css_variables": {"color-brand-primary": "#b39dff", "color-brand-content": "#b39dff"},
}

reference.write(HERE / "reference")
reference.copy_notebooks(HERE.parent / "notebooks", HERE / "notebooks")


def setup(app: object) -> None:
    """Point links to notebooks, which lie beside this folder in the repository, at their copies in it."""

    def relink(_app: object, _name: str, source: list[str]) -> None:
        source[0] = source[0].replace("](../notebooks/", "](notebooks/")

    app.connect("source-read", relink)  # type: ignore[attr-defined]
