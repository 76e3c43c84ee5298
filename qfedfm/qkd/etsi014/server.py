"""KMEs over HTTPS: FastAPI and uvicorn, TLS 1.2 or better, client certificates required.

The SAE is whom the client certificate names: its subject's one common name. A client without a certificate of the
authority does not get past the TLS handshake. uvicorn does not hand the certificate to the application, so the HTTP
protocol class here puts the name into the state of every request on the connection.

Every answer is an object of the standard, errors too: 400, 401 and 503 are the only codes besides 200, for addresses
that do not exist as well.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from ...errors import ConfigurationError, KeySourceError, MissingExtraError
from ..key_store import KeyStore, KeySupply, RandomSupply
from .certificates import authority_file, certificate_files
from .kme import Kme, Limits, SimulatedLink
from .wire import Error, KeyContainer, KeyIds, KeyRequest, Model, Refusal, Status, read

if TYPE_CHECKING:
    import fastapi
    import uvicorn

BODY_LIMIT = 1 << 20  # bytes
SECONDS_TO_START = 20
SECONDS_TO_STOP = 10


def application(kme: Kme) -> "fastapi.FastAPI":
    """Return the ASGI application of `kme`; `state.sae_id` of a request is the SAE that the certificate names."""
    try:
        import fastapi
    except ImportError:
        raise MissingExtraError("fastapi", "kme", "a KME server") from None
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException

    def answer(status: int, body: Status | KeyContainer | Error) -> Response:
        content = body.model_dump_json(exclude_none=True)
        return Response(content, status, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def body_of(request: fastapi.Request) -> bytes:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_LIMIT:
                raise Refusal(400, f"the request is longer than {BODY_LIMIT} bytes")
        return body

    def refused(_: fastapi.Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return answer(error.status, error.error)

    def unknown(request: fastapi.Request, _: Exception) -> Response:
        return answer(400, Error(message=f"no such request: {request.method} {request.url.path}"))

    def failed(_: fastapi.Request, error: Exception) -> Response:
        reason = f": {error}" if isinstance(error, KeySourceError) else ""
        return answer(503, Error(message=f"the KME failed to handle the request{reason}"))

    app = fastapi.FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(KeySourceError, failed)
    app.add_exception_handler(Exception, failed)
    body_given = fastapi.Depends(body_of)

    @app.get("/api/v1/keys/{slave}/status", response_class=JSONResponse)
    def status(slave: str, request: fastapi.Request) -> Response:
        return answer(200, kme.status(_sae(request.state), slave))

    @app.post("/api/v1/keys/{slave}/enc_keys")
    def enc_keys(slave: str, request: fastapi.Request, body: bytes = body_given) -> Response:
        return answer(200, kme.enc_keys(_sae(request.state), slave, _parse(KeyRequest, body)))

    @app.get("/api/v1/keys/{slave}/enc_keys")
    def enc_keys_simply(slave: str, request: fastapi.Request) -> Response:
        sae, given = _sae(request.state), _query(request.query_params.multi_items(), ("number", "size"))
        numbers = {name: _integer(name, text) for name, text in given.items()}
        return answer(200, kme.enc_keys(sae, slave, KeyRequest(**numbers)))

    @app.post("/api/v1/keys/{master}/dec_keys")
    def dec_keys(master: str, request: fastapi.Request, body: bytes = body_given) -> Response:
        sae, asked = _sae(request.state), _parse(KeyIds, body)
        return answer(200, kme.dec_keys(sae, master, [one.key_ID for one in asked.key_IDs]))

    @app.get("/api/v1/keys/{master}/dec_keys")
    def dec_keys_simply(master: str, request: fastapi.Request) -> Response:
        sae, given = _sae(request.state), _query(request.query_params.multi_items(), ("key_ID",))
        return answer(200, kme.dec_keys(sae, master, list(given.values())))

    return app


def _sae(state: Any) -> str:
    sae = getattr(state, "sae_id", None)
    if not sae:
        raise Refusal(401, "the client certificate should have exactly one common name: it is the SAE id")
    return str(sae)


def _parse(model: type[Model], body: bytes) -> Model:
    try:
        return read(model, body)
    except ValueError as error:
        raise Refusal(400, f"bad request format: {error}") from None


def _query(given: Sequence[tuple[str, str]], known: tuple[str, ...]) -> dict[str, str]:
    if not {name for name, _ in given} <= set(known) or len(dict(given)) < len(given):
        raise Refusal(400, f"bad request format: GET takes {' and '.join(known)}, each once; use POST for all else")
    return dict(given)


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(400, f"bad request format: {name}: expected a whole number")
    return int(text)


class KmeServer:
    """One KME behind HTTPS, in a thread of its own from `start` to `stop`.

    certificate, key: of the server, for `host`. authority: signs the certificates of those who may call. port: 0 takes
    a free one; `url` then says which.
    """

    def __init__(
        self, kme: Kme, *, certificate: Path, key: Path, authority: Path, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.kme = kme
        self._server = _uvicorn(application(kme), certificate, key, authority)
        try:
            self._socket = socket.create_server((host, port), backlog=128)
        except OSError as error:
            raise ConfigurationError(
                f"KME '{kme.kme_id}' cannot listen on {host}:{port} ({error.strerror}): choose another port"
            ) from None
        self.url = f"https://{host}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name=f"kme-{kme.kme_id}", daemon=True
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the server answers."""
        self._thread.start()
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise KeySourceError(f"the server of KME '{self.kme.kme_id}' at {self.url} did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Finish the requests under way and close."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(SECONDS_TO_STOP)
        self._socket.close()


def _uvicorn(app: "fastapi.FastAPI", certificate: Path, key: Path, authority: Path) -> "uvicorn.Server":
    try:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError:
        raise MissingExtraError("uvicorn", "kme", "a KME server") from None

    class WithPeerName(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.app_state = self.app_state | {"sae_id": common_name(transport.get_extra_info("peercert"))}
            # asyncio does so itself only for sockets made with an explicit protocol; else an answer waits 40 ms
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        # TLS says farewell and waits half a minute for an answer, which a client that is idle does not give
        def shutdown(self) -> None:
            super().shutdown()
            self.hang_up()

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self.hang_up()

        def hang_up(self) -> None:
            if self.transport.is_closing():
                self.transport.abort()

    config = uvicorn.Config(
        app,
        http=WithPeerName,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=certificate,
        ssl_keyfile=str(key),
        ssl_ca_certs=str(authority),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"the certificates of a KME cannot be used: {certificate}, {key}: {error}") from None
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return uvicorn.Server(config)


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the one common name of a verified certificate (as `ssl` gives it), or None."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for kind, value in part if kind == "commonName"]
    return str(names[0]) if len(names) == 1 else None


@contextmanager
def serve(
    directory: Path,
    places: Mapping[str, tuple[int, Sequence[str]]],
    host: str = "127.0.0.1",
    limits: Limits | None = None,
    supply: KeySupply | None = None,
) -> Iterator[dict[str, KmeServer]]:
    """Run several KMEs in this process, with a simulated link between every two, until the block is left.

    directory: holds the certificates (see `certificates`) and gets each KME's store. places: KME id to port and SAEs.
    supply: makes the keys of all links; by default nothing is simulated but that there are keys.
    """
    supply = supply or RandomSupply()
    limits = limits or Limits()
    if len(places) < 2:
        raise ConfigurationError(f"keys are for two KMEs at least, one at either end of a link; got {len(places)}")
    lock = FileLock(directory / "kme.lock", timeout=0)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except Timeout:
            raise ConfigurationError(
                f"the key stores in {directory} are in use by other KMEs: stop those, or take a folder of your own"
            ) from None
        kmes = []
        for name, (_, saes) in places.items():
            store = stack.enter_context(KeyStore(directory / f"{name}.sqlite"))
            kmes.append(Kme(name, saes, store, limits))
        for one, other in combinations(kmes, 2):
            SimulatedLink(one, other, supply)
        servers = {}
        for kme in kmes:
            certificate, key = certificate_files(directory, kme.kme_id)
            authority = authority_file(directory)
            server = KmeServer(
                kme, certificate=certificate, key=key, authority=authority, host=host, port=places[kme.kme_id][0]
            )
            servers[kme.kme_id] = stack.enter_context(server)
        yield servers
