"""Keys derived from a secret that both ends hold already: pre-shared keys, not quantum key distribution.

Each key is HKDF-SHA256 (RFC 5869) of a 32-byte secret, with everything that tells the key apart in `info`: sender,
receiver, purpose, a fresh random id and the length. So the two ends need not talk, and a key drawn for one direction or
purpose is of no use in another. Security is computational and rests on the secret: whoever learns it reads all
messages, past ones too. QKD is what removes that; this source lets everything else run without it.
"""

import json
import os
import shlex
import stat
import threading
import uuid
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..declaration import declared
from ..errors import ConfigurationError, KeySourceError
from .keys import Key, Source

SECRET_BYTES = 32
HKDF_LIMIT = 255 * SHA256.digest_size  # bytes; RFC 5869 section 2.3


@declared
class PresharedKeys:
    """A pre-shared secret as the source of keys.

    file: holds the secret as 64 hexadecimal digits and is readable by its owner alone; every node has a copy. Without a
    file, `connect` makes a secret for this process only, and the server and clients in it share the connected source.
    """

    file: Path | None = None
    source: ClassVar[Source] = "preshared"

    def connect(self) -> "PresharedSource":
        """Return the live source; a secret that is missing, malformed or open to others raises `ConfigurationError`."""
        return PresharedSource(os.urandom(SECRET_BYTES) if self.file is None else read_secret(self.file))


class PresharedSource:
    """Derives keys from `secret`, and remembers the ids that were fetched for as long as the process lives.

    Any id yields some key, because the two ends share nothing but the secret: a forged id gives a key that opens
    nothing. After a restart the ids are forgotten; then the attempt number in their header refuses old envelopes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._spent: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        """Return a key under a fresh random id."""
        return self._key(sender, receiver, str(uuid.uuid4()), bits, purpose)

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:
        """Return the key of the one id in `ids`, for the first and last time in this direction."""
        if len(ids) != 1:
            raise KeySourceError(f"a pre-shared key has one id, got {len(ids)}: the sender uses another key source")
        key = self._key(sender, receiver, ids[0], bits, purpose)
        use = (sender, receiver, ids[0])
        with self._lock:
            if use in self._spent:
                raise KeySourceError(
                    f"key '{ids[0]}' from '{sender}' to '{receiver}' was fetched before and is spent: "
                    "the message is a repetition; a sender that tries again must seal it anew"
                )
            self._spent.add(use)
        return key

    def _key(self, sender: str, receiver: str, key_id: str, bits: int, purpose: str) -> Key:
        length, rest = divmod(bits, 8)
        if rest or not 0 < length <= HKDF_LIMIT:
            raise KeySourceError(
                f"a pre-shared key has 8 to {8 * HKDF_LIMIT} bits in whole bytes, got {bits}: one secret cannot be "
                "stretched further, so it does not feed a one-time pad"
            )
        info = json.dumps(["qfedfm preshared key", sender, receiver, purpose, key_id, bits], separators=(",", ":"))
        return Key((key_id,), hkdf_sha256(self._secret, info.encode("ascii"), length), "preshared")


def hkdf_sha256(secret: bytes, info: bytes, length: int, salt: bytes | None = None) -> bytes:
    """Return `length` bytes of HKDF-SHA256 (RFC 5869); no salt is needed for a secret that is uniformly random."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def read_secret(path: Path) -> bytes:
    """Return the 32 bytes that `path` holds in hex; anything else raises `ConfigurationError`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2 * SECRET_BYTES + 2).strip()
    except OSError as error:
        raise ConfigurationError(
            f"the pre-shared secret '{path}' cannot be read ({error.strerror}): make one with\n  {_recipe(path)}\n"
            "and copy it to every node over a channel you trust"
        ) from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"the pre-shared secret '{path}' should be open to its owner alone, got mode {stat.S_IMODE(mode):04o}: "
            f"run  chmod 600 {shlex.quote(str(path))}"
        )
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ConfigurationError(
            f"the pre-shared secret '{path}' should hold {2 * SECRET_BYTES} hexadecimal digits and nothing else: "
            f"move it away and make one with\n  {_recipe(path)}"
        )
    return secret


def _recipe(path: Path) -> str:
    code = (
        "import os, secrets; "
        f"os.write(os.open({str(path)!r}, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), secrets.token_hex(32).encode())"
    )
    return f"python -c {shlex.quote(code)}"
