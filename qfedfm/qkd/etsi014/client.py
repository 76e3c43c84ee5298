"""Keys from a key management entity (KME) by ETSI GS QKD 014 v1.1.1, whoever made it and whatever is behind it.

The sender draws by "get key" (enc_keys), the receiver fetches by "get key with key IDs" (dec_keys), each from the KME
beside it under its own certificate. Trying again cannot use a key twice: a lost answer to enc_keys loses the keys in
it, for nobody learns their ids, and the next attempt gets others; a lost answer to dec_keys loses the key, and then the
next attempt is refused by the KME. A KME that does not keep to that is found out: ids are remembered, and a key that
comes a second time raises `KeySourceError`. So does every answer that is not what was asked for.
"""

import base64
import binascii
import ssl
import threading
import time
import uuid
import weakref
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn
from urllib.parse import quote, urlsplit

from pydantic import Field

from ...declaration import declared
from ...errors import ConfigurationError, KeyExhausted, KeySourceError, MissingExtraError
from ..keys import Key, Source
from .certificates import check_private
from .wire import Error, KeyContainer, Model, Status, canonical, read

if TYPE_CHECKING:
    import httpx

PAUSE_SECONDS = 0.2
"""Before the second attempt; it doubles with each further one."""

LONGEST_ANSWER = 1 << 26  # bytes


@declared
class Etsi014:
    """KMEs as the source of keys.

    url: of the KME, https://host:port; urls: of nodes that stand beside another one. sae_ids: SAE id of every node
    whose id is not its name. certificate, key: PEM files of the node that asks, with {sae} in place of its id if
    several nodes share this declaration; the key is readable by its owner alone. authority: PEM file of who signed the
    KME's certificate. timeout: seconds for each attempt; retries: further attempts where the KME cannot be reached or
    says 503.
    """

    url: str
    certificate: Path
    key: Path
    authority: Path
    urls: dict[str, str] = field(default_factory=dict)
    sae_ids: dict[str, str] = field(default_factory=dict)
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    source: ClassVar[Source] = "etsi014"

    def __post_init__(self) -> None:
        for url in (self.url, *self.urls.values()):
            parts = urlsplit(url)
            if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
                raise ConfigurationError(f"Etsi014: expected the url of a KME such as https://host:8443; got {url!r}")

    def connect(self) -> "Etsi014Source":
        """Return the live source; KMEs and certificates are turned to when the first key is asked for."""
        return Etsi014Source(self)


