"""Twenty made pictures in the layouts of the Debian package and of the authors' files stand in for the real ones."""

import gzip
import hashlib
import io
import shutil
import tarfile
from functools import partial

import numpy as np
import pytest
from fake_program import FakeProgram

from qfedfm.cache import cache_directory
from qfedfm.data import FashionMnist, fashion_mnist
from qfedfm.errors import ConfigurationError, DownloadError


def idx_files():
    """Return twenty pictures, sixteen to train, two of each class, the last a copy of the first of its class."""
    pictures = np.random.default_rng(0).integers(256, size=(20, 784), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    pictures[19] = pictures[9]
    found = {}
    for part, rows in (("train", slice(0, 16)), ("t10k", slice(16, 20))):
        count = len(labels[rows])
        head = np.array([2051, count, 28, 28], dtype=">i4").tobytes()
        found[f"{part}-images-idx3-ubyte"] = head + pictures[rows].tobytes()
        found[f"{part}-labels-idx1-ubyte"] = np.array([2049, count], dtype=">i4").tobytes() + labels[rows].tobytes()
    return found, pictures, labels


FILES, PICTURES, LABELS = idx_files()


def package(files=FILES, compression="xz", link=False):
    """Return a Debian package: an `ar` archive of a version, a control file and the data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in files.items():
            packed = gzip.compress(content)
            member = tarfile.TarInfo(f"./usr/share/datasets/fashion-mnist/{name}.gz")
            member.size = len(packed)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member, io.BytesIO(packed))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}": buffer.getvalue()}
    whole = b"!<arch>\n"
    for name, content in members.items():
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        whole += b"\n" * (len(content) % 2)
    return whole


FakeApt = partial(FakeProgram, "dataset-fashion-mnist_0.0~git1-1_all.deb")


@pytest.fixture(autouse=True)
def published(tmp_path, monkeypatch):
    """The made files are the ones expected, nothing is installed, apt is there, and the cache is empty."""
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path / "cache"))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", digests)
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_pictures_come_out_of_the_package_as_they_went_in(compression):
    apt = FakeApt(content=package(compression=compression))
    data = FashionMnist(per_class=2).load(progress=False, run=apt)
    assert apt.commands == [["/usr/bin/apt-get", "download", "dataset-fashion-mnist"]]
    assert data.items.dtype == np.float32
    rows = {(picture.tobytes(), int(label)) for picture, label in zip(PICTURES, LABELS, strict=True)}
    found = np.rint(data.items * 255).astype(np.uint8)
    assert {(picture.tobytes(), int(label)) for picture, label in zip(found, data.labels, strict=True)} == rows
    assert np.bincount(data.labels).tolist() == [2] * 10
    assert data.classes[9] == "Ankle boot"
    ankle_boots = data.groups[data.labels == 9]
    assert ankle_boots[0] == ankle_boots[1]  # copies are never parted
    assert len(np.unique(data.groups)) == 19


def test_apt_is_asked_once_and_a_damaged_cache_is_fetched_again():
    apt = FakeApt(content=package())
    first = FashionMnist(per_class=1).load(progress=False, run=apt)
    assert len(first) == 10
    assert FashionMnist(per_class=1).load(progress=False, run=apt) == first
    assert len(apt.commands) == 1
    (cache_directory() / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert FashionMnist(per_class=1).load(progress=False, run=apt) == first
    assert len(apt.commands) == 2


def test_the_installed_package_serves_and_needs_no_apt(tmp_path):
    (tmp_path / "installed").mkdir()
    for name, content in FILES.items():
        (tmp_path / "installed" / f"{name}.gz").write_bytes(gzip.compress(content))
    assert len(FashionMnist().load(run=FakeApt(code=1))) == 20


def test_files_of_ones_own_serve_and_are_checked_too(tmp_path):
    fetched = FashionMnist().load(progress=False, run=FakeApt(content=package()))
    file, packed, plain = tmp_path / "own.deb", tmp_path / "packed", tmp_path / "plain"
    file.write_bytes(package())
    packed.mkdir()
    plain.mkdir()
    for name, content in FILES.items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(content, 3))
        (plain / name).write_bytes(content)
    silent = FakeApt(code=1)
    for path in (file, packed, plain):
        assert FashionMnist(path=path).load(run=silent) == fetched
    (plain / "t10k-images-idx3-ubyte").write_bytes(FILES["t10k-images-idx3-ubyte"][:-1] + b"?")
    with pytest.raises(DownloadError, match="t10k-images-idx3-ubyte is not the published file: expected sha256"):
        FashionMnist(path=plain).load()
    (plain / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DownloadError, match=r"has no t10k-images-idx3-ubyte.gz.*FashionMnist\(path=...\)"):
        FashionMnist(path=plain).load()
    with pytest.raises(DownloadError, match="does not exist"):
        FashionMnist(path=tmp_path / "nothing").check()
    assert silent.commands == []


OTHER = {name: content + b"?" for name, content in FILES.items()}


@pytest.mark.parametrize(
    ("apt", "message"),
    [
        (FakeApt(100, "E: Unable to locate package dataset-fashion-mnist"), "is there a network, .* Unable to locate"),
        (FakeApt(0), "could not be fetched"),
        (FakeApt(content=b"something else"), "is no Debian package"),
        (FakeApt(content=package({})), "does not hold Fashion-MNIST"),
        (FakeApt(content=package(link=True)), "must be a plain file"),
        (FakeApt(content=package(OTHER)), "is not the published file: expected sha256"),
    ],
    ids=["unknown", "nothing came", "no package", "empty", "link", "other pictures"],
)
def test_what_can_go_wrong_is_explained_and_nothing_is_kept(apt, message):
    with pytest.raises(DownloadError, match=f"(?s){message}"):
        FashionMnist().load(progress=False, run=apt)
    assert not (cache_directory() / "fashion-mnist").exists()


def test_without_apt_the_way_round_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(DownloadError, match=r"fetched by apt-get, which is not on this machine.*path="):
        FashionMnist().load(progress=False)


def test_more_pictures_than_there_are_are_refused():
    with pytest.raises(ConfigurationError, match="less than or equal to 7000"):
        FashionMnist(per_class=7001)
