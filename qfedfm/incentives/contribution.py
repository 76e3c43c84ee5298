"""Who contributed: a wrapper that measures, round by round, what each client's update was worth.

`Contribution(rule)` aggregates exactly as `rule` does and adds to what the round records; so it is declared in TOML,
needs nothing to be kept that was not kept before, and is read from any finished run with `contributions`. A client's
value over a run is the sum of its values over rounds (Wang et al. 2020, arXiv:2009.06192).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..aggregation import Aggregator, AngularMean, Context, Updates
from ..aggregation.updates import Info, Metric
from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from .coalitions import round_game
from .game import Valuation
from .influence import Influence
from .shapley import Shapley

if TYPE_CHECKING:
    import pandas as pd


@declared
class Contribution:
    """A rule whose rounds record what each client was worth.

    rule: what aggregates. method: how values are found. metric: what a model is worth on the validation rows: "loss",
    its negative mean cross-entropy, or "accuracy". rebuild: the rule that rebuilds the models of coalitions, where
    `rule` itself does not accept few clients (None: `rule`).
    """

    rule: Aggregator = AngularMean()
    method: Valuation = Shapley()
    metric: Metric = "loss"
    rebuild: Aggregator | None = None

    def __post_init__(self) -> None:
        if isinstance(self.method, Influence) and self.metric == "accuracy":
            raise ConfigurationError(
                'Contribution.metric: influence is a derivative and accuracy moves in steps; use metric="loss"'
            )

    def init(self, specs: Specs) -> Params:
        """Return the state of the wrapped rule."""
        return self.rule.init(specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return what the rule returns, and under "contribution" in its info what each client was worth."""
        kept = replace(context, generator=deepcopy(context.generator))
        new, after, info = self.rule(state, params, updates, specs, context)
        rebuild, memory = (self.rule, state) if self.rebuild is None else (self.rebuild, self.rebuild.init(specs))
        game = round_game(rebuild, memory, params, updates, specs, kept, self.metric)
        values = self.method.values(game, context.generator)
        record: dict[str, Any] = {
            "method": type(self.method).__name__,
            "metric": self.metric,
            "before": game.empty,
            "after": game.whole,
            "evaluations": values.evaluations,
        }
        for name in ("value", "low", "high"):
            column = getattr(values, name)
            if column is not None:
                record[name] = dict(zip(updates.clients, column.tolist(), strict=True))
        return new, after, info | {"contribution": record}


class HasRounds(Protocol):
    """A run as far as it is needed here, such as a `Result`."""

    rounds: list[dict[str, Any]]


def contributions(run: HasRounds | Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return one row for each client and round: round, client, value, low, high (NaN without interval).

    run: a result whose aggregation was a `Contribution`, or the records of its rounds. Values are in the unit of the
    metric: nats or shares of rows. `frame.groupby("client").value.sum()` is each client's value over the run. Raises
    `ConfigurationError` for a run that recorded none.
    """
    import pandas as pd

    lines: Sequence[Mapping[str, Any]] = run if isinstance(run, Sequence) else run.rounds
    found = [(line["round"], line["info"]["contribution"]) for line in lines if "contribution" in line.get("info", {})]
    if not found:
        raise ConfigurationError(
            "no round of this run says what its clients were worth, and updates are not kept: run it again with "
            "aggregation=Contribution(rule), rule being the aggregation it has"
        )
    nothing: dict[str, float] = {}
    return pd.DataFrame(
        [
            {
                "round": number,
                "client": client,
                "value": value,
                **{end: record.get(end, nothing).get(client, float("nan")) for end in ("low", "high")},
            }
            for number, record in found
            for client, value in record["value"].items()
        ]
    )
