"""Files that come through a package manager the user has: run it, and say what to do where that fails."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from ..cache import cannot_write
from ..errors import DownloadError

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def fetched(command: Sequence[str], what: str, pattern: str, otherwise: str, progress: bool, run: Run) -> bytes:
    """Return the one file matching `pattern` that `command` leaves in the folder it is run in.

    what: is being fetched, for people. otherwise: what to do without this program or a network. run: starts the
    command, as `subprocess.run` does; a test may replace it. Raises DownloadError where the program is missing, fails
    or leaves no such file, DataError where the temporary folder cannot be written.
    """
    program = shutil.which(command[0])
    if program is None:
        raise DownloadError(f"{what} is fetched by {command[0]}, which is not on this machine. {otherwise}")
    if progress:
        tqdm.write(f"fetching {what} through {command[0]}, once", file=sys.stderr)
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = run([program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False)
            found = sorted(Path(folder).glob(pattern))
            if done.returncode or len(found) != 1:
                raise DownloadError(f"{what} could not be fetched: {_reason(command[0], done.stderr)}. {otherwise}")
            return found[0].read_bytes()
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from error


def _reason(program: str, stderr: str) -> str:
    if "No space left on device" in stderr or "ENOSPC" in stderr:
        return f"the disk is full ({program} works in {tempfile.gettempdir()}; set TMPDIR to another folder)"
    told = [line for line in stderr.splitlines() if line.startswith(("E:", "npm error", "npm ERR!"))]
    last = told[0].strip().removesuffix(".") if told else f"{program} failed without a message"
    return f"is there a network, and does {program} reach its index? It says: {last}"
