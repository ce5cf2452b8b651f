"""Which variable holds which kind of secret: none of one kind is sent where the file says that another one goes.

A header, a bearer token and a mail password go to an address that the same file names. Anyone who may change the file
could name the variable of a stronger secret there; so what one key uses as one kind, no such key uses as another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from backout.config.explain import Mistake, Where

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = "a header of health checks"
TOKEN, DATABASE, BUCKET = "the platform's token", "a database's connection string", "the key of a bucket"
PIPELINE, VENDOR = "the pipeline's token", "the token of the database's vendor"
_KINDS = {
    "platform.token_env": TOKEN,
    "platform.read_token_env": TOKEN,
    "platform.secrets_token_env": TOKEN,
    "database.url_env": DATABASE,
    "database.admin_url_env": DATABASE,
    "journal.url_env": DATABASE,
    "database.backup.store.credentials_env": BUCKET,
    "traffic.recorder.credentials_env": BUCKET,
    "database.managed.token_env": VENDOR,
    "ci.token_env": PIPELINE,
    "health.headers_env": HEADER,
    "guard.synthetic.checks.headers_env": HEADER,
    "notify.smtp.password_env": "the mail server's password",
}
"""Keys that share a kind; any other key is a kind of its own."""
_SENT = frozenset({HEADER, TOKEN, PIPELINE, VENDOR, "the mail server's password"})
"""What goes, as it is, to an address that the file names."""
_KNOWN = (
    (r"CLOUDFLARE_\w*(TOKEN|KEY)|CF_API_(TOKEN|KEY)", TOKEN),
    (r"(\w+_)?(DATABASE|POSTGRES|POSTGRESQL|PG)_?(URL|URI|DSN|PASSWORD)", DATABASE),
    (r"AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN)", BUCKET),
    (r"(GITHUB|GH)_TOKEN|ACTIONS_\w*TOKEN", PIPELINE),
    (r"(NEON|XATA|SUPABASE)_\w*(KEY|TOKEN)", VENDOR),
)
"""Variables whose name says what they hold, also where no key names them."""


class Use(NamedTuple):
    """A key that names a variable of a secret."""

    path: Where
    variable: str
    kind: str


def list_uses(document: dict[str, object]) -> Iterator[Use]:
    """Yield every key of a document that names the variable of a secret (`*_env`), in the order of the document."""
    yield from _list_table_uses(document, (), "")


def _list_table_uses(table: dict[str, object], path: Where, name: str) -> Iterator[Use]:
    for key, value in table.items():
        here, dotted = (*path, key), f"{name}.{key}".lstrip(".")
        if key.endswith("_env"):
            kind = _KINDS.get(dotted, dotted)
            named = [(here, value)] if isinstance(value, str) else []
            named = [((*here, each), v) for each, v in value.items()] if isinstance(value, dict) else named
            yield from (Use(where, variable, kind) for where, variable in named if isinstance(variable, str))
        elif isinstance(value, list | tuple):
            for number, each in enumerate(value):
                if isinstance(each, dict):
                    yield from _list_table_uses(each, (*here, number), dotted)
        elif isinstance(value, dict):
            is_an_environment = path == ("environments",) or here == ("environments",)
            yield from _list_table_uses(value, here, "" if is_an_environment else dotted)


def find_mixed(document: dict[str, object]) -> Iterator[Mistake]:
    """Yield the keys that would send one kind of secret where another one goes."""
    found = tuple(list_uses(document))
    for use in found:
        if use.kind not in _SENT:
            continue
        others = [other.kind for other in found if other.variable == use.variable and other.kind != use.kind]
        others += [kind for pattern, kind in _KNOWN if re.fullmatch(pattern, use.variable) and kind != use.kind]
        if others:
            yield Mistake(use.path, f"{use.variable} is {others[0]}, and is never sent as {use.kind}")


def recognise_names(names: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield (variable, kind) of those whose name says what they hold."""
    for name in names:
        yield from ((name, kind) for pattern, kind in _KNOWN if re.fullmatch(pattern, name))
