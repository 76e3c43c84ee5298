import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError, KeySourceError
from qfedfm.qkd import Key, Keys, PresharedKeys, PresharedSource
from qfedfm.qkd.preshared import hkdf_sha256

SECRET = bytes(range(32))
LINK = ("alice", "bob")


@pytest.mark.parametrize(
    ("secret", "salt", "info", "length", "output"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.3"],
)
def test_hkdf_matches_the_vectors_of_rfc_5869(secret, salt, info, length, output):
    secret, salt, info = (bytes.fromhex(text) for text in (secret, salt, info))
    assert hkdf_sha256(secret, info, length, salt or None).hex() == output


def test_both_ends_get_the_same_key_though_they_share_only_the_secret():
    drawn = PresharedSource(SECRET).draw(*LINK, 256, "update")
    assert PresharedSource(SECRET).fetch(*LINK, drawn.ids, 256, "update") == drawn
    assert len(drawn.material) == 32
    assert drawn.source == "preshared"


def test_derivation_does_not_change_silently():
    ids = ("00000000-0000-4000-8000-000000000001",)
    info = b'["qfedfm preshared key","alice","Z\\u00fcrich","update","00000000-0000-4000-8000-000000000001",256]'
    fetched = PresharedSource(SECRET).fetch("alice", "Zürich", ids, 256, "update")
    assert fetched.material == hkdf_sha256(SECRET, info, 32)


@pytest.mark.parametrize(
    ("sender", "receiver", "bits", "purpose", "secret"),
    [
        ("bob", "alice", 256, "update", SECRET),
        ("alice", "bob2", 256, "update", SECRET),
        ('alice","bob', "", 256, "update", SECRET),
        ("alice", "bob", 512, "update", SECRET),
        ("alice", "bob", 256, "model", SECRET),
        ("alice", "bob", 256, "update", bytes(32)),
    ],
)
def test_a_key_is_of_no_use_for_anything_else(sender, receiver, bits, purpose, secret):
    drawn = PresharedSource(SECRET).draw(*LINK, 256, "update")
    other = PresharedSource(secret).fetch(sender, receiver, drawn.ids, bits, purpose)
    assert other.material[:32] != drawn.material


def test_an_id_is_fetched_once_in_each_direction_whatever_else_is_asked():
    source = PresharedSource(SECRET)
    ids = source.draw(*LINK, 256, "update").ids
    source.fetch("mallory", "bob", ids, 256, "update")  # naming another's id does not spend it
    source.fetch(*LINK, ids, 256, "update")
    for bits, purpose in [(256, "update"), (512, "update"), (256, "model")]:
        with pytest.raises(KeySourceError, match="is spent"):
            source.fetch(*LINK, ids, bits, purpose)
    source.fetch("bob", "alice", ids, 256, "update")
    with pytest.raises(KeySourceError, match="is spent"):
        source.fetch("bob", "alice", ids, 256, "update")


def test_of_many_threads_that_fetch_one_id_exactly_one_gets_it():
    source = PresharedSource(SECRET)
    ids = source.draw(*LINK, 256, "update").ids

    def fetch(_):
        try:
            return source.fetch(*LINK, ids, 256, "update")
        except KeySourceError:
            return None

    with ThreadPoolExecutor(8) as pool:
        got = [key for key in pool.map(fetch, range(400)) if key]
    assert len(got) == 1


def test_keys_and_ids_never_repeat_and_ids_have_one_length():
    source = PresharedSource(SECRET)
    keys = [source.draw(*LINK, 256, "update") for _ in range(1000)]
    assert len({key.ids for key in keys}) == len({key.material for key in keys}) == 1000
    assert {len(key.ids[0]) for key in keys} == {36}


@settings(derandomize=True, max_examples=50)
@given(st.integers(-9, 70_000))
def test_a_key_has_exactly_the_bits_asked_for_or_there_is_none(bits):
    source = PresharedSource(SECRET)
    if bits % 8 == 0 and 0 < bits <= 255 * 256:
        assert 8 * len(source.draw(*LINK, bits, "update").material) == bits
    else:
        with pytest.raises(KeySourceError, match=f"got {bits}"):
            source.draw(*LINK, bits, "update")


@pytest.mark.parametrize("ids", [(), ("a", "b")])
def test_another_number_of_ids_is_refused(ids):
    with pytest.raises(KeySourceError, match=f"one id, got {len(ids)}"):
        PresharedSource(SECRET).fetch(*LINK, ids, 256, "update")


def test_material_is_never_printed():
    source = PresharedSource(SECRET)
    key = source.draw(*LINK, 256, "update")
    shown = f"{key} {key!r} {source!r} {vars(key).keys()}"
    assert repr(key.material)[2:-1] not in shown
    assert repr(SECRET)[2:-1] not in shown
    assert repr(Key(("1",), b"top secret", "preshared")) == "Key(ids=('1',), source='preshared')"


def test_without_a_file_every_connection_has_a_secret_of_its_own():
    keys = PresharedKeys()
    assert isinstance(keys, Keys)
    drawn = keys.connect().draw(*LINK, 256, "update")
    assert keys.connect().fetch(*LINK, drawn.ids, 256, "update").material != drawn.material


def secret_file(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return PresharedKeys(path)


def test_two_nodes_with_one_file_share_keys(tmp_path):
    keys = secret_file(tmp_path / "secret.hex", SECRET.hex() + "\n")
    drawn = keys.connect().draw(*LINK, 256, "update")
    assert PresharedSource(SECRET).fetch(*LINK, drawn.ids, 256, "update") == drawn


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "\nmore", "é" * 32])
def test_a_file_with_anything_else_in_it_is_refused_and_not_shown(tmp_path, text):
    with pytest.raises(ConfigurationError, match="should hold 64 hexadecimal digits") as caught:
        secret_file(tmp_path / "secret.hex", text).connect()
    assert "abab" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o777])
def test_a_file_that_others_can_open_is_refused(tmp_path, mode):
    with pytest.raises(ConfigurationError, match="chmod 600"):
        secret_file(tmp_path / "secret.hex", SECRET.hex(), mode).connect()


def test_a_missing_file_is_made_by_the_line_in_the_error(tmp_path):
    path = tmp_path / "it's here.hex"
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        PresharedKeys(path).connect()
    line = str(caught.value).splitlines()[1]
    python, *arguments = shlex.split(line)
    assert python == "python"
    old = os.umask(0)
    try:
        subprocess.run([sys.executable, *arguments], check=True, timeout=60)
    finally:
        os.umask(old)
    drawn = PresharedKeys(path).connect().draw(*LINK, 256, "update")
    assert PresharedSource(bytes.fromhex(path.read_text())).fetch(*LINK, drawn.ids, 256, "update") == drawn
