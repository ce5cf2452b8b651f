"""`backout recover` as it is typed: what it refuses before anything is asked of a provider."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout
from recovery_story import ASK, Night, recover
from values import replace

from backout.errors import PartlyDone, ProviderUnavailable
from backout.model.objects.progress import ObjectProgress
from backout.runbook.recover.accepted import ACCEPTED
from backout.runbook.recover.prepare import prepare

from line import equip

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[app]
name = "shop"
[environments.production]
protected = true
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no --to, and no interrupted recovery to go on with"),
        (("--undo", "--to", "14:03"), "has no moment and no parts"),
        (("--list", "--mark", "x"), "two commands"),
        (("--accept", "--swap"), "has no moment and no parts"),
        (("--accept", "--undo"), "two commands"),
        (("--accept", "-m", "seen"), "there is no interrupted recovery to go on with"),
        (("--to", "14:03", "--deadline", "soon"), "--deadline"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "backout.toml").write_text(FILE, encoding="utf-8")
    variables = {"CLOUDFLARE_API_TOKEN": "t" * 40}
    answer = backout(tmp_path, "recover", "-e", "production", *words, variables=variables)
    assert answer.code == 2, answer.err
    assert said in answer.err


def test_only_a_recovery_is_taken_back_by_its_run(tmp_path: Path) -> None:
    (tmp_path / "backout.toml").write_text(FILE, encoding="utf-8")
    answer = backout(tmp_path, "runs", "undo", "recover-1a2b3c4d", "-e", "production")
    assert answer.code == 2
    assert "no run 'recover-1a2b3c4d'" in answer.err


def test_what_a_second_check_found_is_shown_and_accepted_with_a_reason(tmp_path: Path) -> None:
    """It is recorded before the run goes on, which it cannot here: the platform of this file does not answer."""
    text = FILE.replace('script = "shop"', 'script = "shop", api_base_url = "http://127.0.0.1:9"')
    (tmp_path / "backout.toml").write_text(f'{text}[journal]\npath = "journal.sqlite"\n', encoding="utf-8")
    night = Night(tmp_path)
    night.bucket.refused = {"k0": "AccessDenied"}
    with pytest.raises(PartlyDone):
        recover(night.tools(), replace(ASK, only=("objects",)))
    variables = {"CLOUDFLARE_API_TOKEN": "t" * 40}

    def accept(*words: str) -> str:
        answer = backout(tmp_path, "recover", "--accept", "-e", "production", *words, variables=variables)
        assert answer.code != 0
        return answer.out + answer.err

    box = night.tools().tools
    shown = backout(tmp_path, "recover", "--accept", "--dry-run", "-e", "production", variables=variables)
    assert (shown.code, "k0: it was not brought back" in shown.out) == (0, True)
    assert "needs a reason" in accept()
    assert "needs a person's confirmation" in accept("-m", "it is gone")
    assert not [*box.journal.events(environment="production", kind=ACCEPTED)]
    assert "picking up run" in accept("-m", "it is gone", "--confirm", "production")
    (noted,) = box.journal.events(environment="production", kind=ACCEPTED)
    assert (noted.data["why"], noted.data["differs"]) == ("it is gone", ["k0: it was not brought back"])


def test_a_recovery_of_which_only_job_workers_are_left_is_not_made_twice(tmp_path: Path) -> None:
    """Typed again, it goes on with them; what was written since would be lost. The platform does not answer here."""
    text = FILE.replace('script = "shop"', 'script = "shop", api_base_url = "http://127.0.0.1:9"')
    (tmp_path / "backout.toml").write_text(f'{text}[journal]\npath = "journal.sqlite"\n', encoding="utf-8")
    night = Night(tmp_path)
    made = night.tools()
    tools = replace(made, tools=equip(made.tools, jobs=night.world.job_workers))

    def fail(name: str) -> None:
        if name == "job_workers.start":
            raise ProviderUnavailable("it failed")

    night.world.before_call = fail
    with pytest.raises(PartlyDone):
        recover(tools, replace(ASK, only=("objects",)))
    variables = {"CLOUDFLARE_API_TOKEN": "t" * 40}
    for words in (("--to", "night"), ()):
        answer = backout(tmp_path, "recover", *words, "-e", "production", variables=variables)
        assert "picking up run" in answer.err, answer.err
    other = backout(tmp_path, "recover", "--to", "1 minute ago", "-e", "production", variables=variables)
    assert "picking up run" not in other.err


def test_a_dry_run_ends_no_recovery_and_does_not_say_that_it_did(tmp_path: Path) -> None:
    """Of one that has overwritten nothing there is nothing to take back."""
    (tmp_path / "backout.toml").write_text(f'{FILE}[journal]\npath = "journal.sqlite"\n', encoding="utf-8")
    tools = Night(tmp_path).tools()
    plan = prepare(tools, replace(ASK, only=("objects",)))
    run = tools.tools.journal.submit(plan, actor="ops@host", reason="an import")
    words = ("recover", "--undo", "--dry-run", "-e", "production")
    shown = backout(tmp_path, *words, variables={"CLOUDFLARE_API_TOKEN": "t" * 40})
    assert shown.code == 0, shown.err
    what = f"run {run} has overwritten nothing, and moved nobody: it would be ended, and what it stopped would go on"
    assert " ".join(shown.out.split()) == what
    found = tools.tools.runs.find(run)
    assert found is not None
    assert not found.state.is_over


def test_the_rate_of_objects_counts_from_the_beginning_of_their_step() -> None:
    """A recovery has gone on for minutes when it comes to them: that is no part of their rate."""
    assert find_spec("backout.cli.objects.meter"), "an earlier source had none"
    from backout.cli.objects.meter import Meter  # noqa: PLC0415 - so that the other tests run on an earlier source

    said: list[str] = []
    times = iter((0.0, 300.0, 301.0))
    live: Any = SimpleNamespace(progress=lambda text, _at: said.append(text))
    meter = Meter(live, lambda: next(times))
    for done in (100, 600):
        meter.show(ObjectProgress("restoring", done, 1100))
    assert said == ["restoring 600 of 1,100 objects, 500 a second, 1.0 s left"]
