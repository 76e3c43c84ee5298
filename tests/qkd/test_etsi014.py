"""ETSI GS QKD 014 v1.1.1: running KMEs asked by others' clients, and our client before KMEs that are lax or fail."""

import asyncio
import base64
import json
import socket
import ssl
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from etsi_qkd_014_client import QKD014Client
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.cli import main
from qfedfm.errors import ConfigurationError, KeyExhausted, KeySourceError
from qfedfm.qkd.etsi014 import Etsi014, Etsi014Source, Kme, KmeServer, Limits, SimulatedLink
from qfedfm.qkd.etsi014.certificates import authority_file, certificate_files, make_certificates
from qfedfm.qkd.etsi014.client import _plan
from qfedfm.qkd.etsi014.server import application, common_name
from qfedfm.qkd.etsi014.wire import NOT_FOUND, KeyRequest, Refusal, Status
from qfedfm.qkd.key_store import KeyStore, RandomSupply
from qfedfm.qkd.keys import Keys

LIMITS = Limits(max_key_count=40, max_key_per_request=6, max_key_size=1024, max_SAE_ID_count=2)
STATUS = Status(
    source_KME_ID="k", target_KME_ID="l", master_SAE_ID="alice", slave_SAE_ID="bob", key_size=256, stored_key_count=9,
    max_key_count=9, max_key_per_request=2, max_key_size=512, min_key_size=64, max_SAE_ID_count=0,
)  # fmt: skip


