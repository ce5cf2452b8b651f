"""Port Reports: the World and a real folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.errors import BackoutError
from backout.providers.files.reports import FileReports
from backout.providers.memory import World

if TYPE_CHECKING:
    from backout.ports import Reports

NAME = "2026-11-25-production-errors.md"


@pytest.fixture(params=["memory", "files"])
def reports(request: pytest.FixtureRequest, tmp_path: Path) -> Reports:
    """Without any report yet."""
    return World().reports if request.param == "memory" else FileReports(tmp_path / ".ai" / "incidents")


def test_a_report_is_found_by_its_run(reports: Reports) -> None:
    """At the absolute path that writing returned; a run without one has none."""
    assert reports.of_run("r-1") is None
    path = reports.write("r-1", NAME, "# Report\n")
    assert path.is_absolute()
    assert path.name == NAME
    assert reports.of_run("r-1") == path
    assert reports.of_run("r-2") is None
    assert reports.of_run("r") is None


def test_writing_again_replaces_this_runs_file(reports: Reports) -> None:
    """Even when the incident got another title meanwhile."""
    path = reports.write("r-1", NAME, "# One\n")
    assert reports.write("r-1", "2026-11-25-another-title.md", "# Two\n") == path


def test_another_run_with_the_same_name_gets_its_own_file(reports: Reports) -> None:
    """-2, then -3; both runs are still found."""
    paths = [reports.write(f"r-{n}", NAME, f"# {n}\n") for n in (1, 2, 3)]
    assert [p.name for p in paths] == [
        NAME,
        "2026-11-25-production-errors-2.md",
        "2026-11-25-production-errors-3.md",
    ]
    assert [reports.of_run(f"r-{n}") for n in (1, 2, 3)] == paths


def test_a_name_cannot_leave_the_folder(reports: Reports) -> None:
    """Whatever a title holds, it becomes letters, digits and hyphens."""
    first = reports.write("r-1", NAME, "# One\n")
    second = reports.write("r-2", "../../etc/Pass wd\x00ü.md", "# Two\n")
    assert second.parent == first.parent
    assert second.name == "etc-pass-wd.md"
    assert reports.write("r-3", "", "# Three\n").name == "incident.md"


def test_the_file_holds_the_text_and_names_its_run_at_the_end(tmp_path: Path) -> None:
    """In a comment, so that a rendered report does not show it."""
    path = FileReports(tmp_path).write("r-1", NAME, "# Report: ä\n\ntext\n")
    assert path.read_text("utf-8") == "# Report: ä\n\ntext\n\n<!-- backout run r-1 -->\n"
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_report_that_a_person_renamed_is_still_replaced(tmp_path: Path) -> None:
    """It is known by its comment, not by its name."""
    reports = FileReports(tmp_path)
    moved = reports.write("r-1", NAME, "# One\n").rename(tmp_path / "my-incident.md")
    assert reports.write("r-1", NAME, "# Two\n") == moved
    assert "# Two" in moved.read_text("utf-8")


def test_a_persons_own_file_is_never_touched(tmp_path: Path) -> None:
    """A file with the wanted name and without our comment belongs to somebody."""
    (tmp_path / NAME).write_text("mine", "utf-8")
    path = FileReports(tmp_path).write("r-1", NAME, "# One\n")
    assert path.name == "2026-11-25-production-errors-2.md"
    assert (tmp_path / NAME).read_text("utf-8") == "mine"


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Here it is a file."""
    (tmp_path / "incidents").write_text("a file", "utf-8")
    reports = FileReports(tmp_path / "incidents")
    with pytest.raises(BackoutError, match="cannot be written") as caught:
        reports.write("r-1", NAME, "# One\n")
    assert caught.value.where == str(tmp_path / "incidents")
    assert reports.of_run("r-1") is None


def test_a_relative_folder_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As contracts ask of `report_path`."""
    monkeypatch.chdir(tmp_path)
    path = FileReports(Path(".ai/incidents")).write("r-1", NAME, "# One\n")
    assert path == tmp_path / ".ai" / "incidents" / NAME


def test_a_report_is_amended_as_it_stands(reports: Reports) -> None:
    """Its own file and no other; a run without a report has none to amend, and is still found by its run after."""
    path, other = reports.write("r-1", NAME, "# One\n"), reports.write("r-2", NAME, "# Other\n")
    given: list[str] = []

    def change(page: str) -> str:
        given.append(page)
        return page.replace("# One\n", "# One\n\nmore\n")

    assert reports.amend("r-1", change) == path
    assert given[0].startswith("# One\n")
    assert reports.amend("r-1", lambda page: given.append(page) or page) == path  # type: ignore[func-returns-value]
    assert given[1].startswith("# One\n\nmore\n")
    assert (reports.of_run("r-1"), reports.of_run("r-2")) == (path, other)
    assert reports.amend("r-3", change) is None


def test_what_a_person_wrote_in_any_encoding_stays(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are not ours to mend, nor is a word that is a secret elsewhere."""
    reports = FileReports(tmp_path, redact=lambda text: text.replace("hunter2", "***"))
    path = reports.write("r-1", NAME, "# One hunter2\n")
    path.write_bytes(path.read_bytes().replace(b"# One ***", b"# One\xe4 hunter2\r"))
    reports.amend("r-1", lambda page: f"more\n{page}")
    assert path.read_bytes().startswith(b"more\n# One\xe4 hunter2\r\n")
    assert [each.name for each in tmp_path.iterdir()] == [NAME]


def test_what_is_saved_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """Somebody's editor writes the page while it is amended: the change is made of theirs."""
    reports = FileReports(tmp_path)
    path = reports.write("r-1", NAME, "# One\n")
    given: list[str] = []

    def change(page: str) -> str:
        given.append(page)
        if len(given) == 1:
            path.write_text("# Saved\n\n<!-- backout run r-1 -->\n")
        return f"{page}more\n"

    reports.amend("r-1", change)
    assert path.read_text() == "# Saved\n\n<!-- backout run r-1 -->\nmore\n"
    assert reports.of_run("r-1") == path
