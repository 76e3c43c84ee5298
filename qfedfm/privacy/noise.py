"""Gaussian noise for private mechanisms.

The noise comes from a generator of the experiment's seed, so that runs repeat: here a mechanism is simulated. Whoever
knows the seed, as server and clients of a simulation all do, can take the noise off again, and the guarantee holds only
towards those who do not. A deployment draws it from the operating system's entropy, and from a sampler that is safe
against the gaps between floating-point numbers (Mironov 2012, doi:10.1145/2382196.2382264).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..params import Params


def gaussian(like: Params, std: float, generators: Sequence[np.random.Generator]) -> Params:
    """Return independent normal noise shaped as `like`, {name: (len(generators), *shape)}, row i from generator i.

    Each generator draws one vector over all parameters, in their order. Type and device are those of `like`.
    """
    sizes = [tensor[0].numel() for tensor in like.values()]
    drawn = std * np.stack([generator.standard_normal(sum(sizes)) for generator in generators])
    parts: tuple[Tensor, ...] = torch.split(torch.from_numpy(drawn), sizes, dim=1)
    return {
        name: part.reshape(tensor.shape).to(tensor) for (name, tensor), part in zip(like.items(), parts, strict=True)
    }
