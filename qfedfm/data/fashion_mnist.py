"""Fashion-MNIST: 70,000 grey pictures of ten kinds of clothes (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

28 x 28 pixels, MIT licence. The four files come from a folder of the user's, from the installed Debian package
dataset-fashion-mnist, from the cache, or through `apt-get download` of that package, which is unpacked in memory. It is
the files' content that is checked against hashes each time, so the authors' own downloads serve as well as Debian's.
"""

import gzip
import hashlib
import io
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..cache import cache_directory, write_atomically
from ..declaration import declared
from ..errors import DownloadError
from .dataset import Dataset, Outline, Rows
from .fetch import Run, fetched
from .labels import numbered

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHA256 = {  # of the content: these are headers of 16 (images) or 8 bytes (labels), then a byte a pixel or label
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
PACKAGE = "dataset-fashion-mnist"
PLACE = "usr/share/datasets/fashion-mnist"
INSTALLED = Path("/", PLACE)
LARGEST = 48 * 2**20  # bytes of any of the files, and of the package
OTHERWISE = (
    "Without apt or a network, fetch the four files train-images-idx3-ubyte.gz, ... (the authors' repository is "
    f"zalandoresearch/fashion-mnist) or the Debian package {PACKAGE} elsewhere and give FashionMnist(path=...) their "
    "folder or the .deb file."
)


@declared
class FashionMnist:
    """Grey pictures of clothes, 784 features from 0 (black) to 1, of ten classes.

    per_class: how many pictures of each class, None for all 7,000; a choice of the data's own that no seed changes.
    path: a folder with the four files, or the Debian package; None fetches it. The authors' training and test pictures
    are put together, for an experiment splits rows itself: its figures are not those of their benchmark. Nobody says
    who took a picture: there are no natural clients. Equal pictures form a group.
    """

    per_class: Annotated[int, Field(ge=1, le=7000)] | None = 200
    path: Path | None = None

    def check(self) -> None:
        """Say at once if `path` is not there; what is in it is read later."""
        if self.path is not None and not self.path.expanduser().exists():
            raise DownloadError(f"FashionMnist.path: {self.path} does not exist. {OTHERWISE}")

    def outline(self) -> Outline:
        """Return pictures of ten classes."""
        return Outline(texts=False, features=784, classes=10)

    def load(self, progress: bool = True, run: Run = subprocess.run) -> Dataset:
        """Return the pictures, fetched the first time.

        run: starts apt-get; a test may replace it. Raises DownloadError for files that cannot be had or are not the
        published ones, DataError where the cache cannot be written.
        """
        files = _verified(self._files(progress, run))
        pictures = np.concatenate([_bytes(files[f"{part}-images-idx3-ubyte"], 16) for part in ("train", "t10k")])
        pictures = pictures.reshape(-1, 784)
        labels = np.concatenate([_bytes(files[f"{part}-labels-idx1-ubyte"], 8) for part in ("train", "t10k")])
        chosen = _choice(pictures, labels, self.per_class)
        return Dataset(
            name="fashion-mnist",
            items=pictures[chosen].astype(np.float32) / np.float32(255),
            labels=labels[chosen].astype(np.int64),
            classes=CLASSES,
            groups=numbered(picture.tobytes() for picture in pictures[chosen]),
            domains=np.full(len(chosen), "all"),
        )

    def _files(self, progress: bool, run: Run) -> dict[str, bytes]:
        """Return the content of the files, not verified yet."""
        if self.path is not None:
            self.check()
            path = self.path.expanduser()
            return _of_folder(path) if path.is_dir() else _of_package(path.read_bytes())
        cached = cache_directory() / "fashion-mnist"
        for folder in (INSTALLED, cached):
            if all((folder / f"{name}.gz").is_file() for name in SHA256):
                try:
                    return _verified(_of_folder(folder))
                except DownloadError:  # damaged or another version: what is fetched takes its place
                    continue
        command = ("apt-get", "download", PACKAGE)
        package = fetched(command, "Fashion-MNIST (31 MB)", f"{PACKAGE}_*.deb", OTHERWISE, progress, run)
        files = _verified(_of_package(package))
        for name, content in files.items():
            write_atomically(cached / f"{name}.gz", gzip.compress(content, 1, mtime=0))
        return files


def _choice(pictures: NDArray[np.uint8], labels: NDArray[np.uint8], per_class: int | None) -> Rows:
    """Return the rows to take, in the order of a hash of their pixels, so that the two parts are mixed."""
    keys = [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    return np.concatenate([order[labels[order] == number][:per_class] for number in range(len(CLASSES))])


def _of_folder(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in SHA256:
        packed, plain = folder / f"{name}.gz", folder / name
        if not packed.is_file() and not plain.is_file():
            raise DownloadError(f"{folder} has no {packed.name}. {OTHERWISE}")
        found[name] = _unzipped(packed.read_bytes(), str(packed)) if packed.is_file() else plain.read_bytes()
    return found


def _of_package(package: bytes) -> dict[str, bytes]:
    """Return the files in a Debian package: an `ar` archive of a few members, one of which is a tar file."""
    member = _member(package)
    try:
        with tarfile.open(fileobj=io.BytesIO(member), mode="r:*") as tar:
            found = {}
            for name in SHA256:
                entry = tar.getmember(f"./{PLACE}/{name}.gz")
                if not entry.isreg() or entry.size > LARGEST:
                    raise DownloadError(f"{entry.name} must be a plain file of at most {LARGEST} bytes")
                content = tar.extractfile(entry)
                assert content is not None  # a regular file has content
                found[name] = _unzipped(content.read(), entry.name)
            return found
    except (KeyError, tarfile.TarError, OSError, EOFError) as error:
        raise DownloadError(
            f"the package does not hold Fashion-MNIST as {PACKAGE} does: {error}. {OTHERWISE}"
        ) from error


def _member(package: bytes) -> bytes:
    """Return the member data.tar.* of an `ar` archive: 8 bytes of magic, then a header of 60 bytes for each member."""
    place = 8
    while package[:8] == b"!<arch>\n" and place + 60 <= len(package):
        name, size = package[place : place + 16].decode("latin-1").strip(" /"), package[place + 48 : place + 58].strip()
        if not size.isdigit():
            break
        end = place + 60 + int(size)
        if name.startswith("data.tar"):
            return package[place + 60 : end]
        place = end + end % 2
    raise DownloadError(f"the file is no Debian package. {OTHERWISE}")


def _unzipped(content: bytes, name: str) -> bytes:
    """Return what a gzip file holds, at most `LARGEST` bytes of it."""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            return file.read(LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise DownloadError(f"{name} is no gzip file: {error}. {OTHERWISE}") from error


def _verified(files: dict[str, bytes]) -> dict[str, bytes]:
    for name, content in files.items():
        if (digest := hashlib.sha256(content).hexdigest()) != SHA256[name]:
            raise DownloadError(f"{name} is not the published file: expected sha256 {SHA256[name]}, got {digest}")
    return files


def _bytes(content: bytes, header: int) -> NDArray[np.uint8]:
    return np.frombuffer(content, dtype=np.uint8, offset=header)
