"""Numbers as people read them."""

from .statistics import Interval


def number(value: float) -> str:
    """Return three significant digits, with separators from a thousand on."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def with_ends(interval: Interval) -> str:
    """Return "mean (low to high)"."""
    return f"{number(interval.mean)} ({number(interval.low)} to {number(interval.high)})"
