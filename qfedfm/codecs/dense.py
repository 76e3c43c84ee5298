"""The dense codec: every tensor as it is, and the contract that all codecs keep.

A codec turns tensors into the bytes that travel and back again. What the bytes mean (`TensorMeta`, one for each tensor)
travels beside them in the envelope's authenticated header, which holds no floats: a scale or a step size belongs in the
bytes. Dense is exact; lossy codecs keep what they left out in `state`, which the round stores by client name.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from ..declaration import declared
from ..errors import ConfigurationError, SealError
from ..params import Params, Specs

WIRE_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


class TensorMeta(NamedTuple):
    """How one tensor lies in the encoded bytes: its name, its dtype and shape there, its length in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@runtime_checkable
class Codec(Protocol):
    """Tensors to bytes and back; `name` goes into the envelope's header."""

    name: ClassVar[str]

    def encode(
        self, tensors: Params, specs: Specs, state: Params, generator: np.random.Generator
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return the bytes of the tensors that `specs` name, what they mean, and the state for the next call.

        tensors: `(*shape)` each. state: what this sender's last call returned, `{}` at first. generator: the stream for
        codecs that round at random.
        """
        ...

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return the tensors in spec order; bytes or `meta` that do not fit `specs` raise `SealError`."""
        ...


@declared
class Dense:
    """Little-endian, C order, in spec order, float32 or float64 as each spec says; nothing is lost."""

    name: ClassVar[str] = "dense"

    def encode(
        self,
        tensors: Params,
        specs: Specs,
        state: Params,
        generator: np.random.Generator,  # noqa: ARG002  (part of the contract; nothing here is random)
    ) -> tuple[bytes, tuple[TensorMeta, ...], Params]:
        """Return the bytes, their meaning and `state` untouched; tensors without a spec stay at home.

        A missing tensor, or one whose shape or dtype is not its spec's, raises `ConfigurationError`.
        """
        parts = []
        for spec in specs:
            tensor = tensors.get(spec.name)
            if tensor is None or tensor.shape != spec.shape or tensor.dtype != spec.torch_dtype:
                got = "none" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                raise ConfigurationError(
                    f"tensor '{spec.name}' should be torch.{spec.dtype} of shape {spec.shape}, got {got}: "
                    "convert it before it is encoded"
                )
            parts.append(tensor.detach().cpu().numpy().astype(WIRE_DTYPES[spec.dtype], copy=False).tobytes())
        return b"".join(parts), _layout(specs), state

    def decode(self, data: bytes, meta: Sequence[TensorMeta], specs: Specs) -> Params:
        """Return `(*shape)` tensors in spec order, in memory of their own.

        `meta` is compared with `specs`, and the lengths with `data`, before any tensor is made; what does not fit
        raises `SealError`. Values are not judged: NaN passes, and is for the round's validation to refuse.
        """
        layout = _layout(specs)
        if tuple(meta) != layout:
            raise SealError(f"the message holds {tuple(meta)!r:.300}, but the specs say {layout!r:.300}")
        total = sum(item.bytes for item in layout)
        if len(data) != total:
            raise SealError(f"the message should hold {total} bytes of tensors, got {len(data)}")
        tensors: Params = {}
        start = 0
        for spec, item in zip(specs, layout, strict=True):
            flat = np.frombuffer(data, WIRE_DTYPES[spec.dtype], spec.size, start)
            native = flat.dtype.newbyteorder("=")
            tensors[spec.name] = torch.from_numpy(flat.astype(native).reshape(spec.shape))
            start += item.bytes
        return tensors


def _layout(specs: Specs) -> tuple[TensorMeta, ...]:
    return tuple(
        TensorMeta(spec.name, spec.dtype, spec.shape, spec.size * WIRE_DTYPES[spec.dtype].itemsize) for spec in specs
    )
