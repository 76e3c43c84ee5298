"""The rated sentences of Hutto and Gilbert, fetched, verified and read.

"VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text" (ICWSM 2014,
doi:10.1609/icwsm.v8i1.14550) comes with 23,703 sentences, each rated by about twenty people from -4 (extremely
negative) to 4 (extremely positive). They lie in a tar file inside the source distribution of the PyPI package
vaderSentiment 3.3.2 (MIT). pip fetches that from wherever the user's own configuration points; it is kept in the cache,
and its hash is checked each time it is read. Nothing is unpacked to disk: four members are read by name, in memory.
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..cache import cache_directory, cannot_write, write_atomically
from ..errors import DataError, DownloadError

NAME = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "products": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "editorials": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
}
LARGEST_MEMBER = 8 * 2**20
ELSEWHERE = f"On a machine without network, fetch {NAME} elsewhere and set QFEDFM_VADER_SDIST to its path."

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Sentence:
    """One sentence. group: the review or article it is from, unique over all domains. rating: mean, -4 to 4."""

    domain: str
    group: int
    rating: float
    text: str


def sentences(sdist: bytes) -> tuple[Sentence, ...]:
    """Return all sentences of the source distribution, domain by domain, in the order of its files.

    A line is id, rating and text. Sentences of one review or article share the id up to its underscore. Raises
    DataError for an archive that does not hold the four files.
    """
    archive = _member(sdist, ARCHIVE)
    found = []
    for number, (domain, name) in enumerate(FILES.items()):
        for line in _member(archive, name).decode("utf-8").split("\r\n"):
            identity, rating, text = line.split("\t")
            group = number * 1_000_000 + int(identity.partition("_")[0])
            found.append(Sentence(domain, group, float(rating), text))
    return tuple(found)


def source_distribution(progress: bool = True, run: Run = subprocess.run) -> bytes:
    """Return the verified source distribution: from $QFEDFM_VADER_SDIST, else from the cache, else through pip.

    progress: say on stderr that something is being fetched. run: starts pip; a test may replace it. Raises
    DownloadError where the file cannot be had or is not the one expected, DataError where the cache cannot be written.
    """
    if handed := os.environ.get("QFEDFM_VADER_SDIST"):
        return _handed(Path(handed).expanduser())
    cached = cache_directory() / NAME
    if cached.is_file() and _is_genuine(content := cached.read_bytes()):
        return content
    if progress:
        tqdm.write(f"fetching the rated sentences ({NAME}, 2.4 MB) through pip, once", file=sys.stderr)
    content = _download(run)
    write_atomically(cached, content)
    return content


def _handed(path: Path) -> bytes:
    if not path.is_file():
        raise DownloadError(f"QFEDFM_VADER_SDIST names {path}, which is not a file; it must be {NAME}")
    content = path.read_bytes()
    if not _is_genuine(content):
        raise DownloadError(
            f"{path} (QFEDFM_VADER_SDIST) is not {NAME}: expected sha256 {SHA256}, got {_sha256(content)}"
        )
    return content


def _download(run: Run) -> bytes:
    try:
        with tempfile.TemporaryDirectory() as folder:
            requirement = Path(folder, "requirements.txt")
            requirement.write_text(f"vaderSentiment==3.3.2 --hash=sha256:{SHA256}\n")
            # pip compares the hash before it runs anything of the package, then asks it for metadata.
            options = ["--no-deps", "--no-binary", "vaderSentiment", "--require-hashes", "--no-input"]
            command = [sys.executable, "-m", "pip", "download", *options, "-d", folder, "-r", str(requirement)]
            done = run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise DownloadError(f"{NAME} could not be fetched: {_reason(done.stderr)}. {ELSEWHERE}")
            content = b"".join(file.read_bytes() for file in Path(folder).glob("*.tar.gz"))
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from error
    if not _is_genuine(content):
        raise DownloadError(
            f"pip delivered another {NAME}: expected sha256 {SHA256}, got {_sha256(content)}. {ELSEWHERE}"
        )
    return content


def _reason(stderr: str) -> str:
    if "No module named pip" in stderr:
        return f"{sys.executable} has no pip (try  python -m ensurepip)"
    if "DO NOT MATCH THE HASHES" in stderr:
        return f"the package index offers a file of another hash than {SHA256}, so it was not used"
    if "No space left on device" in stderr:
        return f"the disk is full (pip works in {tempfile.gettempdir()}; set TMPDIR to another folder)"
    last = [line for line in stderr.splitlines() if line.startswith("ERROR")][-1:] or ["pip failed without a message"]
    return f"is there a network, and does pip reach a package index? pip says: {last[0].removesuffix('.')}"


def _member(archive: bytes, name: str) -> bytes:
    """Return the content of the regular file `name` of a gzipped tar file, at most `LARGEST_MEMBER` bytes."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            member = tar.getmember(name)
            if not member.isreg() or member.size > LARGEST_MEMBER:
                raise DataError(
                    f"{name} must be a plain file of at most {LARGEST_MEMBER} bytes; got {member.size} bytes"
                )
            content = tar.extractfile(member)
            assert content is not None  # a regular file has content
            return content.read()
    except (KeyError, tarfile.TarError, OSError) as error:
        raise DataError(f"the archive of rated sentences does not hold {name}: {error}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_genuine(content: bytes) -> bool:
    return _sha256(content) == SHA256
