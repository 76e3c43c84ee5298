"""The classical twin of a quantum kernel head: the same projection, landmarks and read-out, a Gaussian kernel.

Quantum kernels whose bandwidth is tuned come close to Gaussian ones (Florez-Ablan et al. 2025, arXiv:2503.05602), so
this is what one has to beat.
"""

import math

from scipy.optimize import brentq
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from .kernel import Kernel, gaussian
from .model import Model
from .nystroem import Similarity, kernel_model


@declared
class Rbf:
    """The head `of` with k(x, y) = exp(-gamma |x - y|^2) of the angles in place of the circuit's kernel.

    gamma: None makes the kernel's mean over pairs of landmarks equal to the quantum kernel's, so that the two differ in
    shape and not in width.
    """

    of: Kernel = Kernel()
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.gamma is not None and not 0 < self.gamma < math.inf:
            raise ConfigurationError(f"Rbf.gamma: expected a positive number or None; got {self.gamma}")

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model, with the parameters of the head's own."""
        circuit = self.of.resolve()
        encode = self.of.encoding(circuit, n_features)
        gamma = self.gamma or matched_gamma(encode.landmarks, self.of.similarity(circuit).gram(encode.landmarks))
        row_bytes = 8 * encode.landmarks.numel()
        return kernel_model(Similarity(lambda angles: angles, gaussian(gamma), row_bytes), encode, n_outputs, None)


def matched_gamma(points: Tensor, gram: Tensor) -> float:
    """Return the gamma for which exp(-gamma |x - y|^2) has the mean of `gram` over all pairs of different points.

    points: (m, n). gram: (m, m). Raises `ConfigurationError` where there is none: fewer than two points, points that
    coincide, or a mean outside (0, 1).
    """
    pairs = ~gram.new_ones(gram.shape).triu().bool()
    distances = (points.unsqueeze(1) - points).square().sum(-1)[pairs]
    mean = float(gram[pairs].mean()) if pairs.any() else 0.0
    if not (0 < mean < 1 and distances.min() > 0):
        raise ConfigurationError(
            f"Rbf.gamma: no width fits {len(points)} landmarks of mean similarity {mean:g} (it takes two or more "
            "different ones, and a similarity between 0 and 1); give gamma"
        )
    widest = -2 * math.log(mean) / float(distances.min())  # every term is below the mean there
    return float(brentq(lambda gamma: float((-gamma * distances).exp().mean()) - mean, 0.0, widest))
