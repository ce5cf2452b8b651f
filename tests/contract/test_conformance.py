"""First contact: the calls on the twin, recorded and compared; what deviates is found, nothing is left."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from api_gate import Answer, api_gate, said
from values import replace

from backout.analysis.conformance import compare, find_shape
from backout.model.conformance import Difference, Observation
from backout.providers.cloudflare.conformance import FirstContact
from backout.providers.memory import WorldClock
from backout.report.conformance import format_page
from backout.wiring.conformance import load_expected_answers

from drillbook import ENV, PROGRAM
from extent import long
from polling import PATIENCE_S

if TYPE_CHECKING:
    from drillbook import Drillbook


DATABASE = ("--database-env", "TWIN_DATABASE_URL")


def contact(book: Drillbook, *options: str, base_url: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real program as a newcomer would: without a configuration."""
    twin = book.stage.twin
    environment = {
        **ENV,
        "CLOUDFLARE_ACCOUNT_ID": str(twin.account_id),
        "CLOUDFLARE_API_BASE_URL": base_url or str(twin.api_base_url),
        "CLOUDFLARE_API_TOKEN_FILE": str(twin.api_token_file),
        "TWIN_DATABASE_URL": str(twin.postgres_dsn),
    }
    command = [str(PROGRAM), "conformance", "--json", "--ingress-url", str(twin.ingress_url), *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment, cwd="/"
    )


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON answer."""
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def things(book: Drillbook) -> set[str]:
    """Return the Workers by name, and the queues and the Hyperdrive configurations by id."""
    twin = book.stage.twin
    token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
    found: set[str] = set()
    for path, name in (("workers/scripts", "id"), ("queues", "queue_id"), ("hyperdrive/configs", "id")):
        url = f"{twin.api_base_url}/accounts/{twin.account_id}/{path}"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as response:
            found |= {each[name] for each in json.loads(response.read())["result"]}
    return found


def test_the_twin_answers_as_it_was_recorded(open_drillbook: Drillbook, tmp_path: Path) -> None:
    """The file that real answers are compared with is the twin as it is now (`tools/record_conformance.py`)."""
    before = things(open_drillbook)
    with open_drillbook.fault("telemetry-lag", latency_ms=0):
        done = contact(open_drillbook, "--yes", *DATABASE, "--write", str(tmp_path / "page.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = answer(done)
    assert found["conforms"] is True
    unknown = {
        (one.name, fact) for one in load_expected_answers() for fact, value in one.facts.items() if value is None
    }
    assert {(each["call"], each["what"]) for each in found["differences"]} <= unknown
    measured = {call["name"]: call["measured"] for call in found["calls"]}
    assert 0 <= measured["telemetry"]["seconds until all were told"] < 30
    assert [call["name"] for call in found["calls"]] == [one.name for one in load_expected_answers()]
    assert all(call["status"] for call in found["calls"])
    assert things(open_drillbook) == before, "something was not deleted"
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    settled = page.partition("## What this settles")[2]
    for row in ("a deployment of a version at 0 %", "`PATCH queues/{id}`", "Hyperdrive's own durations"):
        assert re.search(rf"^\| {re.escape(row)}.* \| yes \|$", settled, re.MULTILINE), settled
    assert "Nothing differs that matters" in page
    assert page.partition("\n## ")[0].count("\n| ") == len(found["calls"]) + 1
    assert "- telemetry: seconds until all were told: " in page


def test_the_page_of_guesses_and_the_calls_say_the_same_of_what_is_proved() -> None:
    """Each call names rows of docs/providers.md, and each row the calls that settle it."""
    page = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
    table = page.partition("### What is a guess")[2].partition("\n\nbackout's messages")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    asked = {row[0]: set() if row[-1] == "no call yet" else set(row[-1].split(", ")) for row in rows}
    contact = FirstContact(
        base_url="http://127.0.0.1:9/client/v4",
        token=str,
        account_id="a",
        clock=WorldClock(0.0),
        shape_of=find_shape,
        database=dict,
    )
    for call in contact.calls:
        for begins in call.proves:
            assert [row.startswith(begins) for row in asked].count(True) == 1, (call.name, begins)
    proved = {row: {c.name for c in contact.calls if row.startswith(c.proves or ("-",))} for row in asked}
    assert proved == asked
    assert sum(bool(calls) for calls in asked.values()) >= 24


def test_a_page_says_what_it_settles() -> None:
    """A row is so if none of its calls differs in a way that matters."""
    seen = [Observation(name, "?", 200) for name in ("switch", "tail", "delete")]
    differences = [Difference("switch", "status", "200", "403", matters=True)]
    differences += [Difference("tail", "more", "not there", "string", matters=False)]
    proves = {"switch": ("what is `live`", "the list"), "tail": ("the list", "at | most ten"), "delete": ()}
    page = format_page(seen, differences, proves, at=0.0, against="https://api.example.com")
    settled = [line for line in page.partition("## What this settles")[2].splitlines() if line.startswith("| ")]
    assert settled[1:] == [
        "| what is `live` … | switch | **no** |",
        "| the list … | switch, tail | **no** |",
        "| at \\| most ten … | tail | yes |",
    ]


@pytest.mark.long
def test_deviating_answers_are_named_with_both_sides(open_drillbook: Drillbook) -> None:
    """Another refusal, another error code, a missing field, an endpoint that is closed: each is told."""
    deployed = {"id": "d", "created_on": "2026-01-01T00:00:00Z", "versions": []}
    listed = {"success": True, "errors": [], "messages": [], "result": {"deployments": [deployed]}}
    with api_gate(str(open_drillbook.stage.twin.api_base_url)) as gate:
        gate.when("POST", "/tails", said(403, 10000, "Authentication error"))
        gate.when("PUT", "/secrets", said(400, 10099, "another code"))
        gate.when("GET", "/deployments", said(404, 10007, "not there"), Answer(200, json.dumps(listed).encode()))
        with open_drillbook.fault("telemetry-lag", latency_ms=0):
            done = contact(open_drillbook, "--yes", base_url=gate.url)
    assert done.returncode == 1, done.stderr
    differences = {(d["call"], d["what"]): (d["expected"], d["found"]) for d in answer(done)["differences"]}
    assert differences["tail", "status"] == ("200", "403")
    assert differences["secret put", "error code"] == ("none", "10099")
    assert differences["history", "result.deployments[].versions[].version_id"] == ("string", "not there")
    assert differences["history", "names its version"] == ("yes", "no")


@pytest.mark.parametrize("status", [long(500), 401])
def test_the_worker_is_deleted_when_a_call_goes_wrong(open_drillbook: Drillbook, status: int) -> None:
    """An API that fails in the middle leaves no Worker behind, and a refused token is exit 4."""
    before = things(open_drillbook)
    with api_gate(str(open_drillbook.stage.twin.api_base_url)) as gate:
        gate.when("PUT", "/workers/scripts/", Answer(status))
        done = contact(open_drillbook, "--yes", base_url=gate.url)
        assert any(method == "DELETE" for method, _, _ in gate.passed)
    assert done.returncode == (4 if status == 401 else 1)
    assert things(open_drillbook) == before


def test_nothing_is_asked_without_a_yes_and_nothing_in_a_dry_run(open_drillbook: Drillbook) -> None:
    """A newcomer's account is not touched before a person said so."""
    with api_gate(str(open_drillbook.stage.twin.api_base_url)) as gate:
        refused = contact(open_drillbook, base_url=gate.url)
        dry = contact(open_drillbook, "--dry-run", *DATABASE, base_url=gate.url)
        without = contact(open_drillbook, "--dry-run", base_url=gate.url)
        assert gate.passed == []
    assert refused.returncode == 3
    assert "--yes" in refused.stdout + refused.stderr
    assert dry.returncode == 0
    assert len(answer(dry)["calls"]) == len(load_expected_answers())
    left_out = {call["name"] for call in answer(dry)["calls"]} - {call["name"] for call in answer(without)["calls"]}
    assert left_out == {"query cache", "query cache off", "query cache on"}


