"""The one mask for everything that leaves the process: known values in every spelling, and known shapes; pure.

It works on values before they are cut, wrapped or escaped, and once more on what is written at the end.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backout.report.spellings import Needle

MASK = "***"
_SHORTEST, _SHORTEST_PATH = 6, 16
OWN_WORDS = frozenset(
    re.findall(
        r"\w+",
        "action active archive backout backup branch bucket cloudflare commit config critical database default "
        "degraded deploy deployed deployment deployments detail development environment example failed guard "
        "health healthy inconclusive localhost message migration migrations object objects password pending "
        "platform postgres preview production project public reason refused regressed restore rollback running "
        "schema secret secrets server service services source staging status storage succeeded testing unknown "
        "unmeasured verdict version versions worker ",
    )
)
"""Common words: a secret that is one of them is masked only where its place reveals it (`password=...`)."""
_OWN_KEY = re.compile(r"[a-z]+(_[a-z]+)*")
_HEX = re.compile(r"[0-9a-f]+")
_KEPT_LENGTH, _MOST_KEPT = 200, 10_000
"""Texts already searched, of those written every second: their maximum length, and how many are remembered."""
_SIGNS = ("bearer", "basic", "://", "password=", "passwd=", "secret=", "token=", "key=", "private key")
"""Substrings, in lower case, one of which is in every text that has one of the shapes."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#:]*:(?P<password>[^/?#]+)@)?[^/?#@]*(?P<path>[^#]*)", re.IGNORECASE)
_SETTING = re.compile(r"\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)", re.DOTALL)
"""A keyword of a connection string and its value, which quotes or backslashes may hold together."""
_PLACES = frozenset({"host", "hostaddr", "port", "dbname", "user", "service"})
_SECRET_SETTINGS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})


@cache
def _compile_shapes() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return what looks like a secret, whatever its value, with what is written in its place.

    Each takes time in proportion to the text, whoever wrote that: a pattern begins with a sign that what follows it
    cannot hold, so no character is looked at from more than one beginning.
    """
    return (
        (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
        (re.compile(r"(://[^\s:/@'\"]*):[^\s/'\"]+@"), rf"\1:{MASK}@"),
        (
            # Also where the text stands in JSON: a backslash before a quote belongs to it, a quote may end the text.
            re.compile(
                r"(?i)\b(password|passwd|secret|token|api[_-]?key)=(\\?['\"](?![,:}\]]))?(?!\*\*\*)"
                r"(?:\\\\|\\(?!['\"\\])|[^\s&;,'\"\\])+"
            ),
            rf"\1=\2{MASK}",
        ),
        (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    )


class Redactor:
    """Knows the secrets of one process and masks them in text, whatever spelling and layout they come in.

    >>> redactor = Redactor()
    >>> redactor.register("s3cr3t value")
    >>> redactor.redact("?k=s3cr3t%20value, Authorization: Bearer abcdefgh1234")
    '?k=***, Authorization: Bearer ***'
    """

    def __init__(self) -> None:
        self._allowed: set[str] = set()
        self._registered: set[str] = set()
        self._open: set[str] = set()
        self._values: dict[str, tuple[Needle, ...]] = {}
        self._edges: tuple[str, ...] = ()
        self._hex: tuple[str, ...] = ()
        self._clean: set[str] = set()

    @property
    def knows(self) -> int:
        """How many values are masked."""
        return len(self._values)

    def register(self, value: str) -> None:
        """Mask this value from now on, in every spelling; short values and openly used words are not masked.

        Of a URL, its password and the path of a web address are masked on their own as well, of keywords and values
        that name a database the passwords, of a text of several lines each line. Secrets are read, and so registered,
        for each call that needs one: what is known costs nothing.
        """
        if value in self._registered:
            return
        self._registered.add(value)
        for part in (value, *_list_secret_parts(value)):
            self._keep(part, _list_needles(part))
        from backout.report.spellings import Needle, make_bare

        if len(lines := value.splitlines()) > 1:
            for line in lines:
                self._keep(line, (Needle.of(make_bare(line)),))

    def say_openly(self, *words: str) -> None:
        """Never mask these words by themselves, not even when a secret is one of them: names of the configuration."""
        self._open.update(words)
        for word in words:
            self._values.pop(word, None)
        self._sort()

    def allow(self, text: str) -> None:
        """Never mask exactly this text: the twin's own loopback connection string, made up for this run."""
        self._allowed.add(text)

    def redact(self, text: str) -> str:
        """Return the text with every secret in it masked."""
        for allowed in self._allowed:
            if allowed in text:
                return allowed.join(self._mask_part(part) for part in text.split(allowed))
        return self._mask_part(text)

    def values(self, record: object) -> object:
        """Return JSON values with every secret in their texts and keys masked; the same object when there is none."""
        fresh = set(_list_texts(record)) - self._clean
        if fresh and self._is_suspect('"'.join(fresh)):
            return change_strings(record, self.redact)
        self._clean |= {text for text in fresh if len(text) <= _KEPT_LENGTH}
        if len(self._clean) > _MOST_KEPT:
            self._clean = set()
        return record

    def record(self, record: Mapping[str, object]) -> dict[str, object]:
        """Return a record of JSON values as `values` does."""
        return {_change_key(key, self.redact): self.values(value) for key, value in record.items()}

    def places(self, record: object, at: str = "") -> Iterator[str]:
        """Yield where in JSON values a known value occurs: `data.plan.steps[2].title`; shapes alone do not count."""
        if not self._finds('"'.join(_list_texts(record))):
            return
        if isinstance(record, Mapping):
            for key, item in record.items():
                name = f"{at}.{key}".lstrip(".")
                if self._finds(str(key)):
                    yield f"{at}.(a key)".lstrip(".")
                yield from self.places(item, name)
        elif isinstance(record, list | tuple):
            for index, item in enumerate(record):
                yield from self.places(item, f"{at}[{index}]")
        else:
            yield at

    def _keep(self, value: str, needles: Iterable[Needle]) -> None:
        if len(value) < _SHORTEST or value in self._values or value in self._open or value in OWN_WORDS:
            return
        known = {value: tuple(needle for needle in needles if len(needle.text) >= _SHORTEST)}
        self._values = {**dict.fromkeys(_list_spellings(value), ()), **self._values, **known}
        self._sort()

    def _sort(self) -> None:
        edges = [edge for found in self._values.values() for needle in found for edge in (needle.head, needle.tail)]
        self._edges = tuple(dict.fromkeys(edges))
        self._hex = tuple(edge for edge in self._edges if _HEX.fullmatch(edge))
        self._clean = set()

    def _is_suspect(self, text: str) -> bool:
        return _has_a_sign(text) or self._finds(text)

    def _finds(self, text: str) -> bool:
        if not self._values:
            return False
        if any(value in text for value in self._values):
            return True
        from backout.report.spellings import list_bare_forms

        return any(
            any(edge in form for edge in self._edges) or any(edge in form.lower() for edge in self._hex)
            for form in list_bare_forms(text)
        )

    def _mask_part(self, text: str) -> str:
        if self._values and self._finds(text):
            text = self._without_values(text)
        if _has_a_sign(text):
            for shape, mask in _compile_shapes():
                text = shape.sub(mask, text)
        return text

    def _without_values(self, text: str) -> str:
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, MASK)
        from backout.report.spellings import locate_bare_forms

        needles = [needle for found in self._values.values() for needle in found]
        spans: set[tuple[int, int]] = set()
        for plain, places in locate_bare_forms(text):
            lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in plain)
            for needle in needles:
                where = lower if _HEX.fullmatch(needle.text) else plain
                spans |= {(places[begin][0], places[end - 1][1]) for begin, end in needle.find_in(where)}
        return _mask_spans(text, sorted(spans))


