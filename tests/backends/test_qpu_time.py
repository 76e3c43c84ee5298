"""Estimates of billed time, against the times that were published for 16 rows of 1024 shots on 4 qubits, 2 layers."""

import pytest
from qiskit_ibm_runtime.fake_provider import FakeManilaV2, FakeWashingtonV2

from qfedfm.backends import quick_seconds, usage_seconds
from qfedfm.backends.qpu_time import rep_delay_seconds

CIRCUIT = 8e-6


@pytest.mark.parametrize(("circuits", "seconds"), [(16, 6), (528, 140), (32, 10)], ids=["forward", "shifts", "spsa"])
def test_a_step_takes_what_was_published(circuits, seconds):
    assert usage_seconds(circuits * 1024, CIRCUIT) == pytest.approx(seconds, rel=0.05)
    assert quick_seconds(circuits * 1024) > usage_seconds(circuits * 1024, CIRCUIT)


def test_what_a_job_costs_beside_its_executions():
    assert usage_seconds(0, CIRCUIT, jobs=3) == quick_seconds(0, jobs=3) == 6
    assert usage_seconds(1000, 1e-3, rep_delay=0) == pytest.approx(3)


def test_the_delay_is_the_devices_own():
    assert rep_delay_seconds(FakeManilaV2()) == 250e-6
    assert rep_delay_seconds(FakeWashingtonV2()) == 150e-6
    assert rep_delay_seconds(object()) == 250e-6