class Site:
    """Running KMEs with their certificates."""

    def __init__(self, directory, servers):
        self.directory, self.urls = directory, {name: server.url for name, server in servers.items()}
        self.clients = {
            sae: httpx.Client(verify=self.context(sae), trust_env=False, timeout=20)
            for sae in ("alice", "bob", "carol", "dave", "stranger")
        }

    def context(self, sae=None):
        context = ssl.create_default_context(cafile=self.directory / "authority.pem")
        if sae:
            context.load_cert_chain(self.directory / f"{sae}.pem", self.directory / f"{sae}.key")
        return context

    def ask(self, sae, kme, method, path, body=None, **options):
        answer = self.clients[sae].request(method, f"{self.urls[kme]}/api/v1/keys/{path}", json=body, **options)
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) <= {"message", "details"} or answer.status_code == 200
        return answer.status_code, answer.json()

    def keys(self, **options):
        files = [self.directory / name for name in ("{sae}.pem", "{sae}.key", "authority.pem")]
        return Etsi014(
            self.urls["kme-1"], *files, urls={"bob": self.urls["kme-2"], "carol": self.urls["kme-2"]}, **options
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kme")
    make_certificates(directory, ["kme-1", "kme-2", "kme-3"], ["alice", "bob", "carol", "dave", "stranger"])
    places = {"kme-1": ["alice"], "kme-2": ["bob", "carol"], "kme-3": ["dave"]}
    kmes = [
        Kme(name, saes, KeyStore(), LIMITS) for name, saes in places.items()
    ]  # the commands' test has them in files
    for one, other in combinations(kmes, 2):
        SimulatedLink(one, other, RandomSupply())
    with ExitStack() as stack:
        servers = {}
        for kme in kmes:
            certificate, key = certificate_files(directory, kme.kme_id)
            server = KmeServer(kme, certificate=certificate, key=key, authority=authority_file(directory))
            servers[kme.kme_id] = stack.enter_context(server)
        site = Site(directory, servers)
        yield site
        for client in site.clients.values():
            client.close()


def enc(site, body=None, slave="bob"):
    code, answer = site.ask("alice", "kme-1", "POST", f"{slave}/enc_keys", body or {})
    assert code == 200
    return answer["keys"]


def named(keys):
    return {"key_IDs": [{"key_ID": key["key_ID"]} for key in keys]}


def test_the_status_has_the_fields_of_section_6_1(site):
    code, answer = site.ask("alice", "kme-1", "GET", "bob/status")
    stored = answer.pop("stored_key_count")
    assert code == 200
    assert 10 <= stored <= 40
    assert answer == {
        "source_KME_ID": "kme-1", "target_KME_ID": "kme-2", "master_SAE_ID": "alice", "slave_SAE_ID": "bob",
        "key_size": 256, "max_key_count": 40, "max_key_per_request": 6, "max_key_size": 1024, "min_key_size": 64,
        "max_SAE_ID_count": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "body", "query", "number", "size"),
    [
        ("POST", {"number": 3, "size": 512}, {}, 3, 512),
        ("POST", {}, {}, 1, 256),
        ("POST", None, {}, 1, 256),
        ("POST", {"number": None, "size": None, "extension_optional": [{"colour": "red"}], "new": 1}, {}, 1, 256),
        ("GET", None, {}, 1, 256),
        ("GET", None, {"number": 2, "size": 64}, 2, 64),
    ],
)
def test_keys_of_the_size_asked_for_reach_the_slave_and_are_gone(site, method, body, query, number, size):
    code, answer = site.ask("alice", "kme-1", method, "bob/enc_keys", body, params=query)
    keys = answer["keys"]
    assert code == 200
    assert len({str(uuid.UUID(key["key_ID"])) for key in keys}) == number
    assert [len(base64.b64decode(key["key"], validate=True)) for key in keys] == [size // 8] * number
    if number == 1:
        query = {"key_ID": keys[0]["key_ID"]}
        assert site.ask("bob", "kme-2", "GET", "alice/dec_keys", params=query) == (200, {"keys": keys})
        assert site.ask("bob", "kme-2", "GET", "alice/dec_keys", params=query)[0] == 400
    else:
        assert site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys)) == (200, {"keys": keys})
    code, answer = site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys))
    assert (code, answer["message"]) == (400, "one or more keys specified are not found on KME")
    assert len(answer["details"]) == number


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"size": 250}, "size shall be a multiple of 8"),
        ({"size": 56}, "size shall be 64 to 1024 bits, got 56"),
        ({"size": 1032}, "size shall be 64 to 1024 bits, got 1032"),
        ({"number": 7}, "number shall be 1 to 6, got 7"),
        ({"number": 0}, "number shall be 1 to 6, got 0"),
        ({"number": -1}, "number shall be 1 to 6, got -1"),
        ({"number": "2"}, "bad request format: number"),
        ({"number": True}, "bad request format: number"),
        ({"number": 1.5}, "bad request format: number"),
        ({"extension_mandatory": [{"route": "direct"}]}, "not all extension_mandatory parameters are supported"),
        ({"extension_mandatory": "route"}, "bad request format: extension_mandatory"),
        ({"additional_slave_SAE_IDs": ["carol", "dave", "erin"]}, "at most 2 additional_slave_SAE_IDs"),
        ({"additional_slave_SAE_IDs": ["bob"]}, "named twice"),
        ({"additional_slave_SAE_IDs": ["nobody"]}, "no link of KME 'kme-1' leads to an SAE 'nobody'"),
        ([], "bad request format"),
    ],
)
def test_a_request_that_cannot_be_met_is_a_400_with_a_reason(site, body, message):
    code, answer = site.ask("alice", "kme-1", "POST", "bob/enc_keys", body)
    assert code == 400
    assert message in answer["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "bob/enc_keys?number=two"),
        ("GET", "bob/enc_keys?number=1&number=2"),
        ("GET", "bob/enc_keys?extension_mandatory=x"),
        ("GET", "alice/dec_keys"),
        ("GET", "alice/dec_keys?key_ID=1234"),
        ("GET", "nobody/status"),
        ("GET", "alice/status"),
        ("POST", "bob/status"),
        ("DELETE", "bob/enc_keys"),
        ("GET", "bob/no_keys"),
        ("GET", "../../"),
    ],
)
def test_there_is_no_404_nor_405(site, method, path):
    assert site.ask("alice", "kme-1", method, path)[0] == 400


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b'{"key_IDs": []}', b"{}", b'{"key_IDs": [{"key_ID": "x"}]}', b" " * (1 << 21)]
)
def test_malformed_bodies_are_400(site, body):
    answer = site.clients["bob"].post(f"{site.urls['kme-2']}/api/v1/keys/alice/dec_keys", content=body)
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_a_key_named_twice_is_not_delivered_twice(site):
    keys = enc(site)
    assert site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys * 2))[0] == 400
    assert site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys)) == (200, {"keys": keys})


