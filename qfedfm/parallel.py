"""Independent pieces of torch work side by side, one thread each.

Threads within one torch operation wait for one another at its end; on cores that others use as well this can cost most
of the time (embedding: 33 texts a second against 165). Where work falls into independent pieces, each gets a thread,
and results do not depend on the number of threads.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")


def side_by_side(function: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
    """Yield function(job) for every job, in order; as many run at once as torch has threads, each using one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(function, jobs)
    finally:
        torch.set_num_threads(threads)
