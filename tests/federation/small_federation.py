"""A small federation on arrays, and engines that watch or disturb what passes between server and clients."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from qfedfm.aggregation import Aggregator, AngularMean, Context, Updates
from qfedfm.aggregation.updates import Info, weighted_sum
from qfedfm.client_rules import Setting
from qfedfm.codecs import Codec, Dense
from qfedfm.federation import Channel, Cohort, Engine, LocalEngine, Server, Training
from qfedfm.federation.clients import Intervention, travelling
from qfedfm.federation.local import Replies
from qfedfm.federation.messages import SERVER
from qfedfm.heads import Linear
from qfedfm.heads.model import Model
from qfedfm.params import Params, Specs, params_hash, specs_hash
from qfedfm.qkd import Key, KeySource, PresharedKeys
from qfedfm.seal import Aead, Header
from qfedfm.seeds import stream
from qfedfm.training import Sgd

SIZES = {"anna": 9, "bert": 4, "cleo": 17}
FEATURES, CLASSES = 3, 2
TABLE = torch.from_numpy(stream(0, "table").normal(size=(200, FEATURES)))
LABELS = torch.from_numpy(stream(0, "labels").integers(CLASSES, size=200))
LINEAR = Linear().bind(FEATURES, CLASSES).with_precision("float64")
WHOLE_BATCH = Training(Sgd(lr=0.5), batch_size=200)


class MomentumMean:
    """A rule with a state: the velocity of the mean update."""

    def init(self, specs: Specs) -> Params:
        return {f"v.{spec.name}": torch.zeros(spec.shape, dtype=spec.torch_dtype) for spec in specs}

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        velocity = {
            spec.name: 0.5 * state[f"v.{spec.name}"] + weighted_sum(updates.weights, updates.delta[spec.name])
            for spec in specs
        }
        new = {name: params[name] + move for name, move in velocity.items()}
        return new, {f"v.{name}": move for name, move in velocity.items()}, {"round": context.round}


@dataclass
class CountingKeys:
    """A key source that counts the bits it hands out, each way."""

    source: KeySource
    drawn: dict[tuple[str, str], int] = field(default_factory=dict)

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        self.drawn[sender, receiver] = self.drawn.get((sender, receiver), 0) + bits
        return self.source.draw(sender, receiver, bits, purpose)

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:
        return self.source.fetch(sender, receiver, ids, bits, purpose)


def federation(
    sizes: Mapping[str, int] = SIZES,
    *,
    model: Model = LINEAR,
    training: Training = WHOLE_BATCH,
    aggregator: Aggregator | None = None,
    per_round: int | None = None,
    seed: int = 0,
    run: str = "run",
    source: KeySource | None = None,
    intervene: Intervention | None = None,
    table: Tensor = TABLE,
    labels: Tensor = LABELS,
    fewest: int | None = None,
    codec: Codec | None = None,
) -> tuple[Server, LocalEngine]:
    """Return a server and all its clients; client i owns the rows after those of client i - 1."""
    ends = np.cumsum(list(sizes.values()))
    rows = {name: np.arange(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
    source = PresharedKeys().connect() if source is None else source
    specs, rule = travelling(model.specs), training.rule
    told = rule.told(specs) if rule else ()

    def channel() -> Channel:
        return Channel(run, 1, specs, codec or Dense(), Aead(), source, told)

    setting = Setting(model, seed, int(ends[-1]), lambda number: training.rates_in(number, specs))
    server = Server(
        channel(),
        specs,
        AngularMean() if aggregator is None else aggregator,
        sizes,
        per_round or len(sizes),
        seed,
        model.init(seed),
        fewest,
        around=(lambda inner: rule.around(inner, setting)) if rule else None,
    )
    cohort = Cohort(model, table, labels, rows, training, channel(), seed, intervene=intervene)
    return server, LocalEngine(cohort)


Down = Callable[[dict[str, bytes]], dict[str, bytes]]
Up = Callable[[Replies], Replies]


@dataclass
class Wire:
    """An engine whose envelopes can be changed on their way down and up, and are kept as they were sent."""

    engine: Engine
    down: Down = dict
    up: Up = dict
    sent: list[dict[str, bytes]] = field(default_factory=list)
    answered: list[Replies] = field(default_factory=list)

    def exchange(self, envelopes: Mapping[str, bytes], deadline: float | None = None) -> Replies:
        self.sent.append(dict(envelopes))
        self.answered.append(self.engine.exchange(self.down(dict(envelopes)), deadline))
        return self.up(dict(self.answered[-1]))


def forge(
    server: Server, engine: LocalEngine, client: str, delta: Params, report: object, base_hash: str | None = None
) -> bytes:
    """Return an update that an enrolled but dishonest client seals: anything may stand in it.

    report: bytes are written as they are, everything else as JSON. base_hash: of the server's model unless given.
    """
    channel = engine.cohort.channel
    body, _ = channel.encode("update", delta, {}, stream(0))
    header = Header(
        run=channel.run,
        round=server.round + 1,
        attempt=1,
        seq=99,
        kind="update",
        sender=client,
        receiver=SERVER,
        spec_hash=specs_hash(channel.specs),
        base_hash=base_hash or params_hash(server.params),
        codecs=("dense",),
        tensors=body.tensors,
    )
    raw = report if isinstance(report, bytes) else json.dumps(report).encode()
    return channel.seal.seal(header, body.data + raw, channel.source)


def snapshot(server: Server) -> tuple[int, str, str]:
    """Return what must not change when a round fails."""
    return server.round, params_hash(server.params), params_hash(server.state)
