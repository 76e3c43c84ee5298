"""Where fetched data and computed features are kept between runs, and how a file gets there whole.

The folder is the platform's cache folder, or the one named by the environment variable QFEDFM_CACHE. A file is written
beside its final place, flushed to disk and renamed: a reader sees the old file, the new one or none, never half of one.
Nothing here is trusted when it is read back: every reader checks a hash.
"""

import os
from errno import EDQUOT, ENOSPC
from pathlib import Path
from uuid import uuid4

import platformdirs

from .errors import DataError


def cache_directory() -> Path:
    """Return the cache folder: $QFEDFM_CACHE if it is set, else the platform's own. It may not exist yet."""
    chosen = os.environ.get("QFEDFM_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("qfedfm")


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` wholly or not at all, making folders as needed.

    Raises DataError where the disk is full or the folder cannot be written; then nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path.parent, error) from error


def cannot_write(folder: Path, error: OSError) -> DataError:
    """Return the DataError that says why `folder` could not be written and what to do."""
    reason = "the disk is full" if error.errno in (ENOSPC, EDQUOT) else f"{error.strerror or error}"
    return DataError(
        f"cannot write to {folder}: {reason}; make room there or use another folder (QFEDFM_CACHE sets the cache's)"
    )
