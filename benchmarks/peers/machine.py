"""What this machine can do at its best, which no simulator can pass.

Run as `python -m peers.machine`; prints one JSON object. gemm: real floating-point operations a second in complex64
matrix products (8 for each complex multiplication with addition), 512 x 512. triad: bytes a second of a = b + s c over
float32 arrays far larger than the caches, 12 bytes an entry (McCalpin's STREAM). Best of many, on one and two threads.
"""

import json
import time
from collections.abc import Callable

import torch


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Return the least seconds of one call, over all thread counts."""
    best = float("inf")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    a, b = torch.randn(2, 512, 512, dtype=torch.complex64)
    product = torch.empty_like(a)
    x, y, z = torch.randn(3, 2**24)
    gemm = 8 * 512**3 / fastest(lambda: torch.mm(a, b, out=product), 20)
    triad = 12 * 2**24 / fastest(lambda: torch.add(x, y, alpha=1.5, out=z), 10)
    print(json.dumps({"gemm": gemm, "triad": triad}))


if __name__ == "__main__":
    main()
