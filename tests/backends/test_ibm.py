"""IBM's machines, over the unmodified client and a loopback of the service: every fault has a clear end and one bill.

No quantum processor was reached. The service stands in `loopback`; its jobs run on a fake device.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from loopback import API_KEY, CRN, DEVICE, Loopback

from qfedfm.backends import IBM, Exact, FakeRuntime, RuntimeMitigation, Session, Shots, flatten, ibm_machine
from qfedfm.errors import BackendError, BudgetExceeded, ConfigurationError
from qfedfm.quantum import assemble
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.program import Gate

# Asymmetric, with a setting of its own for X and four different expectation values.
PROGRAM = assemble(
    3,
    [
        Gate("ry", (0,), (0,)),
        Gate("ry", (1,), (1,)),
        Gate("cx", (0, 1)),
        Gate("rx", (2,), (2,)),
        Gate("cx", (1, 2)),
        Gate("ry", (0,), (3,)),
    ],
    [Expr("input", ("a", i)) for i in range(4)],
    {"a": (4,)},
    {},
)
OBSERVABLES = (
    ((1.0, ((0, "Z"),)),),
    ((1.0, ((1, "Z"),)),),
    ((1.0, ((2, "Z"),)),),
    ((0.5, ((0, "X"), (1, "Z"))), (0.25, ())),
)
FLAT = flatten(PROGRAM, OBSERVABLES)
ANGLES = np.array([[0.3, 0.9, 0.4, 0.2], [2.0, -0.5, 1.1, -1.0], [-0.7, 0.1, 2.9, 0.8]])
RAW = RuntimeMitigation(readout=False)


def exact():
    machine = Exact().connect(Session())
    return machine.collect(machine.submit(machine.compile(FLAT.program, OBSERVABLES), ANGLES, None, "k")).values


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))  # layouts are found once


@pytest.fixture
def service(monkeypatch):
    with Loopback() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def opened(tmp_path, budget=60.0, **changes):
    """Return a machine that notes its pauses in `machine.pauses` and makes none."""
    given = {"shots": 100, "mitigation": RAW, "transpilations": 2} | changes
    machine = IBM(DEVICE, **given).connect(Session(1, tmp_path / "jobs.jsonl", budget))
    machine.pauses = []
    machine.sleep = machine.pauses.append
    return machine


def measure(machine, key="k", shots=100, angles=ANGLES):
    return machine.collect(submit(machine, key, shots, angles))


def submit(machine, key="k", shots=100, angles=ANGLES):
    return machine.submit(machine.compile(FLAT.program, OBSERVABLES), angles, shots, key)


def test_values_come_back_in_order_from_one_job_with_the_bill_that_was_estimated(service, tmp_path):
    machine = opened(tmp_path, mitigation=RuntimeMitigation())
    estimate = machine.estimate(machine.compile(FLAT.program, OBSERVABLES), 3, 4000)
    assert service.bill == (0, 0.0)
    found = measure(machine, shots=4000)
    assert (
        np.abs(found.values - exact()).max() < 0.2
    )  # device noise; any two values of a row or a column differ by more
    assert np.abs(found.values - exact()).mean() < 0.07
    ideal = Shots(4000).connect(Session())
    sampled = ideal.collect(ideal.submit(ideal.compile(FLAT.program, OBSERVABLES), ANGLES, 4000, "k")).variances
    assert (found.variances > 0.5 * sampled).all()
    assert (found.variances < 10 * sampled + 1e-3).all()
    assert found.shots.tolist() == [8000] * 3
    assert service.jobs[0].executions == estimate.shots == found.cost.shots == 4000 * (3 * 2 + 1)  # 1: readout
    assert service.bill == (1, pytest.approx(estimate.qpu_seconds))
    assert machine.spent() == found.cost.qpu_seconds == pytest.approx(2 + 3.5e-4 * 28000)
    assert machine.remaining() == pytest.approx(60 - machine.spent())
    assert service.requests["POST /jobs"] == 1


def test_readout_mitigation_brings_values_nearer(service, tmp_path):
    # The device's qubits are misread at up to 10 %; 4000 shots give errors of about .02 in each of twelve values.
    raw, mitigated = (
        np.abs(measure(opened(tmp_path, mitigation=some), str(some), 4000).values - exact()).mean()
        for some in (RAW, RuntimeMitigation())
    )
    assert mitigated < raw


def test_the_record_has_calibration_layout_versions_and_jobs_and_no_secret(service, tmp_path):
    found = measure(opened(tmp_path))
    about = found.metadata
    assert about["jobs"] == ["job-1"]
    assert about["calibration"]["time"] == "2025-01-01T12:00:00+00:00"
    assert len(set(about["layout"])) == 3
    for qubit in map(str, about["layout"]):
        assert set(about["calibration"]["qubits"][qubit]) == {"T1", "T2", "readout_error"}
    assert any(name.startswith("cx ") for name in about["calibration"]["gates"])
    assert set(about["versions"]) >= {"qiskit", "qiskit-ibm-runtime"}
    assert about["billed"] is True
    assert about["calibration_changed"] is False
    written = (tmp_path / "jobs.jsonl").read_text() + json.dumps(about)
    assert API_KEY not in written
    assert CRN not in written


def test_a_budget_and_a_journal_are_required_before_anything_is_asked(service, tmp_path):
    with pytest.raises(BackendError, match="--max-qpu-seconds"):
        IBM(DEVICE).connect(Session(journal=tmp_path / "jobs.jsonl"))
    with pytest.raises(BackendError, match="journal"):
        IBM(DEVICE).connect(Session(max_qpu_seconds=10))
    assert not service.requests


def test_a_submission_over_budget_is_refused_before_it_is_sent(service, tmp_path):
    machine = opened(tmp_path, budget=5.0)
    measure(machine, "first")  # 2 + 600 executions
    assert machine.spent() == pytest.approx(2.21)
    with pytest.raises(BudgetExceeded, match=r"about 4\.1 s .* 2\.2 s are spent and 2\.8 s left.*[Nn]othing was sent"):
        submit(machine, "second", 1000)
    assert service.bill[0] == 1
    measure(machine, "third")  # a smaller one still fits
    with pytest.raises(BudgetExceeded):
        submit(opened(tmp_path, budget=5.0), "fourth")  # also in another process
    assert service.jobs[-1].cap == 3  # the service is told to stop a job at what is left, in whole seconds


def test_too_many_requests_are_waited_out(service, tmp_path):
    machine = opened(tmp_path)
    service.fault("POST /jobs", 429, times=3)
    measure(machine)
    assert machine.pauses == [2, 4, 8]
    assert service.bill[0] == 1


def test_a_dropped_connection_is_tried_again(service, tmp_path):
    service.fault("POST /jobs", "drop")
    measure(opened(tmp_path))
    assert service.bill[0] == 1


def test_a_lost_reply_is_found_by_its_tag_and_not_paid_twice(service, tmp_path):
    service.fault("POST /jobs", "lose")
    found = measure(opened(tmp_path))
    assert found.metadata["jobs"] == ["job-1"]
    assert service.bill[0] == 1
    assert service.requests["POST /jobs"] == 1
    assert service.requests["GET /jobs"] == 2  # the tag was looked up before each attempt


def test_a_service_that_stays_away_is_given_up_and_a_later_start_sends_once(service, tmp_path):
    machine = opened(tmp_path)
    service.fault("POST /jobs", "drop", times=6)
    with pytest.raises(BackendError, match=r"cannot be reached after 6 attempts.*resume"):
        submit(machine)
    assert service.bill[0] == 0
    assert machine.spent() == pytest.approx(2.21)  # it might have been sent
    with pytest.raises(BudgetExceeded, match=r"of 2 s 0\.0 s are spent"):
        submit(opened(tmp_path, budget=2))
    assert service.bill[0] == 0
    again = opened(tmp_path)
    measure(again)
    assert service.bill[0] == 1
    assert again.spent() == pytest.approx(service.bill[1])


def test_a_refused_job_costs_nothing_and_says_why(service, tmp_path):
    machine = opened(tmp_path)
    service.fault("POST /jobs", 400)
    with pytest.raises(BackendError, match=r"refused to submit a job: 400.*as was asked for"):
        submit(machine)
    assert machine.spent() == 0
    measure(machine)
    assert service.bill[0] == 1


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        ("Failed", r"job-1 failed \(.*lost lock\); 2\.21 s were billed.*resume"),
        ("Cancelled", r"job-1 was cancelled; 0 s were billed.*resume"),
        ("too long", r"job-1 failed \(.*longer than maximum execution time.*resume with a larger --max-qpu-seconds"),
    ],
)
def test_a_job_without_a_result_says_so_and_is_sent_anew_on_resuming(service, tmp_path, fate, words):
    service.fate(fate)
    machine = opened(tmp_path)
    handle = submit(machine)
    for _ in range(2):
        with pytest.raises(BackendError, match=words):
            machine.collect(handle)
    assert len(service.jobs) == 1  # asking again sends nothing
    again = opened(tmp_path)
    assert measure(again).metadata["jobs"] == ["job-2"]
    assert again.spent() == pytest.approx(service.bill[1])


def test_an_expired_token_is_renewed(service, tmp_path):
    machine = opened(tmp_path)
    service.expire()
    measure(machine)
    service.expire()
    measure(machine, "next")
    assert service.bill[0] == 2
    assert service.requests["POST /identity/token"] == 3


def test_a_revoked_key_stops_with_advice_and_loses_nothing(service, tmp_path):
    machine = opened(tmp_path)
    handle = submit(machine)
    service.expire()
    service.key_is_valid = False
    with pytest.raises(BackendError, match=r"does not accept this account's token.*Make a new API key.*resume"):
        machine.collect(handle)
    service.key_is_valid = True
    assert measure(opened(tmp_path)).metadata["jobs"] == ["job-1"]
    assert service.bill[0] == 1


def test_a_slow_queue_is_left_after_max_wait_and_the_job_collected_later(service, tmp_path):
    service.hold()
    machine = opened(tmp_path, max_wait=120)
    handle = submit(machine)
    with pytest.raises(BackendError, match=r"job job-1 is queued after .* longer than max_wait.*not be sent or billed"):
        machine.collect(handle)
    assert 120 <= sum(machine.pauses) < 180
    assert machine.pauses[0] == 1
    later = opened(tmp_path)
    assert [pending.to_json() for pending in later.pending()] == [handle.to_json()]
    service.release()
    assert np.abs(later.collect(handle).values - exact()).max() < 0.6  # 100 shots
    assert later.pending() == []
    assert service.bill[0] == 1


def test_a_calibration_in_the_meantime_is_told_and_the_next_job_is_laid_out_anew(service, tmp_path):
    service.hold()
    machine = opened(tmp_path)
    handle = submit(machine)
    service.recalibrate()
    service.release()
    assert machine.collect(handle).metadata["calibration_changed"] is True
    following = measure(machine, "next").metadata
    assert following["calibration_changed"] is False
    assert following["calibration"]["time"] == "2025-01-01T13:00:00+00:00"


def test_rows_of_different_shots_and_large_submissions_are_split(service, tmp_path, monkeypatch):
    monkeypatch.setattr(ibm_machine, "MAX_EXECUTIONS", 8000)  # one row of 2 settings at 4000 shots
    machine = opened(tmp_path)
    shots = np.array([4000, 300, 4000])
    assert machine.estimate(machine.compile(FLAT.program, OBSERVABLES), 3, shots).jobs == 3
    found = measure(machine, shots=shots)
    assert sorted(job.executions for job in service.jobs) == [600, 8000, 8000]
    assert found.shots.tolist() == [8000, 600, 8000]
    assert np.abs(found.values - exact()).max() < 0.35  # rows are where they belong: unmitigated readout and 300 shots
    assert found.cost.qpu_seconds == pytest.approx(service.bill[1])
    with pytest.raises(BackendError, match="5000 shots of one row"):
        submit(machine, "too many", 5000)


def test_a_name_stands_for_one_piece_of_work(service, tmp_path):
    machine = opened(tmp_path)
    first = measure(machine)
    again = measure(opened(tmp_path))
    assert (first.values == again.values).all()  # the same job, asked for twice
    for changed in ({"angles": ANGLES + 0.1}, {"shots": 200}):
        with pytest.raises(BackendError, match="other angles, shots or options"):
            submit(machine, **changed)
    assert service.bill[0] == 1


def test_devices_that_are_not_there_are_refused_by_name(service, tmp_path):
    with pytest.raises(BackendError, match=f"no device 'ibm_manilla' \\(did you mean '{DEVICE}'"):
        IBM("ibm_manilla").connect(Session(1, tmp_path / "jobs.jsonl", 10))


def test_a_simulator_of_the_service_is_refused(service, tmp_path):
    service.is_simulator = True
    with pytest.raises(BackendError, match="is a simulator"):
        IBM(DEVICE).connect(Session(1, tmp_path / "jobs.jsonl", 10))


def test_without_a_service_nothing_runs_anywhere(service, tmp_path, monkeypatch):
    for name in service.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        "qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(tmp_path / "no")
    )
    with pytest.raises(BackendError, match=r"save_account.*no simulator takes its place"):
        IBM(DEVICE).connect(Session(1, tmp_path / "jobs.jsonl", 10))


CRASHING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ibm import measure, opened
measure(opened(Path(sys.argv[1])))
"""


