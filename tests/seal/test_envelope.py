import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.codecs import TensorMeta
from qfedfm.errors import SealError
from qfedfm.seal import Aead, Expected, Header, ReplayGuard, Seal
from qfedfm.seal.envelope import MAX_HEADER_BYTES, parse, prefix

A, B = "a" * 64, "b" * 64
HEADER = Header(
    "run-1",
    3,
    1,
    7,
    "update",
    "Zürich",
    "server",
    A,
    B,
    ("dense",),
    (TensorMeta("w", "float32", (2,), 8),),
    "s",
    ("k",),
)
CANONICAL = (
    b'{"attempt":"00000001","base_hash":"' + b"b" * 64 + b'","codecs":["dense"],"key_ids":["k"],"kind":"update",'
    b'"receiver":"server","round":"00000003","run":"run-1","sender":"Z\\u00fcrich","seq":"00000007","spec_hash":"'
    + b"a" * 64
    + b'","suite":"s","tensors":[{"bytes":8,"dtype":"float32","name":"w","shape":[2]}]}'
)
REST = bytes(12) + bytes(8) + bytes(16)  # nonce, eight bytes of payload, tag


def wire(
    header: bytes, length: int | None = None, magic: bytes = b"QFED", version: int = 1, rest: bytes = REST
) -> bytes:
    length = len(header) if length is None else length
    return magic + version.to_bytes(2, "big") + length.to_bytes(4, "big") + header + rest


def with_fields(**changes: object) -> bytes:
    return json.dumps(json.loads(CANONICAL) | changes, sort_keys=True, separators=(",", ":")).encode()


def test_header_is_written_as_worked_by_hand():
    assert HEADER.to_bytes() == CANONICAL
    assert Header.from_bytes(CANONICAL) == HEADER


def test_envelope_is_laid_out_as_worked_by_hand():
    data = wire(CANONICAL, rest=b"n" * 12 + b"c" * 8 + b"t" * 16)
    envelope = parse(data, len(data))
    assert envelope.header == HEADER
    assert envelope.associated == data[:-36] == prefix(HEADER)
    assert (envelope.nonce, envelope.body) == (b"n" * 12, b"c" * 8 + b"t" * 16)


names = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=20)
counters = st.integers(0, 10**8 - 1)
sizes = st.integers(0, 2**53 - 1)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
metas = st.builds(TensorMeta, names, names, st.lists(sizes, max_size=4).map(tuple), sizes)
headers = st.builds(
    Header,
    run=names,
    round=counters,
    attempt=counters,
    seq=counters,
    kind=st.sampled_from(["model", "update", "control"]),
    sender=names,
    receiver=names,
    spec_hash=hashes,
    base_hash=hashes,
    codecs=st.lists(names, max_size=3).map(tuple),
    tensors=st.lists(metas, max_size=3).map(tuple),
    suite=names,
    key_ids=st.lists(names, max_size=3).map(tuple),
)


@settings(derandomize=True, max_examples=100)
@given(headers)
def test_any_header_comes_back_and_reads_as_sorted_ascii_json_without_floats(header):
    raw = header.to_bytes()
    assert Header.from_bytes(raw) == header
    assert raw.isascii()
    value = json.loads(raw, parse_float=pytest.fail, parse_constant=pytest.fail)
    assert list(value) == sorted(value)
    assert json.dumps(value, separators=(",", ":")).encode() == raw


@settings(derandomize=True, max_examples=100)
@given(counters, counters, counters)
def test_length_depends_on_no_counter(round, attempt, seq):
    assert len(replace(HEADER, round=round, attempt=attempt, seq=seq).to_bytes()) == len(CANONICAL)


