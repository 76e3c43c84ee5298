"""Runs `qfedfm` commands in forked children, so that killing one costs no start-up: one request a line on stdin.

A request is JSON: `arguments` of the command; `report`, whether it writes its report, which takes long; and
`operation`, null or the number of the file operation at which the child kills itself. Counted are, in the run's
directory, the opening of a file for writing, renaming, truncating, removing and making, and the time before and after
each fsync. The server answers with the child's process id and, when it is gone, its exit status (negative: the signal).
"""

import json
import os
import signal
import sys
from itertools import count

# imported here once, and not anew by every child
import jinja2.ext  # noqa: F401
import openqasm3.parser  # noqa: F401
import pandas  # noqa: F401
import torch

import qfedfm.result
import qfedfm.runs
import qfedfm.sweeps
import qfedfm.swept
from qfedfm.cli import main

CHANGES = {"os.rename", "os.truncate", "os.remove", "os.mkdir", "shutil.rmtree"}
NEVER = {"transformers"}
ONLY_FOR_PICTURES = {"pennylane", "matplotlib.pyplot"}  # a report draws the circuit


def kill_at(operation: int, folder: str) -> None:
    """Have this process killed at its k-th operation on files in `folder`."""
    numbers = count(1)

    def maybe() -> None:
        if next(numbers) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if (writes or event in CHANGES) and folder in str(arguments[0]):
            maybe()

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        maybe()
        sync(descriptor)
        maybe()

    os.fsync = fsync
    sys.addaudithook(audit)


def child(arguments: list[str], operation: int | None, report: bool) -> int:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (open until the child ends)
    if not report:
        qfedfm.result.Result.report = qfedfm.swept.Sweep.report = lambda self: None
    if operation is not None:
        kill_at(operation, os.path.basename(arguments[arguments.index("--directory") + 1]))
    status = main(arguments)
    never = NEVER if report else NEVER | ONLY_FOR_PICTURES
    return 99 if never & set(sys.modules) else status


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


torch.set_num_threads(1)
for line in sys.stdin:
    request = json.loads(line)
    process = os.fork()
    if process == 0:
        os._exit(child(**request))
    answer(process)
    answer(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
