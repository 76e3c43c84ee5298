"""Rehearsed rounds: many federations in one process whose updates go to their rules directly.

For studies of rules, such as a matrix of attacks: clients train, attack and are selected exactly as in a real round,
and updates pass through the codec; there are no links in such a study, so nothing is sent, sealed or counted.
"""

from collections.abc import Sequence

from ..errors import AggregationError, ClientError, QuorumError
from ..params import Params
from .clients import Cohort, Local, Opened, encode_update, train_together
from .messages import Report
from .server import Round, Server


def rehearse(federations: Sequence[tuple[Server, Cohort]]) -> list[Round | Exception]:
    """Run one round of each federation; return what it did, or why it could not be finished."""
    opened: list[Opened] = []
    for i, (server, _) in enumerate(federations):
        sent = server.sent()
        opened += [Opened(i, client, server.round + 1, "", sent) for client in server.choose()]
    trained, deltas = train_together([cohort for _, cohort in federations], opened)
    outcomes: list[Round | Exception] = []
    positions: list[list[int]] = [[] for _ in federations]
    for position, one in enumerate(opened):
        positions[one.federation].append(position)
    for (server, cohort), mine in zip(federations, positions, strict=True):
        try:
            outcomes.append(_finish(server, cohort, [(opened[i], trained[i], deltas.get(i)) for i in mine]))
        except (ClientError, QuorumError, AggregationError) as error:
            outcomes.append(error)
    return outcomes


def _finish(server: Server, cohort: Cohort, clients: list[tuple[Opened, Local | Exception, Params | None]]) -> Round:
    accepted: dict[str, Params] = {}
    reports: dict[str, Report] = {}
    for one, local, delta in clients:
        if isinstance(local, Exception) or delta is None:
            server.fail(ClientError(one.client, one.round, str(local)), None)
            continue
        if not all(bool(tensor.isfinite().all()) for tensor in delta.values()):
            server.fail(ClientError(one.client, one.round, "its update has values that are NaN or infinite"), None)
            continue
        body, remembered = encode_update(cohort, one, local, delta)
        delta = server.channel.decode("update", body)
        cohort.remember(one.client, remembered)
        accepted[one.client], reports[one.client] = delta, local.report
    return server.combine(accepted, reports)
