"""Per-example gradients: what each row alone would do to the parameters.

A model is a function over clients with parameters of their own. A batch becomes a cohort, one client a row, that share
parameters: one backward pass then gives the gradient of every row, for any head and circuit and without another engine.
"""

import torch
from torch import Tensor

from ..heads.losses import row_losses
from ..heads.model import Model
from ..params import Params


def per_example_gradients(
    model: Model, params: Params, features: Tensor, labels: Tensor, names: list[str], weights: Tensor | None = None
) -> tuple[Tensor, Params]:
    """Return the loss of each row (C, R) and its gradient by the parameters in `names`, {name: (C, R, *shape)}.

    params: {name: (C, *shape)}. features: (C, R, n_features). labels: (C, R). weights: of the rows' losses (C, R);
    None for 1. The loss is that of `row_losses`.
    """
    clients, rows = labels.shape
    spread = {name: tensor.detach().repeat_interleave(rows, dim=0) for name, tensor in params.items()}
    leaves = {name: spread[name].requires_grad_() for name in names}
    outputs = model.apply(spread, features.flatten(0, 1).unsqueeze(1))
    losses = row_losses(outputs.squeeze(1), labels.flatten())
    if weights is not None:
        losses = losses * weights.flatten()
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
    each = {name: grad.view(clients, rows, *grad.shape[1:]) for name, grad in zip(names, grads, strict=True)}
    return losses.detach().view(clients, rows), each