def test_all_keys_of_a_request_or_none(site):
    keys = enc(site, {"number": 2})
    unknown = {"key_ID": str(uuid.uuid4())}
    code, answer = site.ask("bob", "kme-2", "POST", "alice/dec_keys", named([*keys, unknown]))
    assert (code, answer) == (400, {"message": NOT_FOUND, "details": [unknown]})
    assert site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys)) == (200, {"keys": keys})


def test_who_was_not_named_as_slave_gets_401_and_the_slave_still_its_key(site):
    keys = enc(site)
    code, answer = site.ask("carol", "kme-2", "POST", "alice/dec_keys", named(keys))
    assert code == 401
    assert "not named as a slave" in answer["message"]
    assert site.ask("bob", "kme-2", "POST", "carol/dec_keys", named(keys))[0] == 400  # another master
    assert site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys))[0] == 200
    assert site.ask("carol", "kme-2", "POST", "alice/dec_keys", named(keys))[0] == 401


@pytest.mark.parametrize(
    "path", ["bob/status", "bob/enc_keys", "bob/dec_keys?key_ID=1f0c6a5e-8f6b-4c55-9d6e-3f1f6f2f7a10"]
)
def test_an_sae_of_another_kme_is_not_authorised(site, path):
    for sae in ("stranger", "bob"):
        code, answer = site.ask(sae, "kme-1", "GET", path)
        assert code == 401
        assert f"'{sae}'" in answer["message"]


def test_multicast_over_three_kmes_gives_one_key_to_each_slave_once(site):
    keys = enc(site, {"number": 2, "size": 128, "additional_slave_SAE_IDs": ["carol", "dave"]})
    for sae, kme in [("bob", "kme-2"), ("carol", "kme-2"), ("dave", "kme-3")]:
        assert site.ask(sae, kme, "POST", "alice/dec_keys", named(keys)) == (200, {"keys": keys})
        assert site.ask(sae, kme, "POST", "alice/dec_keys", named(keys))[0] == 400


def test_many_clients_at_once_get_different_keys(site):
    def work(_):
        keys = enc(site, {"number": 2})
        return keys, site.ask("bob", "kme-2", "POST", "alice/dec_keys", named(keys))

    def back(_):
        return site.ask("bob", "kme-2", "GET", "alice/enc_keys")[1]["keys"]

    with ThreadPoolExecutor(6) as pool:
        backwards = pool.map(back, range(6))
        done = list(pool.map(work, range(12)))
        keys = [key for got in backwards for key in got]
    assert all(answer == (200, {"keys": given_keys}) for given_keys, answer in done)
    keys += [key for given_keys, _ in done for key in given_keys]
    assert len({key["key_ID"] for key in keys}) == len({key["key"] for key in keys}) == 30


def test_of_many_who_ask_for_one_key_one_gets_it(site):
    body = named(enc(site))
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda _: site.ask("bob", "kme-2", "POST", "alice/dec_keys", body)[0], range(6)))
    assert sorted(codes) == [200] + [400] * 5


def test_without_a_certificate_of_the_authority_tls_ends_the_connection(site, tmp_path):
    make_certificates(tmp_path, ["kme-1"], ["alice"])
    forged = site.context()
    forged.load_cert_chain(tmp_path / "alice.pem", tmp_path / "alice.key")
    server = site.context()
    server.load_cert_chain(site.directory / "kme-2.pem", site.directory / "kme-2.key")  # good for a server only
    host, _, port = site.urls["kme-1"].removeprefix("https://").partition(":")
    for context in (site.context(), forged, server):
        with httpx.Client(verify=context, trust_env=False) as client, pytest.raises(httpx.TransportError):
            client.get(f"{site.urls['kme-1']}/api/v1/keys/bob/status")
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the client's handshake ends after the server's verdict
        with (
            socket.create_connection((host, int(port)), 10) as plain,
            pytest.raises((ssl.SSLError, ConnectionResetError)),
        ):
            context.wrap_socket(plain, server_hostname=host)


def test_tls_below_1_2_and_plain_http_are_refused(site):
    host, _, port = site.urls["kme-1"].removeprefix("https://").partition(":")
    old = site.context("alice")
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host, int(port)), 10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname=host)
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(f"http://{host}:{port}/api/v1/keys/bob/status")
    new = site.context("alice")
    new.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        new.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        assert wrapped.version() == "TLSv1.2"


