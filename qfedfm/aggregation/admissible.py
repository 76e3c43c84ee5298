"""Which rounds a robust rule may be used in: it withstands f of n clients only where n is large enough for f."""

from ..errors import ConfigurationError


def require(rule: object, n: int, f: int, least: int, because: str) -> None:
    """Raise `ConfigurationError` if a round of n clients has fewer than `least`, the number that f needs.

    because: the condition, as in "n >= 2f + 3".
    """
    if n < least:
        raise ConfigurationError(
            f"{type(rule).__name__} with f = {f} needs {because}, at least {least} clients in a round; got n = {n}: "
            "lower f or let more clients take part"
        )
