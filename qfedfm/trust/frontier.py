"""The fairness frontier: what rules give the average client, and what they give those that are served worst.

By default q-FFL (Li et al. 2020, arXiv:1905.10497) at several q. Each rule and seed is a federation of its own,
rehearsed without links (see `federation.rehearsal`); the clients of all train as one cohort.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from .. import plots
from ..aggregation import Aggregator, QFedAvg
from ..assembly import bind, federate, prepare
from ..errors import ConfigurationError
from ..evidence import METRICS, fairness
from ..experiment import Experiment
from ..federation.rehearsal import rehearse
from ..measuring import measure
from ..progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Q = (0.0, 0.1, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Frontier:
    """What every client got; frame: columns rule, seed, client, rows, accuracy, loss, of the last round's test rows."""

    frame: "pd.DataFrame"

    def by_seed(self, metric: str = "accuracy") -> "pd.DataFrame":
        """Return mean, spread, worst_decile, best_decile and worst over clients, of each rule and seed."""
        import pandas as pd

        better = METRICS[metric].higher_is_better
        return pd.DataFrame(
            [
                {"rule": rule, "seed": seed, **asdict(fairness(rows[metric], better))}
                for (rule, seed), rows in self.frame.groupby(["rule", "seed"], sort=False)
            ]
        )

    def table(self, metric: str = "accuracy") -> "pd.DataFrame":
        """Return the mean over seeds of each column of `by_seed`, one row per rule."""
        return self.by_seed(metric).drop(columns="seed").groupby("rule", sort=False).mean().reset_index()

    def plot(self, metric: str = "accuracy", ax: "Axes | None" = None) -> "Axes":
        """Plot the worst decile of clients against the mean client, a point for each rule; return the axes."""
        return plots.fairness_frontier(self.by_seed(metric), metric, ax)

    def plot_clients(self, metric: str = "accuracy", ax: "Axes | None" = None) -> "Axes":
        """Plot every client's metric, sorted, a curve for each rule; return the axes."""
        return plots.client_spread(self.frame, metric, ax)

    def __repr__(self) -> str:
        return self.table().to_string(index=False, float_format=lambda x: f"{x:.3f}")


def frontier(
    experiment: Experiment,
    rules: Mapping[str, Aggregator] | None = None,
    seeds: int = 5,
    progress: bool = True,
) -> Frontier:
    """Run every rule on the same seeds and splits and return what each client got of it.

    rules: by default q-FFL at the values of `Q`, its Lipschitz constant from the experiment's learning rate; give the
    experiment `Training(report_loss="before")` for it. Raises
    what stops a federation: a client, a rule.
    """
    lr = experiment.training.optimizer.lr
    given = {f"q = {q:g}": QFedAvg(q=q, lr=lr) for q in Q} if rules is None else dict(rules)
    if not given or seeds < 1:
        raise ConfigurationError("frontier needs at least one rule and one seed")
    experiment.check()
    prepared = prepare(experiment, progress)
    model = bind(experiment, prepared)
    cells = [(rule, seed) for rule in given for seed in range(experiment.seed, experiment.seed + seeds)]
    federations = [
        federate(replace(experiment, seed=seed, aggregation=given[rule]), prepared, model, run_id=f"frontier-{i:06d}")
        for i, (rule, seed) in enumerate(cells)
    ]
    with Progress("frontier", experiment.rounds, enabled=progress) as bar:
        for number in range(1, experiment.rounds + 1):
            for outcome in rehearse([(one.server, one.engine.cohort) for one in federations]):
                if isinstance(outcome, Exception):
                    raise outcome
            bar.advance(f"round {number}/{experiment.rounds}  ({len(federations)} federations)")
    import pandas as pd

    rows = [
        {"rule": rule, "seed": seed, "client": client, **scores}
        for (rule, seed), result in zip(cells, measure(federations), strict=True)
        for client, scores in result["per_client"].items()
    ]
    return Frontier(pd.DataFrame(rows))
