"""Values of every type that a restore may get wrong, each in the one form in which Postgres prints it back.

What a client writes is what the ledger holds: no server computes what is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

READ_WITH: Final = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "row_security": "off",
}
"""Under these settings a value prints as it stands here."""

_WORDS = (
    "paid",
    "größe",
    "日本",
    "O'Brien",
    'say "x"',
    "tab\there",
    "line\nbreak",
    "back\\slash",
    "",
    " ",
    "NULL",
    "\\N",
)
_FLOATS = ("0.1", "1.2345678901234567", "3.141592653589793", "1e+20", "-0", "NaN", "Infinity", "5e-324", "100.7")
_REALS = ("0.1", "1.2345679", "NaN", "-Infinity", "3.4e+38")
_NUMERICS = ("0.10", "12.340", "NaN", "123456789012345678901234567890.5", "-7.00", "Infinity")
_DAYS = ("2026-03-04", "2026-04-03", "infinity", "0001-01-01", "1999-12-31")
_MOMENTS = ("2026-03-04 05:06:07.123456+00", "2026-12-11 10:09:08+00", "-infinity", "2026-03-29 01:30:00+00")
_SPANS = ("1 mon 2 days 03:04:05", "-1 days +02:03:00", "00:00:00.000001", "1 year 2 mons", "3 days -04:05:06")
_JSON = ('{"a": 1, "b": [1, 2.50, null]}', "[]", '"text"', '{"ü": "\\"x\\""}', "1", "null", "true")
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "text": _WORDS,
    "float8": _FLOATS,
    "float4": _REALS,
    "numeric": _NUMERICS,
    "date": _DAYS,
    "timestamptz": _MOMENTS,
    "timestamp": ("2026-03-04 05:06:07", "2026-04-03 23:59:59.5", "infinity"),
    "interval": _SPANS,
    "jsonb": _JSON,
    "bytea": ("\\x", "\\x00ff10", "\\x5c0a27"),
    "boolean": ("true", "false"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"),
    "inet": ("10.0.0.1/32", "::1/128", "192.168.0.0/16"),
    "int4range": ("[1,5)", "empty", "(,7)", "[3,)"),
    "text[]": ("{}", '{a,NULL,"b,c"}', '{"x\\"y"}'),
    "bit(3)": ("101", "000"),
    "varchar(20)": ("short", "zwölf Zeichen", ""),
    "char(5)": ("abc", "x"),
    "time": ("05:06:07", "23:59:59.999999"),
    "money_cents": ("0", "12345", "-1"),
    "mood": ("sad", "so so", "very happy"),
    "positive": ("1", "2", "99"),
    "citext": ("Anna", "ANNA", "anna"),
}
TYPES: Final = {
    "money_cents": "bigint",
    "mood": "shop.mood",
    "positive": "shop.positive",
    "big": "text",
}


def sql_type(kind: str) -> str:
    """Return the type of a column of this kind."""
    return TYPES.get(kind, kind)


def value(kind: str, dice: random.Random) -> str | None:
    """Return a value as text; None for NULL, but for columns that may not have it (`kind!`)."""
    if kind == "int":
        return str(dice.randrange(-1000, 1_000_000))
    if kind == "big":
        return dice.choice("abcdefgh") * 5_000_000
    if dice.random() < 0.08 and not kind.endswith("!"):
        return None
    return dice.choice(_KINDS[kind.removesuffix("!")])
