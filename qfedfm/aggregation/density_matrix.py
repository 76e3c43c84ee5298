"""The density-matrix mean: one-shot prediction from models that were never averaged (qFedInf).

Not an aggregation of parameters. Clients whose labels or features barely overlap train models that have nothing in
common to average; the global answer is nevertheless an exact mixture of theirs (Zhao 2023, arXiv:2209.00768,
doi:10.1007/s42484-022-00091-z):

    P(y|x) = sum_i q_i D_i(x) P_i(y|x) / sum_j q_j D_j(x),

q_i being the client's share of rows and D_i(x) the density of its data at x. The density is estimated by the client's
mean state, rho_i = mean_r |x_r><x_r|: D_i(x) = <x|rho_i|x>, a kernel density estimate whose kernel is the fidelity of
the encoding. Each client sends its model and rho_i once.

Departures and limits: rho_i is computed exactly instead of from measured shadows; a fidelity is a broad kernel, so that
nearby clients are told apart only softly; and rho_i discloses second moments of the client's rows, which no update is
meant to do. Cost: D^2 numbers a client, n R D^2 for R rows. It beats the mean of parameters for disjoint clients; where
all clients have the same distribution it is a plain ensemble, n times as costly to evaluate as one averaged model.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ConfigurationError
from ..heads.model import Model
from ..params import Params

Encode = Callable[[Tensor], Tensor]
"""Features (R, n_features) to state vectors (R, D) of unit norm, real or complex, the same for every client."""


def amplitude_encoding(features: Tensor) -> Tensor:
    """Return |x> = (1, x) / |(1, x)|, (R, n_features + 1), real float64; the constant keeps the length of x."""
    rows = torch.cat([torch.ones(len(features), 1, dtype=torch.float64), features.double()], dim=1)
    lengths: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / lengths


def density_matrix(features: Tensor, encode: Encode = amplitude_encoding) -> Tensor:
    """Return rho = mean_r |x_r><x_r| of a client's rows (R, n_features), (D, D): Hermitian, of trace 1."""
    states = encode(features)
    if len(states) == 0:
        raise ConfigurationError("a density matrix needs one row or more; got none")
    return states.mT @ states.conj() / len(states)


def densities_at(matrices: Tensor, features: Tensor, encode: Encode = amplitude_encoding) -> Tensor:
    """Return D_i(x_r) = <x_r|rho_i|x_r>, (n, R) float64, of matrices (n, D, D) at rows (R, n_features)."""
    states = encode(features).to(matrices.dtype)
    if states.shape[1] != matrices.shape[-1]:
        raise ConfigurationError(
            f"states of {states.shape[1]} amplitudes need density matrices of that size; got {tuple(matrices.shape)}: "
            "use the encoding that the clients used"
        )
    return torch.einsum("rj,ijk,rk->ir", states.conj(), matrices, states).real.double()


def ensemble_prediction(
    model: Model,
    params: Params,
    matrices: Tensor,
    shares: Tensor,
    features: Tensor,
    encode: Encode = amplitude_encoding,
) -> Tensor:
    """Return P(y|x) of the ensemble, (R, n_outputs) float64, rows summing to one.

    params: the clients' trained models {name: (n, *shape)}. matrices: their rho_i, (n, D, D). shares: their shares of
    all rows, (n,). features: (R, n_features) to predict. Raises `ConfigurationError` where the numbers of clients
    disagree or a row has no density under any client.
    """
    counts = {len(matrices), len(shares), *(len(tensor) for tensor in params.values())}
    if len(counts) > 1:
        raise ConfigurationError(
            f"models, density matrices and shares should be of as many clients; got {sorted(counts)}"
        )
    with torch.no_grad():
        logits = model.apply(params, features.expand(len(matrices), *features.shape))
    weights = shares.double().unsqueeze(1) * densities_at(matrices, features, encode)
    total = weights.sum(0)
    if not (total > 0).all():
        raise ConfigurationError(
            f"{int((~(total > 0)).sum())} of {len(features)} rows are orthogonal to the data of every client; encode "
            "features so that states overlap"
        )
    return torch.einsum("ir,irk->rk", weights / total, logits.double().softmax(-1))
