"""The templates, what they may call, and the addresses of static files, which change with their content."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from backout.escaping import make_harmless, show_unseen
from backout.report.times import format_ago, format_clock, format_day, format_duration, format_time
from backout.web.sentences import name_person

if TYPE_CHECKING:
    from backout.wiring.serve import Site

_HERE: Final = Path(__file__).parent
_DIGITS: Final = 12


def make_templates(site: Site) -> Environment:
    """Return the templates: every value is escaped, and one that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_name_unseen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        application=site.config.settings.app.name,
        asset=make_asset_address,
        now=site.clock.now,
        moment=format_moment,
        draw_key=draw_key,
    )
    made.filters.update(
        ago=_format_ago,
        begin=begin_sentence,
        clock=format_clock,
        code=mark_code,
        day=format_day,
        duration=format_duration,
        who=name_person,
    )
    return made


def _name_unseen(value: object) -> object:
    """Return what a template shows: characters that a browser hides, or turns others round by, are named.

    It is done to every text, whoever wrote it; not to markup, which is ours.
    """
    return show_unseen(make_harmless(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def format_moment(at: float, now: float) -> Markup:
    """Return a moment as an element: how long ago, which a script keeps true; UTC in full as its title."""
    full = f"{format_day(at)} {format_clock(at)} UTC"
    return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(
        format_time(at), full, format_ago(at, now)
    )


def begin_sentence(text: str) -> str:
    """Return a text as a title or a sentence begins; what is no word of letters, a name or an id, stays as it is.

    >>> begin_sentence("checkout fails"), begin_sentence("iOS is slow"), begin_sentence("v-0 is live")
    ('Checkout fails', 'iOS is slow', 'v-0 is live')
    """
    word = text.partition(" ")[0].rstrip(".,:;")
    return text[:1].upper() + text[1:] if word.isalpha() and word.islower() else text


def mark_code(text: str) -> Markup:
    """Return a sentence of backout's own, escaped; what stands between backquotes in it is shown as code.

    >>> mark_code("type `backout status` <now>")
    Markup('type <code>backout status</code> &lt;now&gt;')
    """
    parts = [escape(_name_unseen(each)) for each in text.split("`")]
    if len(parts) % 2 == 0:  # one without its other: it is no mark
        return Markup("`").join(parts)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def draw_key() -> str:
    """Return a new key for a form: however often the form is sent, it asks once."""
    return secrets.token_hex(8)


def _format_ago(at: float, now: float) -> str:
    return format_ago(at, now)


def make_asset_address(name: str) -> str:
    """Return the address of a static file; browsers keep it for ever, and another content has another address."""
    return f"/static/{name}?v={_hash_asset(name)}"


@lru_cache
def _hash_asset(name: str) -> str:
    return hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:_DIGITS]
