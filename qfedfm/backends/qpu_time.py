"""Time on a quantum processor, which is what is billed, known before anything is sent.

IBM counts the time from the first to the last execution of a job. An execution, one shot of one circuit, waits
`rep_delay` for the qubits to relax, runs the circuit and reads it out; a job adds about two seconds of its own:

    usage = 2 s * jobs + (rep_delay + circuit + measurement) * executions,
    quick = 2 s * jobs + 350 us * executions,

the second with nothing known about circuit and machine. Both are estimates; the bill is what the service reports.
"""

from typing import Any

JOB_SECONDS = 2.0
REP_DELAY_SECONDS = 250e-6
QUICK_SECONDS = 350e-6


def usage_seconds(
    executions: int, circuit_seconds: float, rep_delay: float = REP_DELAY_SECONDS, jobs: int = 1
) -> float:
    """Return the estimated time in seconds.

    executions: circuits times shots. circuit_seconds: length of one circuit, its measurement included.
    rep_delay: seconds between executions. jobs: submissions.
    """
    return JOB_SECONDS * jobs + (rep_delay + circuit_seconds) * executions


def quick_seconds(executions: int, jobs: int = 1) -> float:
    """Return the rough estimate in seconds that needs no compiled circuit."""
    return JOB_SECONDS * jobs + QUICK_SECONDS * executions


def rep_delay_seconds(backend: Any) -> float:
    """Return the default delay between executions of a Qiskit backend; 250 us where it does not tell one."""
    configuration = getattr(backend, "configuration", None)
    told = getattr(configuration(), "default_rep_delay", None) if callable(configuration) else None
    return REP_DELAY_SECONDS if told is None else float(told)