class Etsi014Source:
    """Draws and fetches keys over HTTPS; safe to call from several threads."""

    def __init__(self, declaration: Etsi014) -> None:
        self._declaration = declaration
        self._clients: dict[str, httpx.Client] = {}
        self._statuses: dict[tuple[str, str], Status] = {}
        self._seen: set[tuple[str, str, int]] = set()
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, _close_all, self._clients)

    def close(self) -> None:
        """Close all connections."""
        self._close()

    def status(self, sender: str, receiver: str) -> Status:
        """Return what the sender's KME says it has for the receiver, asked anew."""
        master, slave = self._sae(sender), self._sae(receiver)
        status = self._ask(Status, sender, "GET", f"{quote(slave, safe='')}/status", None)
        if status.master_SAE_ID != master:
            raise KeySourceError(
                f"the KME takes the certificate of node '{sender}' for SAE '{status.master_SAE_ID}', expected "
                f"'{master}': give its SAE id in sae_ids, or its own certificate"
            )
        if not status.min_key_size <= status.max_key_size:
            raise KeySourceError(f"the KME delivers keys of {status.min_key_size} to {status.max_key_size} bits: none")
        self._statuses[sender, receiver] = status
        return status

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:  # noqa: ARG002  (no place on the wire)
        """Return a key of `bits` bits from the sender's KME, put together from several where one is too short.

        The KME's unit may be longer than what is left to ask for; then the surplus at the end is dropped.
        """
        _check_bits(bits)
        status = self._statuses.get((sender, receiver)) or self.status(sender, receiver)
        size, number = _plan(bits, status)
        keys: list[tuple[str, bytes]] = []
        for start in range(0, number, status.max_key_per_request):
            count = min(number - start, status.max_key_per_request)
            keys += self._enc_keys(sender, receiver, count, size)
        return self._assemble(keys, bits)

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:  # noqa: ARG002
        """Return the key that the sender drew, from the receiver's KME, for the first and last time."""
        _check_bits(bits)
        if not 0 < len(ids) <= bits // 8:
            raise KeySourceError(f"a key of {bits} bits has 1 to {bits // 8} ids, got {len(ids)}")
        try:
            wanted = [canonical(key_id) for key_id in ids]
        except ValueError as error:
            raise KeySourceError(f"key ids of a KME are UUIDs: {error}") from None
        if len(set(wanted)) != len(wanted):
            raise KeySourceError("a key id is named twice: the message was not made by a sound sender")
        limit = self._limit(receiver, sender) if len(ids) > 1 else 1
        keys: list[tuple[str, bytes]] = []
        for start in range(0, len(ids), limit):
            keys += self._dec_keys(sender, receiver, ids[start : start + limit])
        if 8 * sum(len(material) for _, material in keys[:-1]) >= bits:
            raise KeySourceError(f"the {len(ids)} keys named are more than {bits} bits need; they are spent")
        return self._assemble(keys, bits)

    def _enc_keys(self, sender: str, receiver: str, number: int, size: int) -> list[tuple[str, bytes]]:
        path = f"{quote(self._sae(receiver), safe='')}/enc_keys"
        try:
            container = self._ask(KeyContainer, sender, "POST", path, {"number": number, "size": size})
        except _Unavailable as error:
            raise KeyExhausted(f"no key from '{sender}' to '{receiver}': {error}") from error
        except KeySourceError:
            self._statuses.pop((sender, receiver), None)  # perhaps what it grants has changed
            raise
        keys = _keys(container)
        if len(keys) != number or any(8 * len(material) != size for _, material in keys):
            raise KeySourceError(
                f"the KME should deliver {number} keys of {size} bits, got {len(keys)} of "
                f"{sorted({8 * len(material) for _, material in keys})}: none is used"
            )
        self._remember("", "", [key_id for key_id, _ in keys])
        return keys

    def _limit(self, node: str, other: str) -> int:
        """Return how many ids to name in a request: what the node's KME says, or 1 where it tells a slave nothing."""
        try:
            return (self._statuses.get((node, other)) or self.status(node, other)).max_key_per_request
        except KeySourceError:
            return 1

    def _dec_keys(self, sender: str, receiver: str, ids: Sequence[str]) -> list[tuple[str, bytes]]:
        path = f"{quote(self._sae(sender), safe='')}/dec_keys"
        uses = self._remember(sender, receiver, ids)
        body = {"key_IDs": [{"key_ID": key_id} for key_id in ids]}
        try:
            container = self._ask(KeyContainer, receiver, "POST", path, body)
        except KeySourceError:  # nothing came: whether the KME still has the key is for it to say
            with self._lock:
                self._seen -= uses
            raise
        found = {canonical(key_id): material for key_id, material in _keys(container)}
        if found.keys() != {canonical(key_id) for key_id in ids}:
            raise KeySourceError(f"the KME answered with {len(found)} keys other than the {len(ids)} asked for")
        return [(key_id, found[canonical(key_id)]) for key_id in ids]

    def _assemble(self, keys: Sequence[tuple[str, bytes]], bits: int) -> Key:
        material = b"".join(material for _, material in keys)
        if 8 * len(material) < bits:
            raise KeySourceError(f"the KME's keys have {8 * len(material)} bits together, {bits} are needed")
        return Key(tuple(key_id for key_id, _ in keys), material[: bits // 8], "etsi014")

    def _remember(self, sender: str, receiver: str, ids: Sequence[str]) -> set[tuple[str, str, int]]:
        """Note this use of the ids and return the note; `KeySourceError` if one of them was used so before.

        sender, receiver: of a key that is fetched; both empty for one that is drawn, which is once for all.
        """
        uses = {(sender, receiver, uuid.UUID(key_id).int) for key_id in ids}
        with self._lock:
            if uses & self._seen:
                raise KeySourceError(
                    f"a key among {', '.join(ids[:3])} was {'fetched' if receiver else 'drawn'} before and is spent: "
                    "the message is a repetition, or the KME hands keys out twice; seal the message anew"
                )
            self._seen |= uses
        return uses

    def _sae(self, node: str) -> str:
        return self._declaration.sae_ids.get(node, node)

    def _ask(self, model: type[Model], node: str, method: str, path: str, body: dict[str, Any] | None) -> Model:
        """Return the KME's answer to `node`; what it refuses, or does not answer in all attempts, raises."""
        import httpx

        client, url = self._client(node), f"{self._url(node)}/api/v1/keys/{path}"
        lost = False
        for attempt in range(self._declaration.retries + 1):
            if attempt:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                response = client.request(method, url, json=body)
            except httpx.TransportError as error:
                lost = lost or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                failure: KeySourceError = KeySourceError(
                    f"the KME at {url} did not answer in {attempt + 1} attempts ({type(error).__name__}: {error}): "
                    "check that it runs and accepts the certificate"
                )
                failure.__cause__ = error
                continue
            if response.status_code == 200:
                return _read_answer(model, response.content)
            if response.status_code != 503:
                _refused(response.status_code, response.content, lost)
            failure = _Unavailable(f"the KME at {url} cannot serve now: {_message(response.content)}")
        raise failure

    def _url(self, node: str) -> str:
        return self._declaration.urls.get(node, self._declaration.url).rstrip("/")

    def _client(self, node: str) -> "httpx.Client":
        with self._lock:
            if node not in self._clients:
                self._clients[node] = self._connect(node)
            return self._clients[node]

    def _connect(self, node: str) -> "httpx.Client":
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "kme", "a client of a KME") from None
        declaration, sae = self._declaration, self._sae(node)
        certificate, key = (Path(str(p).replace("{sae}", sae)) for p in (declaration.certificate, declaration.key))
        check_private(key)
        try:
            context = ssl.create_default_context(cafile=declaration.authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(
                f"the certificates of node '{node}' cannot be used ({error}): expected PEM files at {certificate}, "
                f"{key} and {declaration.authority}"
            ) from None
        return httpx.Client(verify=context, timeout=declaration.timeout, trust_env=False, follow_redirects=False)


class _Unavailable(KeySourceError):  # noqa: N818
    """The KME answered 503 to every attempt."""


def _close_all(clients: "dict[str, httpx.Client]") -> None:
    for client in clients.values():
        client.close()


def _check_bits(bits: int) -> None:
    if bits <= 0 or bits % 8:
        raise KeySourceError(f"a KME delivers whole bytes of key, got {bits} bits")


def _plan(bits: int, status: Status) -> tuple[int, int]:
    """Return the size of a key and the number of keys to ask for: as few as can be, of one size, and little surplus."""
    largest = status.max_key_size // 8
    number = -(-(bits // 8) // largest) if largest else 0
    if not number:
        raise KeySourceError(f"the KME delivers keys of at most {status.max_key_size} bits: less than a byte")
    size = 8 * -(-(bits // 8) // number)
    smallest = 8 * -(-status.min_key_size // 8)
    return max(size, smallest), number


def _keys(container: KeyContainer) -> list[tuple[str, bytes]]:
    keys = []
    for one in container.keys:
        try:
            canonical(one.key_ID)
            keys.append((one.key_ID, base64.b64decode(one.key, validate=True)))
        except ValueError as error:  # binascii.Error is one
            what = "base64" if isinstance(error, binascii.Error) else "UUID"
            raise KeySourceError(f"the KME delivered a key that is not as the standard says: no valid {what}") from None
    if len({canonical(key_id) for key_id, _ in keys}) != len(keys):
        raise KeySourceError("the KME delivered two keys under one id: none is used")
    return keys


def _read_answer(model: type[Model], content: bytes) -> Model:
    try:
        if len(content) > LONGEST_ANSWER:
            raise ValueError(f"it is longer than {LONGEST_ANSWER} bytes")
        return read(model, content)
    except ValueError as error:
        raise KeySourceError(f"the KME's answer is not a {model.__name__} of ETSI GS QKD 014: {error}") from None


def _message(content: bytes) -> str:
    try:
        return read(Error, content).message
    except ValueError:
        return "it gave no reason"


def _refused(code: int, content: bytes, lost: bool) -> NoReturn:
    reason = _message(content)
    if lost and code == 400:
        raise KeySourceError(
            f"the KME refused: {reason}; an answer to an earlier attempt was lost, and its keys are spent: "
            "seal the message anew"
        )
    advice = {400: "the key is spent or unknown, or the request is not one for this KME", 401: "check the certificate"}
    raise KeySourceError(f"the KME refused with {code}: {reason} ({advice.get(code, 'it is not a conforming KME')})")