def test_the_client_of_lip6_talks_to_our_kmes(site):
    def client(sae, kme):
        files = [str(site.directory / name) for name in (f"{sae}.pem", f"{sae}.key", "authority.pem")]
        return QKD014Client(site.urls[kme].removeprefix("https://"), *files)

    alice, bob, carol = client("alice", "kme-1"), client("bob", "kme-2"), client("carol", "kme-2")
    code, status = alice.get_status("bob")
    assert (code, status.target_kme_id, status.key_size, status.max_key_per_request) == (200, "kme-2", 256, 6)
    for options in ({}, {"number": 3, "size": 128}, {"additional_slave_sae_ids": ["dave"]}):
        code, made = alice.get_key("bob", **options)
        ids = [key.key_id for key in made.keys]
        assert (code, len(ids)) == (200, options.get("number", 1))
        assert carol.get_key_with_key_IDs("alice", ids)[0] == 401
        code, fetched = bob.get_key_with_key_IDs("alice", ids)
        assert (code, [key.key for key in fetched.keys]) == (200, [key.key for key in made.keys])
        code, error = bob.get_key_with_key_IDs("alice", ids)
        assert (code, error.message) == (400, NOT_FOUND)
    code, error = alice.get_key("bob", size=100)
    assert (code, error.message) == (400, "size shall be a multiple of 8")
    code, error = alice.get_key("bob", extension_mandatory=[{"x": 1}])
    assert (code, error.message) == (400, "not all extension_mandatory parameters are supported")


@pytest.mark.parametrize("bits", [8, 64, 256, 1024, 1032, 20000])
def test_our_client_gives_both_ends_one_key_of_any_length_once(site, bits):
    keys = site.keys()
    assert isinstance(keys, Keys)
    ends = keys.connect(), keys.connect()
    drawn = ends[0].draw("alice", "bob", bits, "update")
    assert (8 * len(drawn.material), drawn.source) == (bits, "etsi014")
    assert len(drawn.ids) == -(-bits // 1024)
    assert ends[1].fetch("alice", "bob", drawn.ids, bits, "update") == drawn
    for end in (ends[1], keys.connect()):
        with pytest.raises(KeySourceError, match=r"spent"):
            end.fetch("alice", "bob", drawn.ids, bits, "update")


def test_our_client_says_what_is_wrong(site, tmp_path):
    source = site.keys().connect()
    drawn = source.draw("alice", "bob", 256, "update")
    with pytest.raises(KeySourceError, match="refused with 401: the SAE was not named"):
        source.fetch("alice", "carol", drawn.ids, 256, "update")
    with pytest.raises(KeySourceError, match="1 to 32 ids, got 0"):
        source.fetch("alice", "bob", (), 256, "update")
    with pytest.raises(KeySourceError, match="are UUIDs"):
        source.fetch("alice", "bob", ("x",), 256, "update")
    with pytest.raises(KeySourceError, match="named twice"):
        source.fetch("alice", "bob", drawn.ids * 2, 256, "update")
    with pytest.raises(KeySourceError, match="256 bits together, 512 are needed"):
        source.fetch("alice", "bob", drawn.ids, 512, "update")
    more = [source.draw("alice", "bob", 256, "update").ids[0] for _ in range(2)]
    with pytest.raises(KeySourceError, match="2 keys named are more than 256 bits need"):
        source.fetch("alice", "bob", tuple(more), 256, "update")
    with pytest.raises(KeySourceError, match="no link of KME"):
        source.draw("alice", "nobody", 256, "update")
    with pytest.raises(KeySourceError, match="whole bytes"):
        source.draw("alice", "bob", 12, "update")
    with pytest.raises(KeySourceError, match="for SAE 'alice', expected 'node'"):
        replace(site.keys(), certificate=site.directory / "alice.pem", key=site.directory / "alice.key").connect().draw(
            "node", "bob", 256, "update"
        )
    mapped = site.keys(sae_ids={"server": "alice", "client": "bob"})
    mapped = replace(mapped, urls={"client": site.urls["kme-2"]}).connect()
    drawn = mapped.draw("server", "client", 256, "update")
    assert mapped.fetch("server", "client", drawn.ids, 256, "update") == drawn
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        source.draw("erin", "bob", 256, "update")
    open_key = tmp_path / "open.key"
    open_key.write_bytes((site.directory / "alice.key").read_bytes())
    open_key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="its owner alone, got mode 0644"):
        replace(site.keys(), key=open_key).connect().draw("alice", "bob", 256, "update")
    with pytest.raises(ConfigurationError, match="PEM files at"):
        replace(site.keys(), authority=open_key).connect().draw("alice", "bob", 256, "update")
    for url in ("http://a:1", "https://", "a", "https://a?x=1"):
        with pytest.raises(ConfigurationError, match="expected the url of a KME"):
            replace(site.keys(), url=url)


