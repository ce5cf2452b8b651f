"""The pin is written into the file that is there, and nothing else of it changes."""

from __future__ import annotations

import tomllib

import pytest

from backout.config.init.pinning import set_pin

PIN = {"account_id": "acc1", "script_tag": "tag1", "health_host": "app.example.com"}
HEAD = '# ours\n[app]\nname = "fm5" # the name\n\n'
PLATFORM = 'provider = "cloudflare"\nscript = "fm5"\n'


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}[environments.production.platform]\n{PLATFORM}",
        f"{HEAD}[environments.production.platform]\n{PLATFORM}\n# next\n[environments.staging.platform]\n{PLATFORM}",
        f'{HEAD}[environments.production]\nplatform = {{ provider = "cloudflare", script = "fm5" }}\n\n[journal]\n',
        f'{HEAD}[environments.production.pin]\nscript_tag = "old" # why\n[environments.production]\nprotected = true\n',
        f"{HEAD}[environments.production.pin]\n\n[environments.production.platform]\n{PLATFORM}",
        f'{HEAD}[environments.production]\npin = {{ script_tag = "old", bucket = "b" }} # here\nprotected = true\n',
        f'{HEAD}[environments.production]\npin.script_tag = "old"\nplatform.script = "fm5"\n',
        f'{HEAD}environments.production.pin.script_tag = "old"\n'.replace("[app]\nname", "app.name"),
        f'{HEAD}[environments."production"]\nsecrets.required = [\n  "A",\n  "B",\n]\n[journal]\npath = "x"\n',
        f"{HEAD}[environments.production.platform]\n{PLATFORM}".replace("\n", "\r\n"),
        f'{HEAD}[environments.production.secrets]\nrequired = [\n["not a header"],\n]\n',
    ],
)
def test_only_the_pin_changes(text: str) -> None:
    """The result says the same but for the pin; every line and comment of before is still there, in order."""
    edited = set_pin(text, "production", PIN)
    assert edited is not None
    before, after = tomllib.loads(text), tomllib.loads(edited)
    assert after["environments"]["production"].pop("pin").items() >= PIN.items()
    before["environments"]["production"].pop("pin", None)
    assert after == before
    kept = [line for line in text.split("\n") if "pin" not in line and "script_tag" not in line]
    lines = iter(edited.split("\n"))
    assert all(line in lines for line in kept)
    for comment in ("# ours", "# the name", "# why", "# here", "# next"):
        assert (comment in edited) == (comment in text)
    assert set_pin(edited, "production", PIN) == edited


def test_what_cannot_be_edited_line_by_line_is_left_alone() -> None:
    """An environment in one inline table takes no second table."""
    inline = 'environments = { production = { platform = { script = "fm5" } } }\n'
    assert set_pin(inline, "production", PIN) is None
    assert set_pin("[environments]\nproduction = { platform = { script = 'fm5' } }\n", "production", PIN) is None
