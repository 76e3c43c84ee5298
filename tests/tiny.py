"""A task so small that a whole federation runs in a fraction of a second: two overlapping clouds of points."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qfedfm.backbones import Identity
from qfedfm.data import IID, Arrays, from_arrays
from qfedfm.errors import ClientError
from qfedfm.experiment import Experiment
from qfedfm.federation import Clients, Training
from qfedfm.heads import Linear
from qfedfm.params import Params
from qfedfm.result import Result
from qfedfm.runs import run
from qfedfm.training import Adam


def arrays(rows: int = 90, features: int = 3, shift: float = 1.5, **columns: Any) -> Arrays:
    """Return two classes of Gaussian points whose means lie `shift` apart in every feature."""
    generator = np.random.default_rng(5)
    labels = np.arange(rows) % 2
    points = generator.normal(size=(rows, features)) + shift * labels[:, None]
    return from_arrays(points, labels, **({"classes": ("low", "high")} | columns))


def experiment(**changes: Any) -> Experiment:
    """Return an experiment on those arrays: three clients, two rounds, a linear head."""
    given: dict[str, Any] = {
        "data": arrays(),
        "backbone": Identity(),
        "head": Linear(),
        "clients": Clients(count=3, partition=IID()),
        "training": Training(optimizer=Adam(lr=0.05), batch_size=8),
        "rounds": 2,
        "seed": 3,
        "name": "tiny",
    }
    return Experiment(**given | changes)


def cut_short(ours: Experiment, folder: Path, round: int) -> Result:
    """Run an experiment until its clients fail in `round`, then resume it; return how it ended."""

    def stop(client: str, number: int, delta: Params) -> Params:
        if number == round:
            raise RuntimeError("power cut")
        return delta

    with pytest.raises(ClientError, match="power cut"):
        run(ours, folder, progress=False, intervene=stop)
    return run(ours, folder, resume=True, progress=False)
