"""Evidence: what a set of seeds allows one to say."""

from .statistics import METRICS, Interval, Metric, Paired, mean_interval, paired, verdict

__all__ = ["METRICS", "Interval", "Metric", "Paired", "mean_interval", "paired", "verdict"]
