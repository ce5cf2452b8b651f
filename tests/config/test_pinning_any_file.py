"""Any file: with the pin written into it, everything else is as it was, comments and line ends included."""

from __future__ import annotations

import random
import re
import tomllib

import pytest

from backout.config.init.pinning import set_pin

PIN = {"account_id": "acc1", "script_tag": 'a "tag" \\ of #{hostile}', "health_host": "app.example.com"}
COMMENTS = ("", " # why", " # see {runbook} }", ' # it\'s "x" = [1]', " # pin = { }")
VALUES = (
    "1",
    '"a # b"',
    "'pin = { }'",
    '"""\n[environments.production.pin]\nx = 1 # no comment\n"""',
    "[ 1, # one\n [2] ]",
)
TABLES = (
    "[environments.production.platform]",
    "[environments.production.guard]",
    '[environments."production".secrets]',
    "[ environments . staging . pin ]",
    "[environments.staging.platform]",
    "[[contacts.people]]",
    "[journal]",
)
PINS = (
    "",
    "[environments.production.pin]{comment}\n",
    '[environments.production.pin]{comment}\nscript_tag = "old"{comment}\n',
    "[environments.production.pin]{comment}\nbucket = 'b'{comment}\naccount_id = 'it is #old'{comment}\n",
    '[environments.production]{comment}\npin = {{ script_tag = "}} old" }}{comment}\n',
    '[environments.production]{comment}\npin.script_tag = "old"{comment}\n',
)


def any_file(draw: random.Random) -> str:
    """Return a valid file with the environment production, with or without a pin, at any place in it."""

    def comment() -> str:
        return draw.choice(COMMENTS)

    parts = [
        f"# top\n[app]{comment()}\nname = 'x'{comment()}\n",
        "[environments.production.traffic]\nprovider = 'none'\n",
    ]
    for table in draw.sample(TABLES, draw.randrange(len(TABLES))):
        keys = "".join(f"k{n} = {draw.choice(VALUES)}{comment()}\n" for n in range(draw.randrange(4)))
        parts.append(f"{draw.choice(('', '# above', chr(10)))}\n{table}{comment()}\n{keys}")
    parts.insert(draw.randrange(1, len(parts) + 1), draw.choice(PINS).format(comment=comment()))
    text = "\n".join(parts)
    return text.replace("\n", "\r\n") if draw.random() < 0.3 else text


@pytest.mark.parametrize("seed", range(300))
def test_nothing_but_the_pin_changes(seed: int) -> None:
    """The same values, the same comments in the same order, one kind of line end; and once is as good as twice."""
    text = any_file(random.Random(seed))  # noqa: S311 the same dice each time
    before = tomllib.loads(text)
    edited = set_pin(text, "production", PIN)
    assert edited is not None
    after = tomllib.loads(edited)
    pinned = after["environments"]["production"].pop("pin")
    assert pinned == {**before["environments"]["production"].pop("pin", {}), **PIN}
    assert after == before
    assert re.findall(r" # [^\r\n]*", edited.replace(PIN["script_tag"], "")) == re.findall(r" # [^\r\n]*", text)
    assert ("\r\n" in edited) == ("\r\n" in text)
    assert "\r\n" not in text or edited.count("\r\n") == edited.count("\n")
    assert set_pin(edited, "production", PIN) == edited