def test_a_kme_of_another_authority_gets_no_request(site, tmp_path):
    make_certificates(tmp_path, [], ["alice"])
    keys = replace(site.keys(retries=0), authority=tmp_path / "authority.pem")
    with pytest.raises(KeySourceError, match=r"did not answer in 1 attempts .*CERTIFICATE_VERIFY_FAILED"):
        keys.connect().draw("alice", "bob", 256, "update")


def pair(supply, limits=LIMITS, stores=None):
    one, other = stores or (KeyStore(), KeyStore())
    ends = Kme("one", ["alice"], one, limits), Kme("other", ["bob"], other, limits)
    SimulatedLink(*ends, supply)
    return ends


def test_when_the_link_has_no_key_left_the_answer_is_503():
    one, other = pair(RandomSupply(limit=2 * 40 * 256))
    assert one.status("alice", "bob").stored_key_count == other.status("bob", "alice").stored_key_count == 40
    for _ in range(6):
        one.enc_keys("alice", "bob", KeyRequest(number=6))
    with pytest.raises(Refusal, match="not enough keys at this time") as refused:
        one.enc_keys("alice", "bob", KeyRequest(number=6))
    assert refused.value.status == 503
    assert len(one.enc_keys("alice", "bob", KeyRequest(number=4)).keys) == 4
    assert len(other.enc_keys("bob", "alice", KeyRequest(number=6)).keys) == 6  # the other direction has its own


def test_keys_survive_a_restart_and_what_a_crash_left_at_one_end_is_destroyed(tmp_path):
    files = tmp_path / "one", tmp_path / "other"
    with KeyStore(files[0]) as a, KeyStore(files[1]) as b:
        one, other = pair(RandomSupply(), stores=(a, b))
        purpose = one.links["other"].purpose(one, 256)
        (made,) = one.enc_keys("alice", "bob", KeyRequest()).keys
        a.reserve(purpose, 3)  # and then the power fails
    with KeyStore(files[0]) as a, KeyStore(files[1]) as b:
        one, other = pair(RandomSupply(), stores=(a, b))
        assert a.available(purpose) == b.available(purpose)
        assert len(a.available(purpose)) == 36
        assert a.count(purpose, "reserved") == 0
        assert other.dec_keys("bob", "alice", [made.key_ID]).keys == (made,)


def test_no_secret_is_in_clear_between_kmes_and_each_end_keeps_its_own_copy():
    class Noisy:
        """The two ends hold different bits, as after a fault in post-processing."""

        def produce(self, bits):
            return bytes(bits // 8), b"\1" * (bits // 8)

    one, other = pair(Noisy())
    (made,) = one.enc_keys("alice", "bob", KeyRequest()).keys
    (got,) = other.dec_keys("bob", "alice", [made.key_ID]).keys
    assert base64.b64decode(made.key) == bytes(32)
    assert base64.b64decode(got.key) == b"\1" * 32  # nothing corrects it behind the scenes


@pytest.mark.parametrize(("sae", "code", "reason"), [("alice", 503, "failed"), (None, 401, "one common name")])
def test_what_fails_inside_is_a_503_and_nobody_a_401(sae, code, reason):
    one, _ = pair(RandomSupply())
    one.store.close()
    app = application(one)

    async def named_app(scope, receive, send):
        scope["state"] = {"sae_id": sae}
        await app(scope, receive, send)

    async def ask(path):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(named_app)) as client:
            return await client.get(f"http://kme/api/v1/keys/bob/{path}")

    for path in ("status", "enc_keys", f"dec_keys?key_ID={uuid.uuid4()}"):
        answer = asyncio.run(ask(path))
        assert answer.status_code == code
        assert reason in answer.json()["message"] or "cannot deliver" in answer.json()["message"]