def test_killed_while_its_job_waits_a_process_leaves_a_journal_that_another_collects_from(service, tmp_path):
    service.hold()
    arguments = [sys.executable, "-c", CRASHING, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while service.requests["GET /jobs/*"] < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with (tmp_path / "jobs.jsonl").open("ab") as file:
        file.write(b'{"event": "done", "tag": "qfed')  # a line that the crash cut short
    service.release()
    machine = opened(tmp_path)
    (pending,) = machine.pending()
    by_journal = machine.collect(pending)
    assert by_journal.metadata["jobs"] == ["job-1"]
    assert (measure(machine).values == by_journal.values).all()
    assert service.bill[0] == 1
    assert [json.loads(line)["event"] for line in (tmp_path / "jobs.jsonl").read_text().splitlines()] == [
        "journal",
        "asked",
        "sent",
        "done",
    ]


def test_killed_before_it_heard_of_its_job_a_process_does_not_send_another(service, tmp_path):
    machine = opened(tmp_path)

    def die(job, id):
        raise KeyboardInterrupt

    machine.journal.sent = die
    with pytest.raises(KeyboardInterrupt):
        submit(machine)
    again = opened(tmp_path, budget=2)  # too little for another job
    assert again.spent() == pytest.approx(2.21)
    assert measure(again).metadata["jobs"] == ["job-1"]
    assert service.bill[0] == 1


def test_a_journal_that_is_damaged_is_not_read_over(service, tmp_path):
    measure(opened(tmp_path))
    file = tmp_path / "jobs.jsonl"
    file.write_text(file.read_text().replace('"event": "sent"', '"event": sent', 1))
    with pytest.raises(BackendError, match="restore it, for it says what was billed"):
        opened(tmp_path)


@pytest.mark.parametrize("device", ["manila", "torino"])
def test_a_rehearsal_runs_the_same_code_without_a_service_and_counts_estimated_seconds(tmp_path, device):
    rehearsal = FakeRuntime(device, transpilations=2)
    machine = rehearsal.connect(Session(1, max_qpu_seconds=15))
    found = measure(machine, shots=4000)
    assert np.abs(found.values - exact()).mean() < 0.07
    assert (found.values == measure(rehearsal.connect(Session(1)), shots=4000).values).all()
    assert (found.values != measure(rehearsal.connect(Session(2)), shots=4000).values).any()
    assert machine.spent() == found.cost.qpu_seconds > 11
    assert found.metadata["billed"] is False
    with pytest.raises(BudgetExceeded):
        submit(machine, "more", 4000)
    with pytest.raises(BackendError, match="lives in the process that began it"):
        machine.collect(submit(rehearsal.connect(Session(1))))


def test_circuits_without_angles_and_unknown_devices(tmp_path):
    program = assemble(1, [Gate("h", (0,)), Gate("t", (0,)), Gate("h", (0,))], [], {}, {})  # <Z> = cos(pi/4)
    z = (((1.0, ((0, "Z"),)),),)
    machine = FakeRuntime("manila", transpilations=1).connect(Session(1))
    handle = machine.submit(machine.compile(flatten(program, z).program, z), np.zeros((2, 0)), 4000, "k")
    values = machine.collect(handle).values
    assert values.shape == (2, 1)
    assert np.abs(values - np.sqrt(0.5)).max() < 0.07  # five standard errors of 4000 shots
    assert values[0] != values[1]
    with pytest.raises(BackendError, match="constants"):
        machine.compile(FLAT.program, (((1.0, ()),),))
    with pytest.raises(ConfigurationError, match=r"no fake device 'manilla' \(did you mean 'manila'"):
        FakeRuntime("manilla").connect(Session())
