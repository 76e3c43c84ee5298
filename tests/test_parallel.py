"""Work side by side: order, errors, and torch's thread count afterwards."""

import threading

import pytest
import torch

from qfedfm.parallel import side_by_side


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_piece_has_one_thread():
    assert list(side_by_side(lambda job: (job, torch.get_num_threads()), range(20))) == [(i, 1) for i in range(20)]
    assert torch.get_num_threads() == 2


def test_an_error_reaches_the_caller_and_the_thread_count_is_restored():
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda job: 1 / job, [1, 0]))
    assert torch.get_num_threads() == 2


def test_two_callers_at_once_leave_the_thread_count_as_it_was():
    both = threading.Barrier(2, timeout=10)

    def call():
        list(side_by_side(lambda job: both.wait() if job == 0 else job, [0, 1, 2]))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert torch.get_num_threads() == 2
