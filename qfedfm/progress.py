"""Progress of long work: a bar on a terminal or in a notebook, one plain line a step where output goes to a file.

A notebook gets tqdm's widget where ipywidgets is installed and its text bar where it is not, without tqdm's warning.
Under continuous integration (the variable CI is set) there are plain lines everywhere.
"""

import os
import sys
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


def say(text: str) -> None:
    """Print a line where progress goes."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  (this is what it is for)


class Progress:
    """Counts steps of `total`, beginning at `done`; `advance(text)` shows one more, with what it has to say."""

    def __init__(self, title: str, total: int, done: int = 0, *, enabled: bool = True) -> None:
        self.title, self.enabled = title, enabled
        shown = enabled and not os.environ.get("CI") and (sys.stderr.isatty() or in_notebook())
        self._bar = bar()(desc=title, total=total, initial=done, leave=True) if shown else None

    def advance(self, text: str) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif self.enabled:
            say(f"{self.title}: {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def bar() -> "type[tqdm[Any]]":
    """Return the bar that fits where this process writes to."""
    if in_notebook() and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as widget

        return widget
    return tqdm


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell else None
    return found is not None and hasattr(found, "kernel")