def test_an_answer_compared_with_itself_differs_in_nothing() -> None:
    """And what is said beyond the expected does not matter, what is missing does."""
    seen = Observation("a", "?", 200, facts={"n": 1}, shape=find_shape({"id": "x", "items": [{"n": 1}]}))
    assert compare((seen,), (seen,)) == ()
    more = replace(seen, shape=seen.shape | {"extra": "string", "items[].m": "number"})
    assert [(d.what, d.matters) for d in compare((seen,), (more,))] == [("extra", False), ("items[].m", False)]
    assert [(d.what, d.matters) for d in compare((more,), (seen,))] == [("extra", True), ("items[].m", True)]
    unmeasured = replace(seen, facts={"n": None})
    assert [(d.what, d.matters) for d in compare((unmeasured,), (seen,))] == [("n", False)]
    assert [(d.what, d.matters) for d in compare((seen,), (unmeasured,))] == [("n", True)]
    other = replace(seen, shape=seen.shape | {"id": "number"})
    assert [(d.what, d.expected, d.found) for d in compare((seen,), (other,))] == [("id", "string", "number")]
    maybe = replace(seen, shape=seen.shape | {"id": "null"})
    assert compare((seen,), (maybe,)) == ()
    assert [d.found for d in compare((seen,), ())] == ["it was not made"]
    assert [d.found for d in compare((seen,), (replace(seen, trouble="no answer"),))] == ["no answer"]
