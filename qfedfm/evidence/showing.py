"""Numbers and small tables as people read them."""

import html
from collections.abc import Mapping

from .statistics import Interval


def number(value: float) -> str:
    """Return three significant digits, with separators from a thousand on."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def with_ends(interval: Interval) -> str:
    """Return "mean (low to high)"."""
    return f"{number(interval.mean)} ({number(interval.low)} to {number(interval.high)})"


def table(caption: str, rows: Mapping[str, str]) -> str:
    """Return an HTML table of labels and texts."""
    body = "".join(
        f"<tr><th align='left'>{html.escape(label)}</th><td align='left'>{html.escape(text)}</td></tr>"
        for label, text in rows.items()
    )
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"
