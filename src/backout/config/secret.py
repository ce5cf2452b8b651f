"""A secret value that no print, log line, format string or pickle shows by accident."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A value that only `reveal` shows.

    Args:
        value: the secret itself.
        name: its name.
        place: where it was found, a variable or "the file PATH" (the name, by default). Both may be printed.

    >>> token = Secret("hunter2-hunter2", name="CLOUDFLARE_API_TOKEN")
    >>> f"{token} {token!r}"
    '*** Secret(CLOUDFLARE_API_TOKEN)'
    """

    __slots__ = ("_value", "name", "place")

    def __init__(self, value: str, *, name: str, place: str = "") -> None:
        self._value = value
        self.name = name
        self.place = place or name

    def reveal(self) -> str:
        """Return the value; the caller answers for where it goes."""
        return self._value

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return f"Secret({self.name})"

    def __eq__(self, other: object) -> bool:
        import hmac

        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never serialised")
