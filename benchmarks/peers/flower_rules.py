"""Flower's own aggregation functions in a process of their own: JSON commands in, JSON answers out.

Run by benchmarks/aggregation.py with the Python of .venv-bench. Updates come as one .npy file (clients, entries).
"""

import json
import os
import sys
import time
import warnings
from typing import Any

import numpy as np

RULES = {
    "mean": lambda a, results, _: a.aggregate(results),
    "median": lambda a, results, _: a.aggregate_median(results),
    "trimmed mean": lambda a, results, f: a.aggregate_trimmed_avg(results, f / len(results)),
    "Krum": lambda a, results, f: a.aggregate_krum(results, f, 0),
    "Multi-Krum": lambda a, results, f: a.aggregate_krum(results, f, len(results) - f),
    "Bulyan": lambda a, results, f: a.aggregate_bulyan(list(results), f, a.aggregate_krum, to_keep=0),
}


def main() -> None:
    from flwr.server.strategy import aggregate

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes elsewhere
    held: dict[str, Any] = {}
    for line in sys.stdin:
        command = json.loads(line)
        path, rule, f, entries = command["path"], command["rule"], command["f"], command["entries"]
        if (path, entries) not in held:
            held.clear()
            held[path, entries] = [([row], 1) for row in np.load(path)[:, :entries].copy()]
        start = time.perf_counter()
        result = RULES[rule](aggregate, held[path, entries], f)
        seconds = time.perf_counter() - start
        np.save(command["out"], result[0])
        out.write(json.dumps({"seconds": seconds}) + "\n")
        out.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
