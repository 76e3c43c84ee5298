"""The stress matrix: every rule against every attack at every fraction of attackers, on the same seeds and splits.

Each cell and seed is a federation of its own, rehearsed without links (see `federation.rehearsal`). All advance round
by round and the clients of all train as one cohort, which changes no result and makes the matrix affordable. A rule
that does not admit a number of clients and attackers is shown as refused, never run outside its proof.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plots
from ..aggregation import Aggregator
from ..assembly import Federation, bind, federate, prepare, with_poisoned
from ..attacks import Adversary, Attack
from ..errors import ConfigurationError
from ..evidence import mean_interval
from ..experiment import Experiment
from ..federation.rehearsal import rehearse
from ..measuring import measure
from ..progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NOBODY = "no attack"


@dataclass(frozen=True)
class Stress:
    """What became of every federation: one row per rule, attack, fraction and seed.

    frame: columns rule, attack, fraction, seed, accuracy (test), backdoor (success, NaN without one), outcome ("" or
    why there is no figure: "refused: ..." or "failed: ...").
    """

    frame: "pd.DataFrame"

    def table(self, metric: str = "accuracy") -> "pd.DataFrame":
        """Return mean and 95 % t interval over seeds of each rule, attack and fraction; NaN where it was refused."""
        import pandas as pd

        rows = []
        for (rule, attack, fraction), cell in self.frame.groupby(["rule", "attack", "fraction"], sort=False):
            values = cell[metric].to_numpy(dtype=float)
            sound = np.isfinite(values).all()
            interval = mean_interval(values) if sound and len(values) > 1 else None
            rows.append(
                {
                    "rule": rule,
                    "attack": attack,
                    "fraction": fraction,
                    metric: values.mean() if sound else float("nan"),
                    "95 % low": interval.low if interval else float("nan"),
                    "95 % high": interval.high if interval else float("nan"),
                    "seeds": len(values),
                    "outcome": next((text for text in cell["outcome"] if text), ""),
                }
            )
        return pd.DataFrame(rows)

    def plot(self, metric: str = "accuracy", ax: "Axes | None" = None) -> "Axes":
        """Draw a heat map, rules against attacks and fractions, each cell with its mean; return the axes."""
        table = self.table(metric)
        table["column"] = [
            attack if not fraction else f"{attack}\n{100 * fraction:.0f} %"
            for attack, fraction in zip(table["attack"], table["fraction"], strict=True)
        ]
        rules, columns = list(dict.fromkeys(table["rule"])), list(dict.fromkeys(table["column"]))
        grid = table.pivot_table(index="rule", columns="column", values=metric, sort=False, dropna=False)
        values = grid.reindex(index=rules, columns=columns).to_numpy(dtype=float)
        ax = plots.new_axes(ax, (1.2 + 0.62 * len(columns), 1.2 + 0.36 * len(rules)))
        image = ax.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            text, colour = (
                (f"{value:.2f}", "white" if value < 0.6 else "black") if np.isfinite(value) else ("–", "black")
            )
            ax.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
        ax.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
        ax.set_yticks(range(len(rules)), rules, fontsize=8)
        seeds = self.frame["seed"].nunique()
        ax.set_title(f"{metric}, {f'mean of {seeds} seeds' if seeds > 1 else 'one seed'}; – refused", fontsize=9)
        ax.figure.colorbar(image, ax=ax, fraction=0.03)
        return ax

    def __repr__(self) -> str:
        return self.table().to_string(index=False, float_format=lambda x: f"{x:.3f}")


@dataclass
class _Cell:
    """One federation under way, and what it is to be called."""

    rule: str
    attack: str
    fraction: float
    seed: int
    federation: Federation
    outcome: str = ""

    def fail(self, error: Exception) -> None:
        refused = isinstance(error.__cause__, ConfigurationError)
        self.outcome = f"refused: {error.__cause__}" if refused else f"failed: {error}"


def stress(
    experiment: Experiment,
    attacks: Mapping[str, Attack],
    rules: Mapping[str, Aggregator],
    fractions: Sequence[float] = (0.1, 0.2, 0.3),
    seeds: int = 3,
    progress: bool = True,
) -> Stress:
    """Run every rule against every attack at every fraction of attackers, and without attack, on the same seeds.

    A rule with a field `f` is told the number of attackers, the strongest setting for it. Clients that fail are left
    out of a round. Raises `ConfigurationError` for an empty axis or a fraction of no client at all.
    """
    if not (attacks and rules and fractions and seeds >= 1):
        raise ConfigurationError("stress needs at least one attack, rule, fraction and seed")
    experiment = replace(experiment, clients=replace(experiment.clients, failing="exclude", quorum=1), adversary=None)
    experiment.check()
    for rule in rules.values():
        replace(experiment, aggregation=rule)  # refuses what the clients' rule does not go with
    prepared = prepare(experiment, progress)
    prepared.dataset.class_labels("stress, which measures accuracy,")
    prepared = with_poisoned(prepared, attacks.values())
    model = bind(experiment, prepared)
    cells: list[_Cell] = []
    for seed in range(experiment.seed, experiment.seed + seeds):
        for rule_name, rule in rules.items():
            for attack_name, fraction, adversary in _threats(attacks, fractions):
                moved = replace(experiment, seed=seed, adversary=adversary)
                federation = federate(moved, prepared, model, run_id=f"stress-{len(cells):06d}")
                enrolled = len(federation.server.enrolled)
                if adversary and not adversary.number(enrolled):
                    raise ConfigurationError(
                        f"stress: {fraction} of {enrolled} clients is nobody: take larger fractions"
                    )
                federation.server.follow(_told(rule, adversary.number(enrolled) if adversary else 0))
                cells.append(_Cell(rule_name, attack_name, fraction, seed, federation))
    with Progress("stress", experiment.rounds, enabled=progress) as bar:
        for number in range(1, experiment.rounds + 1):
            _advance([cell for cell in cells if not cell.outcome])
            bar.advance(f"round {number}/{experiment.rounds}  ({len(cells)} federations)")
    return Stress(_frame(cells))


def _threats(attacks: Mapping[str, Attack], fractions: Sequence[float]) -> list[tuple[str, float, Adversary | None]]:
    """Return name, fraction and adversary of every column, the one without attack first."""
    several = [(name, share, Adversary(attack, share)) for name, attack in attacks.items() for share in fractions]
    return [(NOBODY, 0.0, None), *several]


def _told(rule: Aggregator, attackers: int) -> Aggregator:
    """Return a rule that knows the number of attackers, if it has a field for it; a wrapper tells the rule inside."""
    changes: dict[str, Any] = {}
    names: list[str] = [field.name for field in fields(rule)] if is_dataclass(rule) else []
    for name in names:
        inner = getattr(rule, name)
        if name == "f":
            changes["f"] = attackers
        elif isinstance(inner, Aggregator):
            changes[name] = _told(inner, attackers)
    return replace(rule, **changes) if changes else rule  # type: ignore[type-var]  # changes are fields of a dataclass


def _advance(cells: Sequence[_Cell]) -> None:
    """Run one round of all federations."""
    federations = [(cell.federation.server, cell.federation.engine.cohort) for cell in cells]
    for cell, outcome in zip(cells, rehearse(federations), strict=True):
        if isinstance(outcome, Exception):
            cell.fail(outcome)


def _frame(cells: Sequence[_Cell]) -> "pd.DataFrame":
    import pandas as pd

    alive = [cell for cell in cells if not cell.outcome]
    scores = dict(zip(map(id, alive), measure([cell.federation for cell in alive]), strict=True)) if alive else {}
    rows = []
    for cell in cells:
        score: dict[str, Any] = scores.get(id(cell), {})
        rows.append(
            {
                "rule": cell.rule,
                "attack": cell.attack,
                "fraction": cell.fraction,
                "seed": cell.seed,
                "accuracy": score["test"]["accuracy"] if score else float("nan"),
                "backdoor": score.get("backdoor", {}).get("success", float("nan")),
                "outcome": cell.outcome,
            }
        )
    return pd.DataFrame(rows)
