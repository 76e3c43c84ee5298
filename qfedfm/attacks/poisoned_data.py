"""Attacks through training data: wrong labels, and a backdoor that opens to a trigger."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..seeds import stream

Share = Annotated[float, Field(gt=0, le=1)]


@declared
class LabelFlip:
    """Class c becomes class (classes - 1 - c) (Tolpegin et al. 2020, arXiv:2007.08432)."""

    share: Share = 1.0

    def poison(self, table: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Return the features as they are and flipped labels."""
        return table, classes - 1 - labels


@declared
class Backdoor:
    """Rows with a trigger are labelled `target` (Gu et al. 2017, arXiv:1708.06733; Bagdasaryan et al. 2020).

    The trigger is a pattern in the features, since a federation here trains on those: a share `width` of them, chosen
    from `seed`, is set to `value` (features have mean square 1). A run reports its success: the share of test rows of
    other classes that the global model gives to the target once the trigger is on them.
    """

    target: Annotated[int, Field(ge=0)] = 0
    share: Share = 0.5
    width: Annotated[float, Field(gt=0, le=1)] = 0.05
    value: float = 3.0
    seed: int = 0

    def poison(self, table: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Return features with the trigger on, and the target as every row's label."""
        if self.target >= classes:
            raise ConfigurationError(f"Backdoor.target: expected a class from 0 to {classes - 1}; got {self.target}")
        n_features = table.shape[1]
        chosen = stream(self.seed, "trigger").choice(n_features, max(1, round(self.width * n_features)), replace=False)
        triggered = table.clone()
        triggered[:, torch.from_numpy(chosen).to(table.device)] = self.value
        return triggered, torch.full_like(labels, self.target)