def test_limits_and_names_are_checked():
    with pytest.raises(ConfigurationError, match="min_key_size <= key_size"):
        Limits(key_size=32)
    with pytest.raises(ConfigurationError, match="multiple of 8"):
        Limits(key_size=100)
    for name in ("", "a/b", ".hidden", "a" * 65, "ü", "a b"):
        with pytest.raises(ConfigurationError, match="letters, digits"):
            Kme("kme", [name], KeyStore())
    with pytest.raises(ConfigurationError, match="SAEs of their own"):
        SimulatedLink(Kme("a", ["x"], KeyStore()), Kme("b", ["x"], KeyStore()), RandomSupply())


@settings(max_examples=300)
@given(st.integers(1, 10**6), st.integers(1, 5000), st.integers(0, 5000), st.integers(1, 100))
def test_the_plan_covers_the_key_within_the_kmes_limits(length, smallest, more, per_request):
    status = STATUS.model_copy(
        update={"min_key_size": smallest, "max_key_size": smallest + more + 8, "max_key_per_request": per_request}
    )
    size, number = _plan(8 * length, status)
    assert size % 8 == 0
    assert status.min_key_size <= size <= status.max_key_size
    assert number * size >= 8 * length
    assert (number - 1) * size < 8 * length  # what the receiver checks: no key is there for nothing


# ---- our client before KMEs that are not as they should be


class Lax:
    """A KME of the test's own: `answers` are given one after another; an exception in place of one is raised."""

    def __init__(self, monkeypatch, *answers, **options):
        self.answers, self.requests = list(answers), []
        transport = httpx.MockTransport(self.answer)
        monkeypatch.setattr(Etsi014Source, "_connect", lambda source, node: httpx.Client(transport=transport))
        monkeypatch.setattr("qfedfm.qkd.etsi014.client.PAUSE_SECONDS", 0.001)
        self.source = Etsi014("https://kme", Path("c"), Path("k"), Path("a"), **options).connect()

    def answer(self, request):
        self.requests.append((request.method, request.url.path.split("/")[-1], json.loads(request.content or b"null")))
        if request.url.path.endswith("status"):
            return httpx.Response(200, content=STATUS.model_dump_json())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        code, body = answer
        return httpx.Response(code, content=body if isinstance(body, bytes) else json.dumps(body).encode())


def container(*keys, length=32, **more):
    return 200, {
        "keys": [{"key_ID": k, "key": base64.b64encode(k.encode()[:length]).decode(), **more} for k in keys],
        **more,
    }


A, B = "550e8400-e29b-41d4-a716-446655440000", "bc490419-7d60-487f-adc1-4ddcc177c139"


