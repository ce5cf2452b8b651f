"""PromQL that counts a version's requests: what may be asked, and whether its result is a raw counter.

Source: Prometheus documentation, "Querying basics" and "Operators" (3.x): strings in double or single quotes with
escapes, or in backticks without; matchers `=`, `!=`, `=~`, `!~`; `sum`, with `by` or `without` before or behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PLACEHOLDER: Final = "{version}"
_STRING: Final = r'"(?:[^"\\\n]|\\.)*"' + r"|'(?:[^'\\\n]|\\.)*'|`[^`]*`"
# Blanks and names are never given back (`*+`): a mistake in a long query is found in one pass.
_MATCHER: Final = rf"\s*+[A-Za-z_]\w*+\s*+(?:=~|!~|!=|=)\s*+(?:{_STRING})\s*+"
_SELECTOR: Final = rf"(?P<name>[A-Za-z_:][\w:]*+)\s*+\{{{_MATCHER}(?:,{_MATCHER})*,?\s*+\}}"
_GROUPING: Final = r"(?:\s*+(?:by|without)\s*+\([\w\s,]*+\))?"
_PLAIN: Final = re.compile(rf"\s*+(?P<selector>{_SELECTOR})\s*+", re.ASCII)
_SUMMED: Final = re.compile(
    rf"\s*+sum{_GROUPING}\s*+\(\s*+(?P<selector>{_SELECTOR})\s*+\){_GROUPING}\s*+", re.ASCII | re.IGNORECASE
)
_STRINGS: Final = re.compile(_STRING)
_RATE: Final = re.compile(r"\brate\s*+\(")
_INCREASE: Final = re.compile(r"\b(increase|delta|irate|idelta|deriv)\s*+\(")
_RECORDED: Final = re.compile(r"(?<!\w)[A-Za-z_]\w*+:[\w:]+", re.ASCII)
_SAFE: Final = re.compile(r"[A-Za-z0-9_-]+")


class CountQuery(Value, frozen=True):
    """A query as it is configured, with `{version}` in it.

    Args:
        text: a selector, its `sum`, or what answers requests per second.
        selector: of a raw counter's series, "" where it is none; each process counts in a series of its own, so the
            differences are taken before they are summed.
        name: of that counter.
        estimate: why its result is an estimate, in words; "" for a raw counter.
    """

    text: str
    selector: str = ""
    name: str = ""
    estimate: str = ""

    @classmethod
    def parse(cls, text: str) -> CountQuery:
        """Return the query.

        Raises:
            ValueError: it cannot count the requests of a version, and why.

        >>> CountQuery.parse('sum by (pod) (http_requests_total{version="{version}"})').selector
        'http_requests_total{version="{version}"}'
        >>> CountQuery.parse('sum(rate(http_requests_total{version="{version}"}[1m]))').estimate
        'rate() is estimated by the server'
        >>> CountQuery.parse('http_requests_total')
        Traceback (most recent call last):
        ValueError: has no "{version}": write it as a label's value, as in http_requests_total{version="{version}"}
        """
        bare = _STRINGS.sub('""', text)
        if not any(PLACEHOLDER in found for found in _STRINGS.findall(text)) or PLACEHOLDER in bare:
            where = "outside a label's value" if PLACEHOLDER in bare else ""
            raise ValueError(
                f'has {where or "no"} "{PLACEHOLDER}": write it as a label\'s value, as in '
                f'http_requests_total{{version="{PLACEHOLDER}"}}'
            )
        found = _PLAIN.fullmatch(text) or _SUMMED.fullmatch(text)
        if found is not None and ":" not in found["name"]:
            return cls(text, selector=found["selector"], name=found["name"])
        return cls(text, estimate=_explain_estimate(bare))

    def fill(self, version: str) -> str:
        """Return what is asked about a version; raises ValueError where its id could be read as more than a value."""
        return self._fill(self.text, version)

    def fill_selector(self, version: str) -> str:
        """Return the selector for a version; raises ValueError as `fill`."""
        return self._fill(self.selector, version)

    def _fill(self, text: str, version: str) -> str:
        if not _SAFE.fullmatch(version):
            raise ValueError("the version's id has characters other than letters, digits, - and _")
        return text.replace(PLACEHOLDER, version)


def _explain_estimate(bare: str) -> str:
    """Return why a query without its strings answers an estimate of requests per second; raises ValueError."""
    if found := _INCREASE.search(bare):
        raise ValueError(f"{found[1]}() answers no steady number per second: write rate()")
    divided = bare.find("/")
    if divided >= 0 and _RATE.search(bare, divided):
        raise ValueError("a ratio says nothing of how many requests there were: ask its two parts as `all` and `bad`")
    if _RATE.search(bare):
        return "rate() is estimated by the server"
    if found := _RECORDED.search(bare):
        return f"{found[0]} is a recording rule's result, and no process's own counter"
    raise ValueError(
        "is neither a counter (a selector with a metric's name, or its sum) nor a number per second (rate(), or a "
        "recording rule whose name has a colon)"
    )


def list_mistakes(queries: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) of queries as they are configured; what is no text is told elsewhere."""
    for key in ("all", "bad", "duration"):
        text = queries.get(key)
        if not isinstance(text, str):
            if key not in queries and key != "duration":
                yield key, "required, but not there"
            continue
        try:
            query = CountQuery.parse(text)
        except ValueError as error:
            yield key, str(error)
            continue
        if key == "duration" and not query.name.endswith("_bucket"):
            yield key, "expected the buckets of a classic histogram: a selector with a metric that ends in _bucket"