def _has_a_sign(text: str) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in _SIGNS)


def _list_texts(value: object) -> Iterator[str]:
    """Yield each text in JSON values, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _list_texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            if not isinstance(item, int | float):
                yield from _list_texts(item)


def change_strings(value: object, change: Callable[[str], str]) -> object:
    """Return JSON values with every string changed; keys too, apart from plain words, which are names of ours."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_change_key(str(key), change): change_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [change_strings(item, change) for item in value]
    return value


def _change_key(key: str, change: Callable[[str], str]) -> str:
    return key if _OWN_KEY.fullmatch(key) else change(key)


def _mask_spans(text: str, spans: list[tuple[int, int]]) -> str:
    """Return the text with each place (they may overlap) masked."""
    parts: list[str] = []
    at = 0
    for begin, end in spans:
        if begin >= at:
            parts += [text[at:begin], MASK]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def _list_secret_parts(value: str) -> set[str]:
    """Return the secret parts of a URL; a password that is an ordinary word of that URL cannot be masked."""
    if (settings := _parse_settings(value)) is not None:
        words = {settings[name] for name in _SECRET_SETTINGS & settings.keys()}
        return {word for word in words if list(settings.values()).count(word) == 1}
    found = _URL.match(value)
    if found is None:
        return set()
    from urllib.parse import unquote

    password, path = found["password"] or "", found["path"] if value.startswith("http") else ""
    parts = {password, unquote(password)} if value.count(password) == 1 else set()
    return parts | ({path} if len(path) >= _SHORTEST_PATH else set())


def _parse_settings(value: str) -> dict[str, str] | None:
    r"""Return the keywords and values of a connection string, None for any other text.

    >>> _parse_settings(r"host=/tmp port=5432 password='it\'s'")
    {'host': '/tmp', 'port': '5432', 'password': "it's"}
    >>> _parse_settings("a=b"), _parse_settings("host=a, and more")
    (None, None)
    """
    found, at, end = dict[str, str](), 0, len(value.rstrip())
    while at < end:
        setting = _SETTING.match(value, at)
        if setting is None:
            return None
        text = setting[2][1:-1] if setting[2].startswith("'") else setting[2]
        found[setting[1]] = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
        at = setting.end()
    return found if found.keys() & _PLACES else None


def _list_spellings(value: str) -> set[str]:
    """Return the spellings of a value whose bare form is too short: `++++++++`."""
    from urllib.parse import quote, quote_plus

    from backout.report.spellings import make_bare

    if len(make_bare(value)) >= _SHORTEST:
        return set()
    raw = value.encode("utf-8", "surrogatepass")
    return {quote(raw, safe=""), quote(raw, safe="").lower(), quote_plus(raw), json.dumps(value)[1:-1]}


def _list_needles(value: str) -> list[Needle]:
    """Return every form in which a value may occur in a bare text: as it is, in base64 at any offset, in hex."""
    from backout.report.spellings import Needle, make_bare

    raw = value.encode("utf-8", "surrogatepass")
    whole = "://" in value or _parse_settings(value) is not None
    found = [Needle.of(make_bare(value, decoded=decoded), whole=whole) for decoded in (True, False)]
    found.append(Needle.of(raw.hex()))
    for lead in range(3):
        # What stands before a value in a base64 text shifts it; only the characters that it alone decides are fixed.
        padded = base64.b64encode(b"\0" * lead + raw)
        start = (lead * 8 + 5) // 6
        certain = padded[start : start + (len(raw) * 8 - (start * 6 - lead * 8)) // 6].decode()
        found += [Needle.of(certain.replace("+", "")), Needle.of(certain.replace("+", "-").replace("/", "_"))]
    return list(dict.fromkeys(found))
