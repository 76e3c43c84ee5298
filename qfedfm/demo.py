"""The demonstration: four real text domains as twenty clients, a quantum head and its two classical twins."""

from pathlib import Path

from .comparison import Comparison, compare
from .data import NaturalSplit, Sentiment
from .experiment import Experiment
from .federation import Clients, Training
from .heads import Variational
from .training import Adam

RATES = (0.003, 0.01, 0.03, 0.1)


def experiment(smoke: bool = False) -> Experiment:
    """Return the demonstration's experiment; `smoke` makes it small enough for a test."""
    return Experiment(
        name="demo",
        data=Sentiment(per_domain=120 if smoke else 600),
        head=Variational("strongly_entangling", {"n": 4, "layers": 2}),
        clients=Clients(count=8 if smoke else 20, partition=NaturalSplit(), min_rows=4),
        training=Training(optimizer=Adam(lr=0.01), batch_size=16, epochs=2),
        rounds=2 if smoke else 15,
        seed=1,
    )


def demo(smoke: bool = False, directory: Path | None = None, resume: bool = False) -> Comparison:
    """Run the demonstration, 10 seeds (2 for `smoke`), and write its report."""
    return compare(experiment(smoke), seeds=2 if smoke else 10, rates=RATES, directory=directory, resume=resume)
