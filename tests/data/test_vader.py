"""The corpus is compared with what its authors published; every way that fetching fails is played through."""

import errno
import io
import subprocess
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from qfedfm.cache import cache_directory
from qfedfm.data import vader
from qfedfm.errors import DataError, DownloadError


class FakePip:
    """Stands in for subprocess.run: exits with `code`, says `stderr`, and delivers `content` if there is any."""

    def __init__(self, code=0, stderr="", content=None, error=None):
        self.code, self.stderr, self.content, self.error = code, stderr, content, error
        self.commands = []

    def __call__(self, command, **_options):
        self.commands.append(command)
        self.requirement = Path(command[command.index("-r") + 1]).read_text()
        if self.error:
            raise self.error
        if self.content is not None:
            Path(command[command.index("-d") + 1], vader.NAME).write_bytes(self.content)
        return subprocess.CompletedProcess(command, self.code, "", self.stderr)


@pytest.fixture(scope="module")
def sdist():
    return vader.source_distribution()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QFEDFM_VADER_SDIST", raising=False)


def test_the_corpus_is_as_its_readme_describes_it(sdist):
    corpus = vader.sentences(sdist)
    published = {"tweets": 4200, "movies": 10605, "products": 3708, "editorials": 5190}
    assert Counter(one.domain for one in corpus) == published
    assert all(-4 <= one.rating <= 4 and one.text.strip() for one in corpus)
    groups = Counter(domain for domain, _ in {(one.domain, one.group) for one in corpus})
    assert groups == {"tweets": 4200, "movies": 10605, "products": 300, "editorials": 498}
    assert len({one.group for one in corpus}) == groups.total()
    assert corpus[1] == vader.Sentence("tweets", 2, 1.443298969, "Yay. Another good phone interview.")


@pytest.mark.parametrize(
    ("domain", "positive"), [("tweets", 0.68), ("movies", 0.50), ("products", 0.59), ("editorials", 0.40)]
)
def test_the_share_of_positive_sentences_at_threshold_one_half(sdist, domain, positive):
    rated = [one.rating > 0 for one in vader.sentences(sdist) if one.domain == domain and abs(one.rating) >= 0.5]
    assert round(sum(rated) / len(rated), 2) == positive


def test_pip_is_told_to_check_the_hash_and_is_asked_once(empty_cache, sdist, capsys):
    pip = FakePip(content=sdist)
    assert vader.source_distribution(run=pip) == sdist
    assert pip.requirement.strip() == f"vaderSentiment==3.3.2 --hash=sha256:{vader.SHA256}"
    assert {"--require-hashes", "--no-deps"} <= set(pip.commands[0])
    assert "fetching the rated sentences" in capsys.readouterr().err
    assert vader.source_distribution(run=pip) == sdist
    assert len(pip.commands) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: b"X" + content[1:]])
def test_a_damaged_cache_is_fetched_again(empty_cache, sdist, damage):
    cached = cache_directory() / vader.NAME
    cached.parent.mkdir()
    cached.write_bytes(damage(sdist))
    pip = FakePip(content=sdist)
    assert vader.source_distribution(progress=False, run=pip) == sdist
    assert len(pip.commands) == 1
    assert cached.read_bytes() == sdist


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("/usr/bin/python: No module named pip", "has no pip .*ensurepip"),
        (
            "WARNING: Retrying after connection broken\nERROR: Could not find a version that satisfies it\n"
            "ERROR: No matching distribution found for vaderSentiment==3.3.2",
            "is there a network, .* No matching distribution found",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "another hash than 5d7c.*not used",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("", "pip failed without a message"),
    ],
    ids=["no pip", "offline", "wrong hash", "disk full", "silent"],
)
def test_a_failing_pip_is_explained_and_the_way_round_is_named(empty_cache, stderr, message):
    with pytest.raises(DownloadError, match=f"(?s){message}.*QFEDFM_VADER_SDIST"):
        vader.source_distribution(progress=False, run=FakePip(code=1, stderr=stderr))
    assert not (cache_directory() / vader.NAME).exists()


def test_a_file_that_pip_should_have_refused_is_refused_here(empty_cache):
    with pytest.raises(DownloadError, match="expected sha256 5d7c"):
        vader.source_distribution(progress=False, run=FakePip(content=b"something else"))
    assert not (cache_directory() / vader.NAME).exists()


def test_a_full_disk_under_the_temporary_folder(empty_cache):
    pip = FakePip(error=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DataError, match=f"cannot write to {tempfile.gettempdir()}: the disk is full"):
        vader.source_distribution(progress=False, run=pip)


def test_a_file_handed_over_needs_no_pip_and_is_checked_too(empty_cache, monkeypatch, tmp_path, sdist):
    handed = tmp_path / "handed.tar.gz"
    monkeypatch.setenv("QFEDFM_VADER_SDIST", str(handed))
    with pytest.raises(DownloadError, match="which is not a file"):
        vader.source_distribution()
    handed.write_bytes(b"other")
    with pytest.raises(DownloadError, match="expected sha256 5d7c"):
        vader.source_distribution()
    handed.write_bytes(sdist)
    assert vader.source_distribution(run=FakePip(code=1)) == sdist


def packed(name, content=b"", link=None):
    """Return a source distribution whose inner archive holds one member."""

    def archive(name, content, link=None):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    return archive(vader.ARCHIVE, archive(name, content, link))


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (packed("../../escaped.txt", b"1\t1\tx"), "does not hold hutto_ICWSM_2014/tweets"),
        (packed(vader.FILES["tweets"], link="/etc/passwd"), "must be a plain file"),
        (packed(vader.FILES["tweets"], bytes(vader.LARGEST_MEMBER + 1)), "at most 8388608 bytes; got 8388609"),
        (b"no archive", "does not hold"),
    ],
    ids=["path escape", "link", "too large", "no archive"],
)
def test_hostile_archives_are_refused_and_nothing_is_unpacked(hostile, message, tmp_path, monkeypatch):
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with pytest.raises(DataError, match=message):
        vader.sentences(hostile)
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "deeper"]
