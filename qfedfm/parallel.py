"""Independent pieces of torch work side by side, one thread each.

Threads within one torch operation wait for one another at its end; on cores that others use as well this can cost most
of the time (embedding: 33 texts a second against 165). Where work falls into independent pieces, each gets a thread,
and results do not depend on the number of threads.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")

_lock = Lock()
_inside: list[int] = []  # torch's own number of threads, once for each caller that is inside


def side_by_side(function: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
    """Yield function(job) for every job, in order; as many run at once as torch has threads, each using one."""
    with _single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, jobs)


@contextmanager
def _single_threaded() -> Iterator[int]:
    """Have torch use one thread an operation, and give the number it used before; the last to leave restores it."""
    import torch

    with _lock:
        threads = _inside[0] if _inside else torch.get_num_threads()
        _inside.append(threads)
        torch.set_num_threads(1)
    try:
        yield threads
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                torch.set_num_threads(threads)
