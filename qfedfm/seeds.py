"""Random streams: one root seed gives every purpose a stream of its own.

`stream(7, "order", "client-3", 2)` depends on its arguments alone, so adding a client, a round or a purpose disturbs no
other stream, and a resumed run needs no generator state: it asks for the same stream again. Philox is counter-based and
keyed (Salmon et al. 2011, doi:10.1145/2063384.2063405); the key is a hash of the path.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def _key(root: int, path: tuple[str | int, ...]) -> int:
    text = json.dumps([int(root), *path], separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def stream(root: int, *path: str | int) -> np.random.Generator:
    """Return the NumPy generator that belongs to `path` under the seed `root`.

    root: the experiment's seed, any integer. path: purpose, client name, round, ... as strings and integers.
    """
    return np.random.Generator(np.random.Philox(key=_key(root, path)))


def torch_generator(root: int, *path: str | int) -> "torch.Generator":
    """Return a CPU torch generator for `path` under the seed `root`."""
    import torch  # half a second that data without torch need not wait for

    return torch.Generator().manual_seed(_key(root, path) % 2**63)
