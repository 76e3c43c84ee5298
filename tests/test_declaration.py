from dataclasses import FrozenInstanceError, field

import numpy as np
import pytest

from qfedfm.declaration import declared
from qfedfm.errors import ConfigurationError


@declared
class Brew:
    """A declaration with rules of its own."""

    minutes: int = 3
    temperature: float = 95.0
    leaves: tuple[str, ...] = ("oolong",)
    notes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [f"Brew.leaves: expected at least one; got {self.leaves}"] if not self.leaves else []
        if not 0 < self.temperature <= 100:
            wrong.append(f"Brew.temperature: expected up to 100; got {self.temperature}")
        if wrong:
            raise ConfigurationError(wrong)


@declared
class Tray:
    """A declaration that needs a value and holds another declaration."""

    cups: int
    brew: Brew = Brew()
    price: float | None = None
    sizes: dict[str, int | tuple[int, ...]] | None = None


def refusal(*args: object, **fields: object) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Brew(*args, **fields)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_a_declaration_holds_what_it_was_given() -> None:
    brew = Brew(minutes=4, leaves=("assam",))
    assert (brew.minutes, brew.temperature, brew.leaves) == (4, 95.0, ("assam",))
    assert brew == Brew(4, 95.0, ("assam",))
    assert brew != Brew(5, 95.0, ("assam",))
    assert Tray(2).brew == Brew()


def test_an_unknown_field_is_named_with_the_nearest_known_one() -> None:
    known = "it has minutes, temperature, leaves, notes"
    assert refusal(temprature=90) == (f"Brew has no field 'temprature' (did you mean 'temperature'?); {known}",)
    assert refusal(sugar=1) == (f"Brew has no field 'sugar'; {known}",)


def test_a_wrong_type_is_named_with_what_was_given() -> None:
    (line,) = refusal(minutes="three")
    assert line.startswith("Brew.minutes: input should be a valid integer")
    assert line.endswith("got 'three'")


def test_all_mistakes_are_told_at_once() -> None:
    lines = refusal(minute=4, minutes="three", temperature=None, leaves=(1,))
    assert len(lines) == 4
    for word in ("Brew.minutes", "Brew.temperature", "Brew.leaves.0", "did you mean 'minutes'"):
        assert sum(word in line for line in lines) == 1


def test_rules_of_the_class_itself_are_told_line_by_line_and_not_named_twice() -> None:
    assert refusal(leaves=(), temperature=120) == (
        "Brew.leaves: expected at least one; got ()",
        "Brew.temperature: expected up to 100; got 120.0",
    )


def test_a_missing_field_and_a_wrong_inner_declaration() -> None:
    with pytest.raises(ConfigurationError, match=r"^Tray needs 'cups'$"):
        Tray()
    with pytest.raises(ConfigurationError, match=r"Tray\.brew"):
        Tray(2, brew=3)


def test_too_many_values_are_refused() -> None:
    (line,) = refusal(3, 95.0, ("oolong",), {}, "extra")
    assert "unexpected positional argument; got 'extra'" in line


def test_a_declaration_cannot_be_changed() -> None:
    brew = Brew()
    with pytest.raises(FrozenInstanceError):
        brew.minutes = 4
    assert brew.minutes == 3


def test_defaults_are_validated_and_not_shared() -> None:
    assert Brew().notes is not Brew().notes

    @declared
    class Wrong:
        count: int = "many"

    with pytest.raises(ConfigurationError, match=r"Wrong\.count"):
        Wrong()


@declared
class Bare:
    """A declaration without fields."""


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Brew(minutes=True), "Brew.minutes: input should be a valid integer; got True"),
        (lambda: Brew("3"), "Brew.minutes: input should be a valid integer; got '3'"),
        (lambda: Tray(1, price="2.5"), "Tray.price: input should be a valid number; got '2.5'"),
        (lambda: Tray(1, Brew), "Tray.brew: got the class Brew; write Brew()"),
        (lambda: Tray(cups=1, brew=Brew, price=True), "Tray.brew: got the class Brew; write Brew()"),
        (lambda: Bare(size=1), "Bare has no field 'size'; it has none"),
        (lambda: Tray(1.5), "Tray.cups: input should be a valid integer, got a number with a fractional part; got 1.5"),
        (
            lambda: Tray(1, sizes={"n": 2.5}),
            "Tray.sizes.n: input should be a valid integer, got a number with a fractional part, or "
            "input should be a valid tuple; got 2.5",
        ),
    ],
)
def test_what_pydantic_would_convert_overlook_or_tell_by_its_own_names(make, line):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.problems[0] == line


def test_whole_numbers_of_numpy_are_numbers_and_numbers_may_be_whole():
    assert Tray(np.int64(3)).cups == 3
    assert Tray(3, price=2).price == 2.0
