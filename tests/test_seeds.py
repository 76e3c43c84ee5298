import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.seeds import stream

paths = st.lists(st.text(max_size=5) | st.integers(0, 1000), max_size=4).map(tuple)


def test_the_key_is_the_sha256_of_the_path_as_json() -> None:
    # printf '[7,"order","client-3",2]' | sha256sum: its first 16 bytes, little-endian, key Philox
    key = int.from_bytes(bytes.fromhex("2eaa600e0b421f7d20e2bb868ec1277f"), "little")
    expected = np.random.Generator(np.random.Philox(key=key)).integers(2**63, size=5)
    assert (stream(7, "order", "client-3", 2).integers(2**63, size=5) == expected).all()


@given(st.integers(-5, 5), paths, st.integers(-5, 5), paths)
def test_streams_are_equal_where_seed_and_path_are_and_differ_elsewhere(
    root: int, path: tuple[str | int, ...], other_root: int, other_path: tuple[str | int, ...]
) -> None:
    values = stream(root, *path).integers(2**63, size=4)
    assert (stream(root, *path).integers(2**63, size=4) == values).all()
    equal = (stream(other_root, *other_path).integers(2**63, size=4) == values).all()
    assert equal == ((root, path) == (other_root, other_path))


def test_paths_that_print_alike_are_told_apart() -> None:
    alike = [("a", "b"), ("ab",), ("a,b",), ('a","b',), ("a", 1), ("a", "1"), ("a1",), ("é",), ("e\u0301",)]
    draws = {stream(0, *path).integers(2**63) for path in alike}
    assert len(draws) == len(alike)


def test_a_stream_is_not_moved_by_drawing_from_others() -> None:
    quiet = stream(3, "order", "a", 1).permutation(10)
    generator = stream(3, "order", "a", 1)
    stream(3, "order", "b", 1).permutation(1000)
    assert (generator.permutation(10) == quiet).all()


def test_draws_of_neighbouring_streams_are_uniform_and_uncorrelated() -> None:
    # 2,000 first draws of streams that differ in the round only; seed 0, so the outcome is fixed. The mean of n uniform
    # numbers has a standard error of .2887/sqrt(n) = .0065 and a lag-1 correlation of 1/sqrt(n) = .022: four of each.
    first = np.array([stream(0, "select", number).random() for number in range(2000)])
    assert abs(first.mean() - 0.5) < 4 * 0.0065
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 * 0.0224
