"""Masks what varies with the request in a message: numbers, ids, addresses, values; codes and names stay; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT: Final = re.compile(
    r"""\b(?:P[1-6]\d{3}|TS\d{4,5}|E[A-Z]{3,}\d*|[A-Z][A-Z0-9]*_[A-Z0-9_]+)\b
      | \bSQLSTATE[\s(:=\[]*[0-9A-Z]{5}\b
      | \b(?:[Ss]tatus(?:\s[Cc]ode)?|HTTP(?:/[\d.]+)?|[Cc]ode|[Ee]rrno|[Ee]rror)[\s:=(]{1,3}-?\d{1,5}\b
      | \b[Pp]ort[\s=:]{1,2}\d{1,5}\b
      | \[code:\s?\d+\] | \[\d{3,5}\] | \b[45]\d\d\s(?=[A-Z][a-z]) | \$\d+\b
      | \b(?:[rR]2|[sS]3|[uU][tT][fF]-?8|base64|[sS][hH][aA]-?\d+|[mM][dD]5|[eE][sS]\d{1,4})\b
      | \b(?:IPv[46]|[oO][aA]uth2|HTTP2|x86_64|[vV]8|D1)\b | \(\d{4,5}\)$""",
    re.VERBOSE,
)
_QUERY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#'\"<>]*)[?#][^\s'\"<>)]*")
_PATH_QUERY: Final = re.compile(r"(\s/[^\s?'\"<>]*)\?[^\s'\"<>)]*")
_CREDENTIALS: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@")
_VALUE: Final = re.compile(r"=\((?:[^()]|\([^()]*\))*\)")
_GIVEN: Final = re.compile(
    r"((?:invalid input (?:syntax|value) for [^:]*|could not convert string to \w+|invalid literal for [^:]*): )"
    r"(['\"]).*?\2"
)
_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<email>"),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|\s?[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<ip>"),
    (re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])"), "<ip>"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+)*"), "<token>"),
    (re.compile(r"(?<=[-.])(?=[\w]*\d)[A-Za-z0-9_]{6,20}(?=\.(?:m?js|cjs|css|map|ts)\b)"), "<hash>"),
    (re.compile(r"(\.(?:[cm]?[jt]sx?|py|json|toml)):\d+(?::\d+)?"), r"\1"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"), "<hex>"),
    (re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_-]{20,}\b"), "<id>"),
)
_QUOTED: Final = re.compile(r"(['\"`])((?:(?!\1)[^\\]|\\.){1,200}?)\1(?!\w)")
_NAME: Final = re.compile(r"[@./~]{0,3}[A-Za-z_$][\w$./:@<>*()-]{0,79}\Z")
_PORT: Final = re.compile(r"(?<=<ip>:)\d{1,5}\b")
_EPHEMERAL: Final = 32768
_NUMBER: Final = re.compile(
    r"(?<![\w<\x00])-?\d[\d,_.]*(?:e[+-]?\d+)?(?=(?:ms|s|us|ns|[kKMGT]i?B|B|MB|GB|%|px)?(?!\w))"
)
_INNER_NUMBER: Final = re.compile(r"(?<=[A-Za-z_./#-])\d{2,}(?![\w>])")
_SLOT: Final = re.compile("\x00(\\d+)\x01")


def mask(message: str) -> str:
    """Return the message with a placeholder for everything that varies.

    >>> mask('user 17 (a@example.com): column "plan_id" does not exist, SQLSTATE 42703, at https://x.example/a?b=1')
    'user <n> (<email>): column "plan_id" does not exist, SQLSTATE 42703, at https://x.example/a'
    """
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\x00{len(kept) - 1}\x01"

    text = message.replace("\x00", "").replace("\x01", "")
    text = _CREDENTIALS.sub(r"\1", text)
    text = _PATH_QUERY.sub(r"\1", _QUERY.sub(r"\1", text))
    text = _VALUE.sub("=(<value>)", text)
    text = _GIVEN.sub(r"\1\2<value>\2", text)
    for shape, placeholder in _SHAPES:
        text = shape.sub(placeholder, text)
    text = _PORT.sub(_make_port_mask(keep), text)
    text = _KEPT.sub(keep, text)
    text = _QUOTED.sub(_mask_quoted, text)
    text = _INNER_NUMBER.sub("<n>", _NUMBER.sub("<n>", text))
    return _SLOT.sub(lambda slot: kept[int(slot[1])], text)


def _mask_quoted(found: re.Match[str]) -> str:
    """Keep a name (of a column, a variable, a module) and what begins with a code; another value varies."""
    quote, inner = found[1], found[2]
    return found[0] if _SLOT.match(inner) or _NAME.match(_SLOT.sub("x", inner)) else f"{quote}<value>{quote}"


def _make_port_mask(keep: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
    """Keep a port that names a service; one of the system's own choice varies."""

    def mask_port(found: re.Match[str]) -> str:
        return keep(found) if int(found[0]) < _EPHEMERAL else "<n>"

    return mask_port
