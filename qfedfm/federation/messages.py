"""Messages: tensors with a short report, encoded, sealed, and opened again at the other end.

Both directions go through here. A `Channel` is one node's end of all its links: it counts its own messages, remembers
what it accepted, and turns any unacceptable bytes into a `SealError` before they can touch a model.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codecs import Codec, Dense, SeedScalar, TensorMeta
from ..codecs.seeds import Seeded
from ..errors import SealError
from ..params import Params, Specs, specs_hash
from ..qkd import KeySource
from ..seal import Expected, Header, ReplayGuard, Seal
from ..seal.envelope import Kind

SERVER = "server"
Report = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """Tensors as a codec wrote them: bytes, and what the header says of them."""

    data: bytes
    tensors: tuple[TensorMeta, ...]


class Channel:
    """One node's end of its sealed links in one attempt at one run.

    run: the run's name. attempt: 1 for the first start, one more after each resume. specs: the parameters that travel.
    told: what else the server sends beside the model, see `client_rules`.
    codec: of updates; a model is sent as it is, since codecs that drop or round are made for differences.
    key_bits: bits of key that messages to and from each peer took, by (peer, kind), since somebody last cleared it.
    """

    def __init__(
        self, run: str, attempt: int, specs: Specs, codec: Codec, seal: Seal, source: KeySource, told: Specs = ()
    ) -> None:
        self.run, self.attempt, self.codec, self.seal, self.source = run, attempt, codec, seal, source
        self.specs, self.told = specs, told
        self._spec_hash = specs_hash((*specs, *told))
        self._sent: Counter[tuple[str, str]] = Counter()
        self._seen = ReplayGuard()
        self.key_bits: Counter[tuple[str, str]] = Counter()
        self._max_bytes = 2**18 + 4 * sum(spec.size * spec.torch_dtype.itemsize for spec in (*specs, *told))

    def encode(
        self,
        kind: Kind,
        tensors: Params,
        state: Params,
        generator: np.random.Generator,
        walked: Seeded | None = None,
    ) -> tuple[Encoded, Params]:
        """Encode tensors {name: (*shape)}; return them with the codec's state for this sender's next message.

        The generator serves codecs that round at random. walked: what the tensors are made of, for a codec that can say
        that in their place.
        """
        if walked is not None and isinstance(self.codec, SeedScalar):
            return Encoded(*self.codec.encode_directions(walked)), state
        data, meta, state = self._codec(kind).encode(tensors, self._specs(kind), state, generator)
        return Encoded(data, meta), state

    def decode(self, kind: Kind, body: Encoded) -> Params:
        """Return the tensors that `encode` wrote; what does not fit raises `SealError`."""
        return self._codec(kind).decode(body.data, body.tensors, self._specs(kind))

    def _specs(self, kind: Kind) -> Specs:
        return self.specs if kind == "update" else (*self.specs, *self.told)

    def _codec(self, kind: Kind) -> Codec:
        return self.codec if kind == "update" else Dense()

    def send(
        self,
        kind: Kind,
        round: int,
        sender: str,
        receiver: str,
        body: Encoded,
        base_hash: str,
        report: Report | None = None,
    ) -> bytes:
        """Return the sealed envelope of `body` followed by `report` as JSON."""
        self._sent[sender, receiver] += 1
        header = Header(
            run=self.run,
            round=round,
            attempt=self.attempt,
            seq=self._sent[sender, receiver],
            kind=kind,
            sender=sender,
            receiver=receiver,
            spec_hash=self._spec_hash,
            base_hash=base_hash,
            codecs=(self._codec(kind).name,),
            tensors=body.tensors,
        )
        payload = body.data + json.dumps(report or {}).encode()
        self.key_bits[receiver, kind] += self.seal.key_bits(len(payload))
        return self.seal.seal(header, payload, self.source)

    def receive(
        self,
        data: bytes,
        kind: Kind,
        sender: str,
        receiver: str,
        round: int | None = None,
        base_hash: str | None = None,
    ) -> tuple[Header, Params, Report]:
        """Open an envelope and return its header, tensors and report; raise `SealError` unless all is as expected.

        A client leaves `round` and `base_hash` open: it learns both from the server, whose messages only move forwards.
        """
        expected = Expected(
            run=self.run,
            round=round,
            attempt=self.attempt,
            kind=kind,
            sender=sender,
            receiver=receiver,
            spec_hash=self._spec_hash,
            base_hash=base_hash,
            codecs=(self._codec(kind).name,),
        )
        header, payload = self.seal.unseal(data, expected, self.source, self._seen, self._max_bytes)
        self.key_bits[sender, kind] += self.seal.key_bits(len(payload))
        try:
            report = json.loads(payload[header.tensor_bytes :])
        except (ValueError, RecursionError) as error:
            raise SealError(f"the report of '{sender}' is not JSON: {error}") from None
        if not isinstance(report, dict):
            raise SealError(f"the report of '{sender}' is not a JSON object")
        body = Encoded(payload[: header.tensor_bytes], header.tensors)
        return header, self.decode(kind, body), report
