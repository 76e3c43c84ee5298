"""Random streams: one root seed gives every purpose a stream of its own.

`stream(7, "order", "client-3", 2)` depends on its arguments alone, so adding a client, a round or a purpose disturbs no
other stream, and a resumed run needs no generator state: it asks for the same stream again. Philox is counter-based and
keyed (Salmon et al. 2011, doi:10.1145/2063384.2063405); the key is a hash of the path.
"""

import hashlib
import json

import numpy as np


def _key(root: int, path: tuple[str | int, ...]) -> int:
    text = json.dumps([int(root), *path], separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def stream(root: int, *path: str | int) -> np.random.Generator:
    """Return the NumPy generator that belongs to `path` under the seed `root`.

    root: the experiment's seed, any integer. path: purpose, client name, round, ... as strings and integers.
    """
    return np.random.Generator(np.random.Philox(key=_key(root, path)))
