"""What is to be set in backout.toml, as lines for the user's own file: each such hint, in files as init writes."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout
from source_trees import nodes_of

from backout import config
from backout.config.init.additions import find_settings, rewrite_for_file, set_values
from backout.model.setting import describe_setting

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src" / "backout"
WRANGLER = """{
  "name": "shop", "account_id": "0123", "routes": [{ "pattern": "shop.example.com", "custom_domain": true }],
  "r2_buckets": [{ "binding": "B", "bucket_name": "files" }], "hyperdrive": [{ "binding": "DB", "id": "1" }],
}
"""
IN_ONE_LINE = """# as an earlier init wrote it
[app]
name = "shop"

[environments.production]
platform = { provider = "cloudflare", script = "shop", account_id = "0123" }
health = { url = "https://shop.example.com/health" } # a guess: check it
database = { provider = "postgres", url_env = "DATABASE_URL", migrations = "prisma" } # {ours}
# traffic = { provider = "recorder" } # uncomment

[environments.production.guard]
mode = "observe" # observe: say what it would do | ask | act: roll back

[incidents]
directory = ".ai/incidents"
"""
_TOLD = re.compile(r"(?:^|; )((?:below|in place|at the end)[^:]* of backout\.toml):((?:\n    .*)+)")
DOTTED = """app.name = "shop"
environments.production.platform = { provider = "cloudflare", script = "shop" }
[environments.production.database]
provider = "postgres"
url_env = "DATABASE_URL"
backup = { directory = "a}b", full_every = "1d" }
[environments.staging.platform]
provider = "cloudflare"
script = "shop-staging"
"""


def made_by_init(folder: Path) -> str:
    """Return the file that init writes today."""
    (folder / "wrangler.jsonc").write_text(WRANGLER)
    assert backout(folder, "init").code == 0
    return (folder / "backout.toml").read_text()


@functools.cache
def calls() -> tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...]:
    """Return (where, table, values) of every setting that an error in the source names."""
    return tuple(_calls())


def _calls() -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "describe_setting":
                table = tuple(n.value if isinstance(n, ast.Constant) else "production" for n in node.args)
                values = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", table, values


@pytest.mark.parametrize("file", ["made now", "in one line", "dotted"])
def test_each_hint_makes_a_file_that_is_read(tmp_path: Path, file: str) -> None:
    """Every setting that an error names is put into the file by the lines that are shown, and nothing else changes."""
    text = {"in one line": IN_ONE_LINE, "dotted": DOTTED}.get(file) or made_by_init(tmp_path)
    assert len(calls()) >= 12
    for where, table, values in calls():
        base = text
        if table[-2:] == ("database", "managed"):  # who lacks one key of it has the others
            base = set_values(text, table, {"provider": "xata", "project": "p", "branch": "b"}) or ""
        shown = rewrite_for_file(f"first; {describe_setting(*table, **values)}; then more", base, "backout.toml")
        assert "in backout.toml, [" not in shown, (where, shown)
        edited = typed(base, shown.removeprefix("first; ").removesuffix("; then more"))
        wanted = tomllib.loads(base)
        inner = wanted
        for part in table:
            inner = inner.setdefault(part, {})
        inner.update(values)
        assert tomllib.loads(edited) == wanted, (where, shown)
        assert config.find_mistakes(edited, tmp_path / "backout.toml") == (), (where, shown)


def typed(text: str, shown: str) -> str:
    """Return the file after a person did what is shown, line by line."""
    lines = text.rstrip("\n").split("\n")
    moved = 0
    for place, what in re.findall(
        r"(?:^|; )((?:below|in place|at the end)[^:]* of backout\.toml):((?:\n    .*)+)", shown
    ):
        new = [line[4:] for line in what.strip("\n").split("\n")]
        numbers = [int(number) for number in re.findall(r"\d+", place)]
        if place.startswith("at the end"):
            lines += new
        elif place.startswith("below"):
            lines[numbers[0] + moved : numbers[0] + moved] = new
            moved += len(new)
        else:
            lines[numbers[0] - 1 + moved : numbers[-1] + moved] = new
            moved += len(new) - (numbers[-1] - numbers[0] + 1)
    return "\n".join(lines) + "\n"


def test_the_hint_for_a_table_in_one_line_is_that_line(tmp_path: Path) -> None:
    """`db wal start` after an earlier init: a header of its own would be a mistake in TOML."""
    (tmp_path / "backout.toml").write_text(IN_ONE_LINE)
    answer = backout(tmp_path, "db", "wal", "start", variables={"DATABASE_URL": "postgres://127.0.0.1:9/x"})
    assert answer.code == 3, answer.err
    assert "in place of line 8 of backout.toml:\n" in answer.err
    line = (
        'database = { provider = "postgres", url_env = "DATABASE_URL", migrations = "prisma", '
        'backup = { wal = "stream" } } # {ours}'
    )
    assert line in answer.err


_BY_HAND = re.compile(r"\b(?:add|set|in|under|to|below) [^\n\"']*\[environments\.")


def test_no_hint_is_written_by_hand() -> None:
    """Who tells somebody to put something into a table of an environment does it with `describe_setting`."""
    found = [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in SOURCE.rglob("*.py")
        if path.name != "setting.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if _BY_HAND.search(line) and '"""' not in line
    ]
    assert not found
    assert _BY_HAND.search('hint=f"add [environments.{name}.database]"')
    assert _BY_HAND.search("Set it in [environments.p.guard]")


def test_settings_are_found_in_words() -> None:
    """A name that must be quoted, a nested table; words without one stay as they are."""
    words = f"do this: {describe_setting('environments', 'a b', 'secrets', source={'from': 'env'})}, or that"
    assert find_settings(words) == [(("environments", "a b", "secrets"), {"source": {"from": "env"}})]
    assert rewrite_for_file("nothing, to be { set }", "", "x") == "nothing, to be { set }"


def test_what_is_said_behind_a_setting_is_no_line_of_the_file() -> None:
    """It would be pasted with it, and is no TOML: it gets a line of its own."""
    words = (
        f"set it {describe_setting('environments', 'production', 'database', migrations='prisma')} (or "
        "alembic); then: mv a b"
    )
    shown = rewrite_for_file(words, "[app]\nname = 'a'\n", "backout.toml").splitlines()
    assert shown[-1] == "(or alembic); then: mv a b"
    assert tomllib.loads("\n".join(line.strip() for line in shown[1:-1]))
