"""Whole runs on the loopback of IBM's service: killed while a job waits, and stopped by their budget."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from loopback import DEVICE, Loopback
from tiny import experiment

import qfedfm as qf
from qfedfm.backends import IBM, RuntimeMitigation, Spsa
from qfedfm.federation import Training
from qfedfm.heads import Variational
from qfedfm.training import Adam

EXPERIMENT = experiment(
    head=Variational("angle_ring", {"n": 2}),
    backend=IBM(DEVICE, shots=64, mitigation=RuntimeMitigation(readout=False), transpilations=1),
    training=Training(optimizer=Adam(lr=0.05), batch_size=4, steps=2, gradient=Spsa()),
    evaluation="exact",
)


@pytest.fixture
def service(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    with Loopback() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def command(file, folder, *more):
    return [sys.executable, "-m", "qfedfm.cli", "run", str(file), "--directory", str(folder), *more]


@pytest.mark.slow
def test_a_killed_run_takes_up_its_pending_job_and_pays_once(service, tmp_path):
    file, folder = EXPERIMENT.save(tmp_path), tmp_path / "run"
    service.hold(after=2)  # the second round's first job
    process = subprocess.Popen(command(file, folder, "--max-qpu-seconds", "30"), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (len(service.jobs) == 3 and (folder / "jobs.jsonl").read_text().count('"sent"') == 3):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    service.release()
    result = qf.run(folder / "experiment.toml", folder, resume=True, progress=False, max_qpu_seconds=30)
    assert result.finished
    jobs, seconds = service.bill
    assert jobs == len(service.jobs) == 4  # two rounds of two steps, all clients in one job
    assert sum(entry.qpu_seconds for entry in result.ledger.entries) == pytest.approx(seconds)
    billed = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    assert sum(line.get("billed", 0) for line in billed) == pytest.approx(seconds)


def test_a_run_over_budget_stops_with_what_it_has_and_goes_on_with_more(service, tmp_path):
    file, folder = EXPERIMENT.save(tmp_path), tmp_path / "run"
    with pytest.raises(qf.QfedfmError, match="max_qpu_seconds"):
        qf.run(file, folder, progress=False)
    assert not service.jobs
    with pytest.raises(qf.QfedfmError, match="Nothing was sent: allow more with --max-qpu-seconds and resume"):
        qf.run(file, folder, progress=False, max_qpu_seconds=10)  # 4 jobs of 2 + .00035 x 2304 seconds
    assert service.bill[1] < 10
    before = len(service.jobs)
    assert before == 3
    result = qf.run(file, folder, resume=True, progress=False, max_qpu_seconds=30)
    assert result.finished
    assert len(service.jobs) == 4  # those of the unfinished round were taken up
    assert [line["round"] for line in result.rounds] == [0, 1, 2]
