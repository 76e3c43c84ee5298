"""Progress of long work: a bar on a terminal or in a notebook, one plain line a step where output goes to a file."""

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm


def say(text: str) -> None:
    """Print a line where progress goes."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  (this is what it is for)


class Progress:
    """Counts steps of `total`, beginning at `done`; `advance(text)` shows one more, with what it has to say."""

    def __init__(self, title: str, total: int, done: int = 0, *, enabled: bool = True) -> None:
        self.title, self.enabled = title, enabled
        interactive = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar = tqdm(desc=title, total=total, initial=done, leave=True) if enabled and interactive else None

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
