"""The server's side of a round: select, seal the model, open and validate the updates, aggregate.

`begin` and `finish` are the two halves of a round, so that an engine of any kind, or a driver of many federations at
once, can do what lies between them; `run_round` is both with one engine.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from ..aggregation import Aggregator, Context, Updates
from ..aggregation.updates import Selects, Utility
from ..data import Natural, Partition
from ..declaration import declared
from ..errors import (
    AggregationError,
    ClientError,
    ConfigurationError,
    KeySourceError,
    QuorumError,
    SealError,
    UpdateError,
)
from ..heads.model import Model
from ..ledger import Entry
from ..params import Params, Specs, misfit, params_hash, stack
from ..qkd import FollowsRounds
from ..seeds import stream
from .local import Engine, Failure, Replies
from .messages import SERVER, Channel, Report


@declared
class Clients:
    """Who takes part.

    count: number of clients, where the partition has to be told (None for `Natural`, which finds them in the data).
    partition: how rows are dealt to them. per_round: how many train in a round: a whole number (5), a fraction of all
    (0.5), or None for all of them. min_rows: training rows that each client is guaranteed. failing: what a client that
    fails in a round (no key, no answer, an unacceptable update) does to it: "stop" the run, or "exclude" the client
    from that round. quorum: the fewest clients that a round may be made of then, a number or a fraction of the chosen.
    """

    count: int | None = None
    partition: Partition = Natural()
    per_round: int | float | None = None
    min_rows: int = 8
    failing: Literal["stop", "exclude"] = "stop"
    quorum: int | float = 1

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ConfigurationError(f"Clients.count: expected at least 1; got {self.count}")
        if self.partition.counted and self.count is None:
            raise ConfigurationError(f"Clients.count: {self.partition} needs the number of clients, as in count=10")
        if not self.partition.counted and self.count is not None:
            raise ConfigurationError(
                f"Clients.count: {self.partition} finds the clients in the data; got count={self.count}: leave it out, "
                "or choose a partition that divides: NaturalSplit(), IID() or Dirichlet(alpha=0.5)"
            )
        if self.min_rows < 1:
            raise ConfigurationError(f"Clients.min_rows: expected at least 1; got {self.min_rows}")
        for name in ("per_round", "quorum"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= (1 if isinstance(value, float) else math.inf):
                raise ConfigurationError(
                    f"Clients.{name}: expected a number of clients such as 5, or a fraction of them such as 0.5; "
                    f"got {value}"
                )

    def number_per_round(self, enrolled: int) -> int:
        """Return how many of `enrolled` clients train in a round; a fraction is rounded up."""
        if self.per_round is None:
            return enrolled
        wanted = _count(self.per_round, enrolled)
        if wanted > enrolled:
            raise ConfigurationError(
                f"Clients.per_round: {wanted} clients a round of {enrolled} enrolled; choose at most {enrolled}"
            )
        return wanted

    def fewest(self, chosen: int) -> int:
        """Return how many of `chosen` clients must be left in a round: all of them where a failing one stops it."""
        needed = chosen if self.failing == "stop" else _count(self.quorum, chosen)
        if needed > chosen:
            raise ConfigurationError(f"Clients.quorum: {needed} clients of {chosen} a round; choose at most {chosen}")
        return needed


def _count(number: int | float, of: int) -> int:
    """Return a number of clients as it is, and a fraction as a number, rounded up."""
    return math.ceil(round(number * of, 9)) if isinstance(number, float) else number  # .07 of 100 is 7.000000000000001


@dataclass(frozen=True)
class Round:
    """What a round did: who took part, mean training loss by rows, costs, and what the rule had to say.

    excluded: who was chosen and failed, and why. Costs are those of everybody chosen.
    """

    number: int
    clients: tuple[str, ...]
    train_loss: float
    entries: tuple[Entry, ...]
    info: dict[str, Any]
    excluded: dict[str, str]


class Server:
    """The global model and what the server remembers between rounds.

    specs: what travels. enrolled: training rows that each client declared when it joined; an update that claims more is
    refused. params: the whole model; what does not travel stays at its initial value here. fewest: the clients that a
    round needs; as long as so many are left, failing ones are excluded from it. model, root, utility: what the rule may
    use beside the updates, see `Context`. around: puts the server half of the clients' rule round an aggregation rule.
    clusters: how many models clients choose from. `params` and the rule's `state` change when a whole round has been
    accepted.
    """

    def __init__(
        self,
        channel: Channel,
        specs: Specs,
        aggregator: Aggregator,
        enrolled: Mapping[str, int],
        per_round: int,
        seed: int,
        params: Params,
        fewest: int | None = None,
        model: Model | None = None,
        root: Callable[[int, Params], Params] | None = None,
        utility: Utility | None = None,
        around: Callable[[Aggregator], Aggregator] | None = None,
        clusters: int = 1,
    ) -> None:
        self.channel, self.specs, self.seed, self.per_round = channel, specs, seed, per_round
        self._around, self.clusters = around, clusters
        self.follow(aggregator)
        self.enrolled = dict(sorted(enrolled.items()))
        self.params = params
        self.fewest = per_round if fewest is None else fewest
        self.model, self.root, self.utility = model, root, utility
        self.round = 0
        self._base_hash = ""
        self._sent: dict[str, bytes] = {}
        self._failed: dict[str, str] = {}

    def follow(self, aggregator: Aggregator) -> None:
        """Take another rule, which begins with its own first state."""
        self.aggregator = self._around(aggregator) if self._around else aggregator
        self.state = self.aggregator.init(self.specs)

    def sent(self) -> Params:
        """Return what clients are sent: the model, and what the rule's state has for them beside it."""
        told = {spec.name: self.state[spec.name] for spec in self.channel.told}
        return {spec.name: self.params[spec.name] for spec in self.specs} | told

    def choose(self) -> list[str]:
        """Return who takes part in the next round, and forget who failed in the last."""
        self._failed = {}
        names = list(self.enrolled)
        generator = stream(self.seed, "select", self.round + 1)
        if isinstance(self.aggregator, Selects):
            return self.aggregator.select(self.state, names, self.per_round, generator)
        chosen = generator.choice(len(names), self.per_round, replace=False)
        return [names[i] for i in sorted(chosen)]

    def begin(self) -> dict[str, bytes]:
        """Start the next round: choose clients and return one sealed model for each that a key can be had for.

        Raises as `finish` does for a client that has no key.
        """
        number, chosen = self.round + 1, self.choose()
        if isinstance(self.channel.source, FollowsRounds):
            self.channel.source.begin_round(number)
        sent = self.sent()
        self._base_hash = params_hash(sent)
        self.channel.key_bits.clear()
        generator = stream(self.seed, "encode", SERVER, number)
        body, _ = self.channel.encode("model", sent, {}, generator)
        self._sent = {}
        for client in chosen:
            try:
                self._sent[client] = self.channel.send("model", number, SERVER, client, body, self._base_hash)
            except KeySourceError as error:
                self.fail(ClientError(client, number, str(error)), error)
        return self._sent

    def finish(self, replies: Replies) -> Round:
        """Open, validate and aggregate the answers of all clients that did not fail.

        Raises `ClientError` naming the first client that failed where every one is needed, and `QuorumError` where too
        few are left. If it raises, the global model is the one of the round before.
        """
        number = self.round + 1
        deltas: dict[str, Params] = {}
        reports: dict[str, Report] = {}
        for client in self._sent:
            reply = replies.get(client, Failure("no answer"))
            try:
                if isinstance(reply, Failure):
                    raise ClientError(client, number, reply.reason) from reply.cause
                deltas[client], reports[client] = self._open(client, number, reply)
            except ClientError as error:
                self.fail(error, error.__cause__)
        entries = tuple(self._entry(client, number, replies.get(client), reports.get(client)) for client in self._sent)
        return self.combine(deltas, reports, entries)

    def combine(
        self, deltas: Mapping[str, Params], reports: Mapping[str, Report], entries: tuple[Entry, ...] = ()
    ) -> Round:
        """Aggregate accepted updates, by client in order of names, and count the round as done."""
        number = self.round + 1
        rows = tuple(report["rows"] for report in reports.values())
        steps = tuple(report["steps"] for report in reports.values())
        losses = tuple(report["loss"] for report in reports.values())
        clusters = tuple(report["cluster"] for report in reports.values()) if self.clusters > 1 else ()
        updates = Updates(tuple(deltas), stack(list(deltas.values())), rows, steps, losses, clusters)
        generator = stream(self.seed, "aggregate", number)
        root = partial(self.root, number) if self.root else None
        info = self._aggregate(updates, Context(number, generator, self.model, root, self.utility))
        self.round = number
        loss = sum(report["loss"] * report["rows"] for report in reports.values()) / sum(rows)
        return Round(number, updates.clients, loss, entries, info, self._failed)

    def fail(self, error: ClientError, cause: BaseException | None) -> None:
        """Note a client's failure; raise it where the round needs everybody, and `QuorumError` below the fewest."""
        if self.fewest == self.per_round:
            raise error from cause
        self._failed[error.client] = error.reason
        left = self.per_round - len(self._failed)
        if left < self.fewest:
            raise QuorumError(error.round, left, self.fewest, self._failed) from cause

    def _entry(self, client: str, number: int, reply: bytes | Failure | None, report: Report | None) -> Entry:
        """Return what a client cost; one without a report was excluded, and what it did is not known."""
        return Entry(
            number,
            client,
            bytes_down=len(self._sent[client]),
            bytes_up=len(reply) if isinstance(reply, bytes) else 0,
            key_bits={kind: self.channel.key_bits[client, kind] for kind in ("model", "update")},
            **{name: report[name] for name in COUNTED if report and name in report},
        )

    def _aggregate(self, updates: Updates, context: Context) -> dict[str, Any]:
        """Put what the rule makes of the updates in place, if it can be a model, and return its info."""
        rule = f"aggregation rule {type(self.aggregator).__name__}, round {context.round}"
        base = {spec.name: self.params[spec.name] for spec in self.specs}
        try:
            params, state, info = self.aggregator(self.state, base, updates, self.specs, context)
            json.dumps(info, allow_nan=False)
        except Exception as error:
            raise AggregationError(f"{rule}: {type(error).__name__}: {error}") from error
        reason = misfit(params, self.specs)
        if not reason and not all(isinstance(tensor, Tensor) for tensor in state.values()):
            reason = "its state is a dict of tensors; something else is in it"
        reason = reason or misfit({spec.name: state[spec.name] for spec in self.channel.told}, self.channel.told)
        if reason:
            raise AggregationError(f"{rule}: {reason}")
        self.params, self.state = self.params | params, state
        return info

    def _open(self, client: str, number: int, reply: bytes) -> tuple[Params, Report]:
        try:
            _, delta, report = self.channel.receive(reply, "update", client, SERVER, number, self._base_hash)
        except (SealError, KeySourceError) as error:
            raise UpdateError(client, number, str(error)) from error
        reason = unacceptable(delta, report, self.specs, self.enrolled[client], self.clusters)
        if reason:
            raise UpdateError(client, number, reason)
        return delta, report


