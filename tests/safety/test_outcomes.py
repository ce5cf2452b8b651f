"""What an outcome means is decided in one place: streams that ended early counted as failures where it was not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import backout
from backout.model.outcomes import GONE, is_canceled

SOURCE = Path(backout.__file__).parent
DECIDED = SOURCE / "model" / "outcomes.py"


def test_no_other_module_compares_an_outcome_with_that_of_a_client_who_left() -> None:
    """`is_canceled`, `has_failed` or GONE, wherever counts are made."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and path != DECIDED and path.name != "graphql.py":
                names = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
                names |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
                if names & {*GONE, "CANCELED", "_CANCELED"}:
                    found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    allowed = ("providers/cloudflare/analytics.py", "providers/prometheus/traffic.py", "twin/dataplane/proxy.py")
    assert [each for each in found if not each.startswith(allowed)] == []
    assert is_canceled("responseStreamDisconnected", 200)


def test_the_flight_recorder_knows_the_same() -> None:
    recorder = (SOURCE / "catalogue" / "recorder" / "recorder.js").read_text(encoding="utf-8")
    (listed,) = re.findall(r"const GONE = new Set\(\[([^\]]*)\]\)", recorder)
    assert set(re.findall(r'"(\w+)"', listed)) == GONE
