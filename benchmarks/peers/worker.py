"""One library in a process of its own, driven line by line: JSON commands in, JSON answers out.

Run as `python -m peers.worker NAME` from benchmarks/. Commands are the functions of `COMMANDS`; an answer is what they
return, or {"error": text}. Times are wall seconds.
"""

import importlib
import json
import os
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np

from . import ALL
from .problem import Call, draw

_call: Call


def build(name: str, size: list[int], clients: int, precision: str) -> dict[str, float]:
    """Make the problem and call it twice: `first` holds lowering and compilation, `again` does not."""
    global _call
    peer = ALL[name]
    module = importlib.import_module(f".{peer.module}", __package__)
    before = _peak()
    start = time.perf_counter()
    _call = module.build(draw(*size, clients, precision), **peer.settings)
    _call()
    middle = time.perf_counter()
    _call()
    return {
        "first": middle - start,
        "again": time.perf_counter() - middle,
        "imported_mib": before,
        "peak_mib": _peak(),
    }


def save(path: str) -> dict[str, float]:
    """Write values and gradients."""
    np.savez(path, *map(np.asarray, _call()))
    return {}


def compare(path: str) -> dict[str, float]:
    """Return the largest difference to what `save` wrote, in units of each array's largest entry, at least 1.

    Only as many clients as this problem has are compared.
    """
    expected = np.load(path)
    worst = 0.0
    for got, name in zip(_call(), expected.files, strict=True):
        wanted = expected[name][: len(got)]
        worst = max(worst, float(np.abs(np.asarray(got) - wanted).max() / max(1, np.abs(wanted).max())))
    return {"error_size": worst}


def measure(repeats: int) -> dict[str, list[float]]:
    """Return the time of each of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        _call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


COMMANDS: dict[str, Any] = {"build": build, "save": save, "compare": compare, "measure": measure}


def main() -> None:
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with answers
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = COMMANDS[command.pop("do")](**command)
        except Exception as error:  # noqa: BLE001  (whatever a library raises is its answer)
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