COUNTED = ("rows", "steps", "executions", "shots", "qpu_seconds")
"""What of a client's report enters the ledger; the last two are reported where circuits run on a machine."""


def unacceptable(delta: Params, report: Report, specs: Specs, enrolled: int, clusters: int = 1) -> str:
    """Return why an update cannot be used, or an empty string.

    Shapes and types follow the specs, every value is finite, and the report holds whole numbers of rows (at least one
    and no more than the client enrolled with), steps, circuit executions and shots, the model that was trained where
    there are several, a finite loss, and seconds.
    """
    reason = misfit(delta, specs)
    if reason:
        return f"{reason}; try a lower learning rate" if "NaN" in reason else reason
    limits = [("rows", 1, enrolled), ("steps", 1, 2**31), ("executions", 0, 2**53), ("shots", 0, 2**53)]
    for name, low, high in limits + ([("cluster", 0, clusters - 1)] if clusters > 1 else []):
        value = report.get(name, 0 if name == "shots" else None)
        if type(value) is not int or not low <= value <= high:
            return f"reports {name} = {value!r:.100}; expected a whole number from {low} to {high}"
    for name, lowest in (("loss", -math.inf), ("qpu_seconds", 0.0)):
        number = report.get(name, 0.0 if name == "qpu_seconds" else None)
        if type(number) is not float or not math.isfinite(number) or number < lowest:
            return f"reports {name} = {number!r:.100}; expected a finite decimal number"
    return ""


def run_round(server: Server, engine: Engine, deadline: float | None = None) -> Round:
    """Run one whole round: begin, exchange, finish."""
    return server.finish(engine.exchange(server.begin(), deadline))
