"""Draw the README's figure from a finished comparison:  .venv/bin/python docs/figures.py runs/demo-compare-..."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import qfedfm as qf


def main(directory: str) -> None:
    """Load a comparison and write docs/demo.png beside this script."""
    comparison = qf.Comparison.load(directory)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained", width_ratios=(1.15, 1))
    comparison.plot(ax=left)
    comparison.plot_differences(ax=right)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_name("demo.png"), dpi=160)


if __name__ == "__main__":
    main(sys.argv[1])
