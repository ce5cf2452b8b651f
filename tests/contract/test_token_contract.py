"""Port TokenCheck on Cloudflare: on the twin, and against answers that an API may give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.config.init.counts import PERMISSION
from backout.errors import ProviderUnavailable
from backout.model.token import Permission, TokenState
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.permissions import TABLE, TEMPLATE
from backout.providers.cloudflare.token import CloudflareTokens
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.twin.faults import Fault, FaultKind

from scripted_server import answer, refused_url, scripted_server
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from scripted_server import Step

NOW = 1_800_000_000.0
ACTIVE = {"id": "t1", "status": "active"}


def good(result: object) -> Step:
    return answer({"success": True, "errors": [], "result": result})


def refused(status: int, code: int = 1000) -> Step:
    return answer({"success": False, "errors": [{"code": code, "message": "no"}], "result": None}, status)


def look(*steps: Step) -> tuple[TokenState, list[str]]:
    """Return the state of one token and the paths that were asked."""
    with scripted_server() as server:
        server.will(*steps)
        client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN, clock=WorldClock(NOW))
        (state,) = CloudflareTokens({"all": client}, "acc", clock=WorldClock(NOW)).look()
        return state, [call.target.removeprefix("/client/v4/") for call in server.asked]


def test_the_twins_token(tmp_path: Path) -> None:
    """It is valid, says when it expires and what it may; refused, it is a state and no error."""
    with running_api(tmp_path) as api:
        client = ApiClient(f"{api.url}/client/v4", lambda: TOKEN)
        tokens = CloudflareTokens({"rollback": client, "read": client}, ACCOUNT)
        states = tokens.look()
        assert [(state.role, state.valid) for state in states] == [("rollback", True), ("read", True)]
        assert states[0].expires_at == 4_102_358_400.0
        assert "Workers Scripts Write" in (states[0].scopes or ())
        api.faults.set(Fault(FaultKind.API_TOKEN_REFUSED))
        assert [(state.valid, state.status) for state in tokens.look()] == [(False, "refused")] * 2


def test_an_account_owned_token_is_asked_about_where_it_belongs() -> None:
    """The user's call refuses it (401, or 403): only both refusals together mean refused."""
    for status in (401, 403, 400):
        state, asked = look(refused(status), good(ACTIVE), refused(403))
        assert (state.valid, state.scopes) == (True, None)
        assert asked == ["user/tokens/verify", "accounts/acc/tokens/verify", "accounts/acc/tokens/t1"]
    state, asked = look(refused(401), refused(401))
    assert state == TokenState(valid=False, status="refused")


@pytest.mark.parametrize(
    ("more", "valid", "status"),
    [
        ({"status": "disabled"}, False, "disabled"),
        ({"status": "expired", "expires_on": "2020-01-01T00:00:00Z"}, False, "expired"),
        ({"not_before": "2027-01-16T00:00:00Z"}, False, "not valid yet"),
        ({"not_before": "2027-01-14T00:00:00Z", "expires_on": None}, True, "active"),
    ],
)
def test_what_the_provider_says_of_it(more: dict[str, str], valid: bool, status: str) -> None:
    """The provider's own word is kept."""
    state, _ = look(good({**ACTIVE, **more}), refused(403))
    assert (state.valid, state.status) == (valid, status)


def test_an_api_that_does_not_answer_is_an_error() -> None:
    """Not knowing is no state."""
    client = ApiClient(refused_url(), lambda: TOKEN, retry=Retry(attempts=1))
    with pytest.raises(ProviderUnavailable):
        CloudflareTokens({"all": client}, "acc").look()


def describe_in_the_docs(permission: Permission) -> str:
    """Return a permission's row in docs/providers.md."""
    words, _, last = permission.name.rpartition(" ")
    level = {"Write": "Edit"}.get(last, last)
    without = 'it is "not measured"' if permission.optional else "it fails"
    also = f", or {', '.join(f'*{name}*' for name in permission.also)}" if permission.also else ""
    label = f"{permission.kind} → {permission.label or words} → {level}"
    has = "yes" if permission.templated else "**no**"
    return f"| {permission.use} | *{permission.name}*{also} | {label} | {has} | {without} |"


def test_the_documentation_names_each_permission() -> None:
    """docs/providers.md has a row for each entry of the table, in its order, and knows the template."""
    text = Path(__file__).parents[2].joinpath("docs", "providers.md").read_text(encoding="utf-8")
    rows = [describe_in_the_docs(permission) for permission in TABLE.values()]
    assert "\n".join(rows) in text, "\n".join(rows)
    assert f"*{TEMPLATE}*" in text
    assert TABLE["telemetry"].name == PERMISSION


def test_every_call_names_a_permission_of_the_table() -> None:
    """So that what an error asks for is what `init` and `doctor` ask for."""
    known = {name for each in TABLE.values() for name in (each.name, *each.also)}
    folder = Path(__file__).parents[2] / "src" / "backout" / "providers" / "cloudflare"
    assert not [path.name for path in folder.glob("*.py") if 'permission="' in path.read_text(encoding="utf-8")]
    from backout.providers.cloudflare import permissions  # noqa: PLC0415 - the constants that calls name

    constants = {name: value for name, value in vars(permissions).items() if name.isupper() and isinstance(value, str)}
    assert {value for name, value in constants.items() if name != "TEMPLATE"} <= known
