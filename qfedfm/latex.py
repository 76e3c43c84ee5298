"""Tables for papers: LaTeX with booktabs, every text escaped, intervals in brackets."""

import math
from collections.abc import Sequence
from typing import Any

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "²": r"\textsuperscript{2}",
}


def escape(text: str) -> str:
    """Return a text that LaTeX prints as it is, in one line."""
    return "".join(ESCAPES.get(c, c) for c in " ".join(text.split()))


def interval(mean: float, low: float, high: float, digits: int = 3) -> str:
    """Return "0.812 [0.790, 0.834]"; the mean alone where there is no interval, a dash where there is no mean."""
    if not math.isfinite(mean):
        return "–"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str, label: str | None = None) -> str:
    r"""Return a `table` with a booktabs `tabular`; it needs \usepackage{booktabs}.

    rows: texts, whole numbers, or numbers, which get four significant digits. A column is left-aligned if a text
    stands in it that does not begin with a digit. label: for \ref.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    sides = "".join("l" if any(_is_text(row[i]) for row in cells) else "r" for i in range(len(columns)))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        *([rf"\label{{{label}}}"] if label else []),
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        _line(columns),
        r"\midrule",
        *map(_line, cells),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    line = " & ".join(map(escape, cells))
    return (rf"{{}}{line}" if line.startswith(("[", "*")) else line) + r" \\"  # \\ and \toprule take [...] and *


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_text(cell: str) -> bool:
    return not cell.lstrip("+-")[:1].isdigit() and cell not in ("", "–")