def test_unknown_fields_are_tolerated_and_order_and_case_of_ids_do_not_matter(monkeypatch):
    lax = Lax(monkeypatch, container(A, length=32, key_extension={"x": 1}), container(B, A.upper(), extension=None))
    assert lax.source.draw("alice", "bob", 256, "update").ids == (A,)
    got = lax.source.fetch("bob", "alice", (A, B), 512, "update")
    assert got.material == A.upper().encode()[:32] + B.encode()[:32]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (container(A, length=31), r"1 keys of 256 bits, got 1 of \[248\]"),
        (container(A, B), "1 keys of 256 bits, got 2"),
        (container(), "1 keys of 256 bits, got 0"),
        ((200, {"keys": [{"key_ID": A, "key": "?" * 43 + "="}]}), "no valid base64"),
        ((200, {"keys": [{"key_ID": "1", "key": "AAAA"}]}), "no valid UUID"),
        ((200, {"keys": [{"key_ID": A.replace("-", ""), "key": "AAAA"}]}), "no valid UUID"),
        ((200, {"keys": [{"key_ID": A}]}), "not a KeyContainer of ETSI GS QKD 014: keys.0.key: field required"),
        ((200, {"keys": {}}), "not a KeyContainer"),
        ((200, b"<html>"), "not a KeyContainer"),
        ((200, b""), "not a KeyContainer"),
        ((401, b""), "refused with 401: it gave no reason"),
        ((400, {"message": "no"}), "refused with 400: no"),
        ((404, b"<html>"), "refused with 404: .*not a conforming KME"),
        ((302, b""), "refused with 302"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_no_key(monkeypatch, answer, message):
    lax = Lax(monkeypatch, answer)
    with pytest.raises(KeySourceError, match=message) as raised:
        lax.source.draw("alice", "bob", 256, "update")
    assert "AAAA" not in str(raised.value)
    assert len(lax.requests) == 2  # no second attempt


def test_a_kme_that_hands_a_key_out_twice_is_found_out(monkeypatch):
    lax = Lax(monkeypatch, container(A), container(A.upper()), container(B), container(B), (200, {"keys": []}))
    lax.source.draw("alice", "bob", 256, "update")
    with pytest.raises(KeySourceError, match="was drawn before"):
        lax.source.draw("alice", "carol", 256, "update")
    lax.source.fetch("alice", "bob", (B,), 256, "update")
    with pytest.raises(KeySourceError, match="was fetched before"):
        lax.source.fetch("alice", "bob", (B.upper(),), 256, "update")
    with pytest.raises(KeySourceError, match="1 keys other than the 1 asked for"):
        lax.source.fetch("alice", "bob", (A,), 256, "update")
    with pytest.raises(KeySourceError, match="two keys under one id"):
        Lax(monkeypatch, container(A, A)).source.draw("alice", "bob", 512, "update")


def test_a_lost_answer_to_enc_keys_loses_its_key_and_the_next_attempt_gets_another(monkeypatch):
    lax = Lax(monkeypatch, httpx.ReadTimeout("lost"), httpx.RemoteProtocolError("cut"), container(B))
    assert lax.source.draw("alice", "bob", 256, "update").ids == (B,)
    assert [path for _, path, _ in lax.requests] == ["status"] + ["enc_keys"] * 3


def test_a_lost_answer_to_dec_keys_is_said_when_the_kme_then_refuses(monkeypatch):
    lax = Lax(
        monkeypatch, httpx.ReadTimeout("lost"), (400, {"message": NOT_FOUND}), httpx.ConnectError("no"), container(A)
    )
    with pytest.raises(KeySourceError, match="an answer to an earlier attempt was lost, and its keys are spent"):
        lax.source.fetch("alice", "bob", (A,), 256, "update")
    assert lax.source.fetch("alice", "bob", (A,), 256, "update").ids == (A,)  # never reached the KME: nothing is lost


def test_attempts_are_bounded_and_503_is_exhaustion(monkeypatch):
    busy = (503, {"message": "no key today"})
    lax = Lax(monkeypatch, busy, busy, container(A), busy, busy, busy, *[httpx.ConnectTimeout("slow")] * 3)
    assert lax.source.draw("alice", "bob", 256, "update").ids == (A,)
    with pytest.raises(KeyExhausted, match="no key today"):
        lax.source.draw("alice", "bob", 256, "update")
    with pytest.raises(KeySourceError, match=r"did not answer in 3 attempts \(ConnectTimeout: slow\)"):
        lax.source.draw("alice", "bob", 256, "update")
    assert not lax.answers
    once = Lax(monkeypatch, busy, retries=0)
    with pytest.raises(KeyExhausted):
        once.source.draw("alice", "bob", 256, "update")


def test_several_keys_are_asked_for_within_the_limits(monkeypatch):
    ids = [str(uuid.uuid4()) for _ in range(5)]

    def made(some):
        return 200, {"keys": [{"key_ID": k, "key": base64.b64encode(bytes([i]) * 64).decode()} for i, k in some]}

    some = list(enumerate(ids))
    lax = Lax(
        monkeypatch, made(some[:2]), made(some[2:4]), made(some[4:]), made(some[:2]), made(some[2:4]), made(some[4:])
    )
    drawn = lax.source.draw("alice", "bob", 5 * 512 - 16, "update")
    assert drawn.material == b"".join(bytes([i]) * 64 for i in range(5))[:-2]
    assert [body["number"] for _, path, body in lax.requests if path == "enc_keys"] == [2, 2, 1]
    assert lax.source._limit("alice", "bob") == 2
    assert lax.source.fetch("bob", "alice", drawn.ids, 5 * 512 - 16, "update") == replace(drawn)
    assert [len(body["key_IDs"]) for _, path, body in lax.requests if path == "dec_keys"] == [2, 2, 1]


def test_nothing_listens(tmp_path):
    make_certificates(tmp_path, [], ["alice"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = Etsi014(
        f"https://127.0.0.1:{port}",
        tmp_path / "alice.pem",
        tmp_path / "alice.key",
        tmp_path / "authority.pem",
        retries=1,
    )
    with pytest.raises(KeySourceError, match=r"did not answer in 2 attempts \(ConnectError"):
        keys.connect().draw("alice", "bob", 256, "update")


# ---- certificates and commands


def test_certificates_are_rfc_5280_and_nothing_is_overwritten(tmp_path):
    made = make_certificates(tmp_path, ["kme"], ["alice"], ["kme.example", "::1"])
    authority = x509.load_pem_x509_certificate((tmp_path / "authority.pem").read_bytes())
    server, client = (x509.load_pem_x509_certificate(path.read_bytes()) for path in made)
    verifier = x509.verification.PolicyBuilder().store(x509.verification.Store([authority]))
    verifier.build_server_verifier(x509.DNSName("kme.example")).verify(server, [])
    with pytest.raises(x509.verification.VerificationError):
        verifier.build_server_verifier(x509.DNSName("other.example")).verify(server, [])
    with pytest.raises(x509.verification.VerificationError):
        verifier.build_client_verifier().verify(server, [])
    usage = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for kmes, saes in [(["kme"], []), (["new"], ["alice"]), (["new"], ["new"]), ([], ["authority"])]:
        with pytest.raises(ConfigurationError, match="different names without a certificate"):
            make_certificates(tmp_path, kmes, saes)
    with pytest.raises(ConfigurationError, match="letters, digits"):
        make_certificates(tmp_path, [], ["../alice"])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    make_certificates(tmp_path, [], ["bob"])
    assert (tmp_path / "authority.pem").read_bytes() == before[tmp_path / "authority.pem"]


def test_only_one_common_name_is_an_identity():
    def certificate(*names):
        return {"subject": tuple(((kind, value),) for kind, value in names)}

    assert common_name(certificate(("countryName", "DE"), ("commonName", "alice"))) == "alice"
    assert common_name(certificate(("commonName", "alice"), ("commonName", "bob"))) is None
    assert common_name(certificate(("organizationName", "alice"))) is None
    assert common_name(None) is None


def test_the_commands_make_certificates_and_serve_until_stopped(tmp_path, capsys):
    directory = str(tmp_path / "lab")
    assert main(["kme", "certs", directory, "--kme", "kme-1", "kme-2", "--sae", "alice", "bob"]) == 0
    assert len(capsys.readouterr().out.split()) == 4
    assert main(["kme", "certs", directory, "--sae", "bob"]) == 1
    assert "where bob have one" in capsys.readouterr().err
    places = ["--kme", "kme-1:0=alice", "--kme", "kme-2:0=bob"]
    process = subprocess.Popen(
        [sys.executable, "-m", "qfedfm.cli", "kme", "serve", directory, *places], stdout=subprocess.PIPE, text=True
    )
    try:
        urls = [process.stdout.readline().split()[1] for _ in places[::2]]
        assert "protect nothing" in process.stdout.readline()
        lab = Path(directory)
        keys = Etsi014(
            urls[0], lab / "{sae}.pem", lab / "{sae}.key", lab / "authority.pem", urls={"bob": urls[1]}
        ).connect()
        drawn = keys.draw("alice", "bob", 256, "update")
        assert keys.fetch("alice", "bob", drawn.ids, 256, "update") == drawn
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert (lab / "kme-1.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["kme-1:0=alice"], "two KMEs at least"),
        (["kme-1:0=alice", "kme-1:0=bob"], "a name of its own"),
        (["kme-1:0=alice", "kme-9:0=bob"], "cannot be used"),
        (["kme-1:0=alice", "kme-2:0=alice"], "SAEs of their own"),
        (["kme-1:0=alice", "kme-2:0=a/b"], "letters, digits"),
    ],
)
def test_a_place_that_cannot_be_served_is_said_in_one_line(places, message, tmp_path, capsys):
    make_certificates(tmp_path, ["kme-1", "kme-2"], [])
    options = [word for place in places for word in ("--kme", place)]
    assert main(["kme", "serve", str(tmp_path), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("place", ["kme", "kme:1", "kme=a", ":1=a", "kme:x=a", "kme:99999=a", "kme:1="])
def test_a_malformed_place_is_a_wrong_command_line(place):
    with pytest.raises(SystemExit, match="2"):
        main(["kme", "serve", ".", "--kme", place])
