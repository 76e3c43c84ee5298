"""Where the peers live: an environment of their own, so that their versions bind nobody else."""

import sys
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[2] / ".venv-bench" / "bin" / "python"


def required() -> None:
    """Exit with the lines that make the environment, if it is missing."""
    if not PYTHON.exists():
        sys.exit(
            "the peers' environment is missing; make it with\n"
            "  python3 -m venv .venv-bench\n"
            "  .venv-bench/bin/pip install -e '.[text]' -r benchmarks/requirements.txt"
        )
