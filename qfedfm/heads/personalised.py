"""Personalised heads: some parts of a model are each client's own, the others are the federation's.

FedPer (Arivazhagan et al. 2019, arXiv:1912.00818) keeps the last layers of a network at the clients and averages the
layers below; FedRep (Collins et al. 2021, arXiv:2102.07078) is the same division with the two halves trained in turn.
Here both halves are trained together, as in FedPer, and any part may be the personal one: the read-out, so that clients
share a representation; or the projection or the circuit, so that they share what is made of it.
"""

from dataclasses import replace

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Part
from .model import Head, Model


@declared
class Personalised:
    """The head `head`, of which each client keeps `parts` for itself: they are trained and never sent.

    parts: "projection", "core" (a circuit's angles, or the layers in its place) or "readout", one or more. All clients
    begin at the same values. A client is evaluated, and predicts, with its own; one that has not trained yet has the
    initial ones. The server never sees the personal parts, so it has no whole model (`Result.client_models` has each
    client's), and rules that try models out on the server's own rows are refused.
    """

    head: Head
    parts: tuple[Part, ...] = ("readout",)

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigurationError(
                'Personalised.parts: expected one or more parts such as ("readout",); for none use the head itself'
            )
        if isinstance(self.head, Personalised):
            raise ConfigurationError("Personalised.head is personalised already: name all parts in one Personalised")

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the head's model, its parts marked as not shared.

        Raises `ConfigurationError` for a part that the head does not train, and where nothing is left to travel.
        """
        model, name = self.head.bind(n_features, n_outputs), type(self.head).__name__
        trained = list(dict.fromkeys(spec.part for spec in model.specs if spec.trainable))
        missing = [part for part in self.parts if part not in trained]
        if missing:
            raise ConfigurationError(
                f"Personalised.parts: {name} trains {', '.join(trained) or 'no part'}; got {', '.join(missing)}"
            )
        if set(trained) <= set(self.parts):
            raise ConfigurationError(
                f"Personalised.parts: with {', '.join(self.parts)} personal nothing of {name} is left to travel, and "
                "without that there is no federation: keep a part shared, or take a head with more parts, such as Mlp"
            )
        specs = tuple(replace(s, shared=s.shared and s.part not in self.parts) for s in model.specs)
        return replace(model, specs=specs)
