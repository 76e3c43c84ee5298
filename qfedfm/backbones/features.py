"""Features of a data set, computed once: a frozen backbone gives the same ones in every run.

They are cached whole, because a text's features move by about 1e-6 with the batch it is in: a run that embedded only
what is new would not repeat. The file's name is a hash of backbone, data set and layout; its content is checked when
it is read.
"""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..cache import cache_directory, write_atomically
from ..data.dataset import Dataset
from ..errors import DataError
from .backbone import Backbone
from .identity import Identity

LAYOUT = 1
logger = logging.getLogger(__name__)


def features(backbone: Backbone, dataset: Dataset, progress: bool = True) -> NDArray[np.float32]:
    """Return the backbone's features of a data set, (rows, features), from the cache if they are there.

    A damaged file is rebuilt, with a logged warning. Raises DataError where the cache cannot be written or a backbone
    gives values that are not finite.
    """
    if isinstance(backbone, Identity):
        return backbone.embed(dataset.items)
    key = hashlib.sha256(json.dumps([LAYOUT, backbone.fingerprint(), dataset.fingerprint]).encode()).hexdigest()
    path = cache_directory() / "features" / f"{key}.safetensors"
    if path.exists():
        try:
            return _read(path, key)
        except (OSError, SafetensorError, DataError) as error:
            logger.warning("cached features %s are damaged (%s) and are computed again", path, error)
    computed = backbone.embed(dataset.items, progress)
    if not np.isfinite(computed).all():
        raise DataError(f"{backbone} gave features of '{dataset.name}' that are not finite: use another model or texts")
    write_atomically(path, save({"features": computed}, metadata={"sha256": _checksum(key, computed)}))
    return computed


def _read(path: Path, key: str) -> NDArray[np.float32]:
    with safe_open(path, framework="numpy") as file:
        stored: NDArray[np.float32] = file.get_tensor("features")
        if (file.metadata() or {}).get("sha256") != _checksum(key, stored):
            raise DataError("its checksum differs")
    return stored


def _checksum(key: str, array: NDArray[np.float32]) -> str:
    header = json.dumps([key, array.dtype.str, array.shape]).encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
