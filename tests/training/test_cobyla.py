"""COBYLA for all clients at once is scipy's for each."""

import numpy as np
import pytest
import scipy.optimize
import torch
from bare import bare, data, entangling, losses, start, train

from qfedfm.backends import Executor, ParameterShift, Session, Shots
from qfedfm.training import Cobyla
from qfedfm.training.cobyla import minimise_together

CENTRES = np.array([[1.0, -2.0], [0.3, 0.1], [5.0, 5.0]])


def bowls(points, asking):
    """A function for each client, of no use where it does not ask."""
    return np.where(asking, ((points - CENTRES) ** 2 * [1, 3]).sum(1) + np.sin(points[:, 0]), np.nan)


@pytest.mark.parametrize("evaluations", [7, 500])
def test_each_client_ends_where_scipy_ends_alone(evaluations):
    asked = []

    def values(points, asking):
        asked.append(asking.sum())
        return bowls(points, asking)

    found = minimise_together(values, np.zeros((3, 2)), evaluations, 0.5)
    for client in range(3):
        everyone = np.arange(3) == client
        met = []

        def alone(point, everyone=everyone, client=client, met=met):
            met.append((bowls(np.tile(point, (3, 1)), everyone)[client], point.copy()))
            return met[-1][0]

        done = scipy.optimize.minimize(
            alone, np.zeros(2), method="COBYLA", options={"maxiter": evaluations, "rhobeg": 0.5}
        )
        np.testing.assert_array_equal(found[client], min(met, key=lambda pair: pair[0])[1])
        if evaluations == 500:
            np.testing.assert_allclose(found[client], done.x, atol=1e-3)
            assert done.fun < bowls(np.zeros((3, 2)), everyone)[client]
    if evaluations == 7:
        assert asked == [3] * 7
    else:  # those who are done wait for nobody
        assert asked[0] == 3
        assert asked[-1] < 3


def test_a_step_is_scipys_on_the_clients_loss():
    model, (table, labels) = bare(entangling(2, 1)), data(9, 2)
    rows, params = [np.arange(4), np.arange(4, 9)], start(bare(entangling(2, 1)), 2)
    done = train(model, params, Cobyla(evaluations=25, radius=0.7), rows, table, labels, steps=1)
    for client in range(2):

        def loss(point, client=client):
            own = {"circuit.weights": torch.from_numpy(point).view(1, 1, 2, 3)}
            return losses(model, own, [rows[client]], table, labels)[0]

        first = params["circuit.weights"][client].flatten().numpy()
        alone = scipy.optimize.minimize(loss, first, method="COBYLA", options={"maxiter": 25, "rhobeg": 0.7})
        ended = loss(done.params["circuit.weights"][client].flatten().numpy())
        assert ended <= alone.fun + 1e-12 < loss(first)


def test_only_clients_that_ask_are_run_and_counted():
    model, (table, labels) = bare(entangling(2, 1)), data(9, 2)
    executor = Executor(Shots(20).connect(Session()), 20, ParameterShift())
    rows = [np.arange(4), np.arange(4, 9)]
    done = train(model, start(model, 2), Cobyla(evaluations=12), rows, table, labels, steps=1, executor=executor)
    assert [one.executions for one in done.usage] == [4 * 13, 5 * 13]  # and one for the loss before
    assert executor.jobs == 13  # of both clients together


def test_what_goes_wrong_in_an_evaluation_is_raised_and_every_search_ends():
    calls = []

    def values(points, asking):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no machine")
        return bowls(points, asking)

    with pytest.raises(RuntimeError, match="no machine"):
        minimise_together(values, np.zeros((3, 2)), 50, 0.5)
    assert len(calls) == 3


@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 9])
def test_no_more_values_are_taken_than_declared(evaluations):
    """scipy itself takes four at least for two unknowns, and warns."""
    asked = []

    def values(points, asking):
        asked.append(points.copy())
        return bowls(points, asking)

    found = minimise_together(values, np.zeros((3, 2)), evaluations, 0.5)
    assert len(asked) == evaluations
    everywhere = np.stack([bowls(points, np.ones(3, dtype=bool)) for points in asked])
    np.testing.assert_array_equal(bowls(found, np.ones(3, dtype=bool)), everywhere.min(axis=0))
