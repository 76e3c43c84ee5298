"""Bucketing (Karimireddy et al. 2022, arXiv:2006.09365): average clients in random buckets, then any robust rule.

Robust rules prefer the middle, so on strongly different clients they drop honest minorities and keep attackers. Means
of s random clients differ less. The price: an attacker spoils its whole bucket, so the rule must withstand f bad
buckets among n / s.
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from ..declaration import declared
from ..params import Params, Specs, stack
from .admissible import admit
from .geometry import average
from .median import Median
from .updates import Aggregator, Context, Info, Updates


@declared
class Bucketing:
    """`rule` on the means of ceil(n / s) buckets of at most s clients, drawn without replacement.

    rule: any; its state is the state. size: s in the paper; 1 leaves the updates as they are. The draw depends on the
    round's generator and on the names of the clients, not on their order. Within a bucket all count the same and angles
    are averaged as seen from the bucket's first client. To the rule a bucket is a client "bucket-i" with the rows of
    its clients in sum, their steps on average (rounded) and their losses on average. Rules with a memory of
    clients (FoolsGold) have nothing to remember here. Cost n d and the rule's own. Withstands f attackers where the
    rule withstands f among ceil(n / s).
    """

    rule: Aggregator = Median()
    size: Annotated[int, Field(ge=1)] = 2

    def init(self, specs: Specs) -> Params:
        """Return the state of the rule."""
        return self.rule.init(specs)

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless the rule admits that many buckets."""
        admit(self.rule, -(-n // self.size))

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return what the rule returns, its info with the "buckets", lists of client names."""
        n = len(updates.clients)
        by_name = sorted(range(n), key=lambda i: updates.clients[i])
        order = [by_name[i] for i in context.generator.permutation(n).tolist()]
        buckets = [order[start : start + self.size] for start in range(0, n, self.size)]
        merged = replace(
            updates,
            clients=tuple(f"bucket-{i:04d}" for i in range(len(buckets))),
            delta=stack([_mean(updates, specs, bucket) for bucket in buckets]),
            rows=tuple(sum(updates.rows[i] for i in bucket) for bucket in buckets),
            steps=tuple(
                round(sum(updates.steps[i] for i in bucket) / len(bucket)) for bucket in buckets if updates.steps
            ),
            losses=tuple(sum(updates.losses[i] for i in bucket) / len(bucket) for bucket in buckets if updates.losses),
        )
        new, state, info = self.rule(state, params, merged, specs, context)
        return new, state, info | {"buckets": [[updates.clients[i] for i in bucket] for bucket in buckets]}


def _mean(updates: Updates, specs: Specs, bucket: list[int]) -> Params:
    """Return the mean update {name: (*shape)} of some clients, in the types of `specs`."""
    some = {spec.name: updates.delta[spec.name][bucket] for spec in specs}
    mean = average(some, torch.full((len(bucket),), 1 / len(bucket), dtype=torch.float64), specs, near=0)
    return {spec.name: mean[spec.name].to(spec.torch_dtype) for spec in specs}
