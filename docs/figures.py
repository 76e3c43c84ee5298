"""Draw the documents' figures from what was run:  .venv/bin/python docs/figures.py DIRECTORY

The README's from runs/demo-compare-..., that of docs/sweeps.md from runs/experiment-sweep-..., the first sweep there.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import qfedfm as qf


def main(directory: str) -> None:
    """Load a comparison or a sweep and write docs/demo.png or docs/sweep.png beside this script."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained", width_ratios=(1.15, 1))
    if (Path(directory) / "sweep.json").exists():
        sweep = qf.Sweep.load(directory)
        sweep.plot(sweep.fields[0], ax=left)
        sweep.plot(ax=right)
        name = "sweep.png"
    else:
        comparison = qf.Comparison.load(directory)
        comparison.plot(ax=left)
        comparison.plot_differences(ax=right)
        name = "demo.png"
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(8)
    figure.savefig(Path(__file__).with_name(name), dpi=160)


if __name__ == "__main__":
    main(sys.argv[1])
