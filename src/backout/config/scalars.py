"""Scalars of backout.toml that TOML lacks (durations, rates, URLs): each parses, or says what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from backout.errors import UsageError

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}")
_RATE = re.compile(r"1 (?:per|in) (\S+)")
MAX_DURATION_S = 366 * 86400.0


class Duration(float):
    """Seconds, written "15m", "1h30m", "500ms" or as a number of seconds."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Return the duration.

        Raises:
            ValueError: with what is wrong, in words.

        >>> Duration.parse("1h30m"), Duration.parse("500ms"), Duration.parse(2)
        (5400.0, 0.5, 2.0)
        """
        if isinstance(value, str) and _DURATION.fullmatch(value.replace(" ", "")):
            seconds = sum(float(n) * _UNITS_S[unit] for n, unit in _PART.findall(value.replace(" ", "")))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        else:
            raise ValueError(f"expected a duration such as '15m' or '1h30m', got {show(value)}")
        if not 0.0 <= seconds <= MAX_DURATION_S:
            raise ValueError(f"expected a duration from 0 to 366 days, got {show(value)}")
        return cls(seconds)


class AtMost(float):
    """Seconds between two events, written "1 per 6h"."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> AtMost:
        """Return the distance in seconds.

        Raises:
            ValueError: with what is wrong, in words.

        >>> AtMost.parse("1 per 6h")
        21600.0
        """
        match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected a rate such as '1 per 6h', got {show(value)}")
        return cls(Duration.parse(match[1]))


class Url(str):
    """An http or https URL without a user, a password or a fragment."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Url:
        """Return the URL.

        Raises:
            ValueError: with what is wrong, in words (never the password).
        """
        if not isinstance(value, str):
            raise ValueError(f"expected a URL such as 'https://example.com/health', got {show(value)}")  # noqa: TRY004
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"expected a URL: {error}") from error
        if "@" in parts.netloc:
            raise ValueError("a URL here holds no user or password")
        if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", value):
            raise ValueError(f"expected a URL such as 'https://example.com/health', got {show(value)}")
        return cls(value)


class TlsUrl(Url):
    """A URL that a credential is sent to, or whose answer decides something: https, or http on this machine."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> TlsUrl:
        """Return the URL.

        Raises:
            ValueError: with what is wrong, in words.
        """
        url = super().parse(value)
        if not is_private(url):
            raise ValueError("expected https: a secret goes there, and http is for loopback alone")
        return cls(url)


def is_private(url: str) -> bool:
    """Whether what is sent to an http(s) URL cannot be read on the way: it is https, or on this machine.

    >>> is_private("https://a.example"), is_private("http://127.0.0.1:8787/x"), is_private("http://127.0.0.1.example")
    (True, True, False)
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: 127.0.0.0/8, ::1, localhost and all below it (RFC 6761).

    >>> [is_loopback(host) for host in ("127.8.8.8", "::1", "app.localhost", "localhost.example", "127.1")]
    [True, True, True, False, False]
    """
    name = host.lower().rstrip(".")
    return name in {"::1", "localhost"} or name.endswith(".localhost") or bool(_LOOPBACK.fullmatch(name))


API_BASE_URL = TlsUrl("https://api.cloudflare.com/client/v4")
SCALARS: tuple[type, ...] = (Duration, AtMost, Url, TlsUrl, Path)


def parse(kind: type, value: object, folder: Path) -> object:
    """Return `value` as a `kind`; a relative path is relative to `folder`.

    Raises:
        ValueError: with what is wrong, in words.
        TypeError: `kind` is none that can be parsed.
    """
    if kind is Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"expected a path, got {show(value)}")
        return folder / Path(value).expanduser()
    if kind is Duration or kind is AtMost or kind is Url or kind is TlsUrl:
        return kind.parse(value)
    raise TypeError(kind)


def parse_seconds(text: str, flag: str) -> float:
    """Return the duration given to a flag: "15m", "90s" or a plain number of seconds.

    Raises:
        UsageError: it is none.

    >>> parse_seconds("90s", "--for"), parse_seconds("2.5", "--for")
    (90.0, 2.5)
    """
    try:
        return float(Duration.parse(float(text) if _NUMBER.fullmatch(text) else text))
    except ValueError as error:
        raise UsageError(str(error), where=flag, hint=f"{flag} 15m") from error


def format_duration(seconds: float) -> str:
    """Return a duration as a person writes it in the file.

    >>> (format_duration(3024000.0), format_duration(5400.0), format_duration(0.25), format_duration(0.0),
    ...  format_duration(0.0005))
    ('35d', '1h30m', '250ms', '0s', '0.5ms')
    """
    words, left_ms = "", round(seconds * 1e6) / 1e3
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        count = int(left_ms // size_ms)
        left_ms -= count * size_ms
        words += f"{count}{unit}" if count else ""
    return words + (f"{left_ms:g}ms" if left_ms else "") or "0s"


def show(value: object) -> str:
    """Return a value as a message quotes it: short, and a table only as "a table".

    >>> show({"a": 1}), show("x" * 60)
    ('a table', "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'")
    """
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    return str(value)