@pytest.mark.parametrize(
    "raw",
    [
        CANONICAL.replace(b'":"00000001"', b'": "00000001"'),
        CANONICAL + b" ",
        b"\n" + CANONICAL,
        json.dumps(dict(reversed(json.loads(CANONICAL).items())), separators=(",", ":")).encode(),
        CANONICAL.replace(b"{", b'{"attempt":"00000001",', 1),
        CANONICAL.replace(b"{", b'{"attempt":"00000002",', 1),
        CANONICAL.replace(b'"bytes":8', b'"bytes":8,"bytes":8'),
        CANONICAL.replace(b"\\u00fc", b"\\u00FC"),
        CANONICAL.replace(b'"run-1"', b'"\\u0072un-1"'),
        CANONICAL.replace(b"\\u00fc", "ü".encode()),
        CANONICAL.replace(b"\\u00fc", b"\\ud800"),
        CANONICAL.replace(b'"bytes":8', b'"bytes":-0'),
        CANONICAL.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + CANONICAL,
    ],
    ids=[
        "space", "space after", "newline before", "order", "key twice", "key twice, two values", "inner key twice",
        "capital escape", "needless escape", "not ASCII", "lone surrogate", "minus zero", "UTF-16", "byte order mark",
    ],
)  # fmt: skip
def test_a_header_in_any_other_form_is_refused(raw):
    assert raw != CANONICAL
    with pytest.raises(SealError, match="envelope refused"):
        Header.from_bytes(raw)


@pytest.mark.parametrize(
    "number", ["8.0", "8e0", "NaN", "Infinity", "-Infinity", "-1", "true", "null", '"8"', str(2**53)]
)
@pytest.mark.parametrize("place", [b'"bytes":8', b'"shape":[2'])
def test_sizes_are_integers_in_range(number, place):
    raw = CANONICAL.replace(place, place[:-1] + number.encode())
    assert raw != CANONICAL
    with pytest.raises(SealError, match="should be an integer from 0"):
        Header.from_bytes(raw)


@pytest.mark.parametrize("name", ["round", "attempt", "seq"])
@pytest.mark.parametrize(
    "value", [3, 3.0, "3", "000000003", "-0000003", "0000_003", " 0000003", "٠٠٠٠٠٠٠٣", None, ["00000003"]]
)
def test_counters_are_eight_digits(name, value):
    with pytest.raises(SealError, match=f"{name} should be a string of eight digits"):
        Header.from_bytes(with_fields(**{name: value}))


def test_an_unknown_kind_is_refused():
    with pytest.raises(SealError, match="kind should be model or update or control, got 'gradient'"):
        Header.from_bytes(with_fields(kind="gradient"))


def test_fields_are_exactly_the_known_ones():
    fields = json.loads(CANONICAL)
    for name in fields:
        rest = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(SealError, match="an object with attempt, base_hash"):
            Header.from_bytes(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(SealError, match="an object with attempt, base_hash"):
        Header.from_bytes(with_fields(extra=1))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=300)
@given(st.sampled_from(sorted(json.loads(CANONICAL))), anything)
def test_whatever_stands_in_a_field_is_refused_or_means_one_thing(name, value):
    raw = with_fields(**{name: value})
    try:
        header = Header.from_bytes(raw)
    except SealError:
        return
    assert header.to_bytes() == raw


@settings(derandomize=True, max_examples=200)
@given(
    st.binary(max_size=600) | st.binary(max_size=80).map(wire) | anything.map(lambda v: wire(json.dumps(v).encode()))
)
def test_garbage_raises_seal_error_and_nothing_else(data):
    with pytest.raises(SealError):
        parse(data, 10**6)


@pytest.mark.parametrize("raw", [b"[" * 60_000, b'{"a":' * 12_000, b"9" * 60_000], ids=["lists", "objects", "digits"])
def test_headers_made_to_break_the_parser_are_refused(raw):
    with pytest.raises(SealError, match="envelope refused"):
        Header.from_bytes(raw)


