"""The default task: is a sentence positive or negative? Rated by people, in four real domains.

The sentences are those of Hutto and Gilbert 2014 (see `vader`). The domains are four natural clients whose labels
differ (positive: tweets .69, movies .50, products .59, editorials .40), so the skew that federated learning is about is
real.
"""

import hashlib
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .dataset import Dataset, Outline
from .vader import Sentence, sentences, source_distribution

Domain = Literal["tweets", "movies", "products", "editorials"]


@declared
class Sentiment:
    """Positive or negative sentences, judged by the sign of their mean human rating.

    domains: which of the four. per_domain: how many sentences of each, None for all; a choice of the data's own that no
    seed changes. threshold: sentences whose |rating| (0 to 4) is smaller are left out, as are ratings of exactly 0.
    A text that was there before, but for case and spaces, is left out too: it could be trained on and then tested on.
    """

    domains: tuple[Domain, ...] = ("tweets", "movies", "products", "editorials")
    per_domain: Annotated[int, Field(ge=1)] | None = 600
    threshold: Annotated[float, Field(ge=0, le=4)] = 0.5

    def __post_init__(self) -> None:
        if not self.domains or len(set(self.domains)) < len(self.domains):
            raise ConfigurationError(f"domains must name at least one domain, each once; got {self.domains}")

    def outline(self) -> Outline:
        """Return texts of two classes."""
        return Outline(texts=True, features=None, classes=2)

    def load(self, progress: bool = True) -> Dataset:
        """Return the data set, fetching it the first time (see `vader.source_distribution` for what can go wrong)."""
        corpus = _without_repetitions(sentences(source_distribution(progress)))
        chosen = [sentence for domain in self.domains for sentence in self._choose(corpus, domain)]
        return Dataset(
            name="sentiment",
            items=tuple(sentence.text for sentence in chosen),
            labels=np.array([sentence.rating > 0 for sentence in chosen], dtype=np.int64),
            classes=("negative", "positive"),
            groups=np.array([sentence.group for sentence in chosen], dtype=np.int64),
            domains=np.array([sentence.domain for sentence in chosen], dtype=np.str_),
        )

    def _choose(self, corpus: list[Sentence], domain: Domain) -> list[Sentence]:
        """Return whole reviews in the order of a hash, the last one cut short so that `per_domain` sentences remain."""
        rated = [one for one in corpus if one.domain == domain and abs(one.rating) >= self.threshold and one.rating]
        if self.per_domain is not None and self.per_domain > len(rated):
            raise ConfigurationError(
                f"per_domain={self.per_domain}, but '{domain}' has {len(rated)} sentences with |rating| >= "
                f"{self.threshold}: ask for fewer, or None for all"
            )
        return sorted(rated, key=lambda one: hashlib.sha256(str(one.group).encode()).digest())[: self.per_domain]


def _without_repetitions(corpus: tuple[Sentence, ...]) -> list[Sentence]:
    first: dict[str, Sentence] = {}
    for sentence in corpus:
        first.setdefault(" ".join(sentence.text.lower().split()), sentence)
    return list(first.values())
