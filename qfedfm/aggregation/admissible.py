"""Which rounds a robust rule may be used in: it withstands f of n clients only where n is large enough for f."""

from typing import Protocol, runtime_checkable

from ..errors import ConfigurationError


@runtime_checkable
class Admits(Protocol):
    """A rule that knows from how many clients on it keeps its promise."""

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` if a round of n clients is too small."""
        ...


def admit(rule: object, n: int) -> None:
    """Ask a rule, or the one that it wraps, whether it may be used in rounds of n clients."""
    if isinstance(rule, Admits):
        rule.admit(n)
    elif (inner := getattr(rule, "rule", None)) is not None:
        admit(inner, n)


def require(rule: object, n: int, f: int, least: int, because: str) -> None:
    """Raise `ConfigurationError` if a round of n clients has fewer than `least`, the number that f needs.

    because: the condition, as in "n >= 2f + 3".
    """
    if n < least:
        raise ConfigurationError(
            f"{type(rule).__name__} with f = {f} needs {because}, at least {least} clients in a round; got n = {n}: "
            "lower f or let more clients take part"
        )