@pytest.mark.parametrize(
    "length", [2**32 - 1, 2**31, MAX_HEADER_BYTES + 1, len(CANONICAL) + len(REST), len(CANONICAL) + 9]
)
def test_a_declared_header_length_beyond_what_arrived_or_the_limit_is_refused_unread(length):
    with pytest.raises(SealError, match=f"the header length should be at most {len(CANONICAL) + 8} here, got {length}"):
        parse(wire(CANONICAL, length), 10**6)


def test_a_long_header_is_refused_by_reader_and_writer():
    tensors = tuple(TensorMeta(f"layer.{i}", "float32", (1,), 0) for i in range(2000))
    with pytest.raises(SealError, match=f"the header should be at most {MAX_HEADER_BYTES} bytes"):
        replace(HEADER, tensors=tensors).to_bytes()
    with pytest.raises(SealError, match="the header length should be at most 65536"):
        parse(wire(b"x" * (MAX_HEADER_BYTES + 1)), 10**6)


def test_an_envelope_larger_than_the_receiver_takes_is_refused():
    data = wire(CANONICAL)
    parse(data, len(data))
    with pytest.raises(SealError, match=f"the length should be from 10 to {len(data) - 1} bytes, got {len(data)}"):
        parse(data, len(data) - 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "length"),
        (b"QFED\0\1\0\0\0", "length"),
        (wire(CANONICAL, magic=b"QFEE"), "first four bytes"),
        (wire(CANONICAL, version=0), "version"),
        (wire(CANONICAL, version=2), "version"),
        (wire(CANONICAL, version=256), "version"),
        (wire(CANONICAL, length=0), "canonical JSON"),
        (wire(CANONICAL, length=len(CANONICAL) - 1), "canonical JSON"),
        (wire(CANONICAL, rest=REST[:-1]), "tensors"),
        (wire(CANONICAL, rest=bytes(27)), "header length"),
        (wire(with_fields(tensors=[{"bytes": 2**52, "dtype": "f", "name": "w", "shape": []}])), "tensors"),
    ],
)
def test_malformed_envelopes_are_refused(data, message):
    with pytest.raises(SealError, match=message):
        parse(data, 10**6)


@pytest.mark.parametrize(
    "change",
    [
        {"round": -1}, {"round": 10**8}, {"attempt": True}, {"seq": 1.0}, {"kind": "gradient"}, {"run": ""},
        {"base_hash": "A" * 64}, {"spec_hash": "a" * 63}, {"spec_hash": "a" * 64 + "\n"}, {"sender": "a\nb"},
        {"receiver": "\ud800"}, {"codecs": ("",)}, {"key_ids": (1,)}, {"tensors": (TensorMeta("", "float32", (), 4),)},
        {"tensors": (TensorMeta("w", "float32", (-1,), 4),)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_header_out_of_range_cannot_be_made(change):
    with pytest.raises(SealError, match=re.escape(next(iter(change)).rstrip("s"))):
        replace(HEADER, **change)


def test_replay_guard_lets_attempt_and_seq_only_grow_for_each_link_of_a_run():
    guard = ReplayGuard()
    guard.accept(replace(HEADER, attempt=1, seq=5))
    for attempt, seq in [(1, 5), (1, 4), (0, 9)]:
        with pytest.raises(SealError, match="repeated or reordered"):
            guard.accept(replace(HEADER, attempt=attempt, seq=seq, kind="control", round=99))
    for other in [{"run": "run-2"}, {"sender": "Bern"}, {"receiver": "Bern"}, {"seq": 6}, {"attempt": 2, "seq": 0}]:
        guard.accept(replace(HEADER, **({"attempt": 1, "seq": 5} | other)))


def test_expected_names_field_wanted_and_got():
    expected = Expected("run-1", 3, 1, "update", "Zürich", "server", A, None, ("dense",))
    expected.check(HEADER)
    with pytest.raises(SealError, match="round should be 4, got 3"):
        replace(expected, round=4).check(HEADER)


def test_aead_is_a_seal():
    assert isinstance(Aead(), Seal)
