"""The loss of a row: what a head's outputs are held against.

It follows from the labels, which follow from the data set's task, so a run cannot pair a loss with labels it does not
fit: classes have the cross-entropy of the outputs' softmax, numbers the squared error of the only output.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def row_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each row, shaped like `labels`.

    outputs: (*, K). labels: (*) int64 classes, whose loss is -ln softmax(outputs)[label] in nats; or (*) floating-point
    numbers, whose loss is (outputs[0] - label)^2 with K = 1.
    """
    if labels.is_floating_point():
        return (outputs.squeeze(-1) - labels).square()
    flat = cross_entropy(outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1), reduction="none")
    return flat.view(labels.shape)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return a weight for each class, (classes,): n / (k n_c) for n rows, n_c of them of the class, k classes present.

    The mean weight of a row is 1 (King and Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868); an absent class has 0.
    """
    counts = torch.bincount(labels, minlength=classes).double()
    weights = len(labels) / (counts * (counts > 0).sum())
    return torch.where(counts > 0, weights, 0.0)
