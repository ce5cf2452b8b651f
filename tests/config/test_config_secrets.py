"""`secrets.source`: what each kind cannot do without, with file and line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from backout import config
from backout.config import Environment
from backout.config.secret_names import list_secret_variables
from backout.errors import UsageError
from backout.wiring.secrets import describe_source, list_own_names, make_source, read_expected_secrets

BASE = """[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5", token_env = "OUR_TOKEN" }
[environments.production.secrets]
"""


def load(folder: Path, text: str, variables: dict[str, str] | None = None) -> config.Config:
    (folder / "backout.toml").write_text(BASE + text)
    return config.load(Environment(variables or {}), start=folder)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('source = { from = "file" }', "source.path: required with from = 'file'"),
        ('source = { from = "keyring" }', "source.service: required with from = 'keyring'"),
        ('source = { from = "command" }', "source.command: required with from = 'command'"),
        ('source = { from = "command", command = [] }', "source.command: required with from = 'command'"),
        ('source = { from = "vault" }', "'vault'"),
        ('source = { path = "x" }', "source.from: required"),
        ('source = { from = "env", vault = "x" }', "vault"),
        ('source = { from = "command", command = ["x"], timeout = "soon" }', "timeout"),
        ('source = "file"', "source"),
    ],
    ids=range(9),
)
def test_a_mistake_is_told_with_its_line(text: str, mistake: str) -> None:
    """All of them, before anything is asked."""
    (found, *_) = config.find_mistakes(BASE + text, Path("backout.toml"))
    assert found.startswith("backout.toml:6: environments.production.secrets")
    assert mistake in found


@pytest.mark.parametrize(
    ("text", "named", "described"),
    [
        ('{ from = "file", path = "s.env" }', {"from": "file", "path": "FOLDER/s.env"}, "the file s.env"),
        ('{ from = "env", prefix = "P_" }', {"from": "env", "prefix": "P_"}, "the variables P_*"),
        ('{ from = "env" }', {"from": "env", "prefix": ""}, "the environment"),
        ('{ from = "keyring", service = "fm5" }', {"from": "keyring", "service": "fm5"}, "the keyring's service fm5"),
        (
            '{ from = "command", command = ["/usr/bin/sops", "-d", "x"] }',
            {"from": "command", "command": ["/usr/bin/sops", "-d", "x"], "timeout": 60.0},
            "the command sops",
        ),
    ],
    ids=["file", "prefix", "env", "keyring", "command"],
)
def test_a_source_is_named_in_a_plan_and_opened_by_that_name(
    tmp_path: Path, text: str, named: dict[str, object], described: str
) -> None:
    """The plan's words are enough to ask it again."""
    loaded = load(tmp_path, f"source = {text}")
    found = describe_source(loaded)
    assert found == {key: v.replace("FOLDER", str(tmp_path)) if isinstance(v, str) else v for key, v in named.items()}
    assert make_source(loaded, found).described == described


def test_expected_names_come_from_the_sample_and_the_list(tmp_path: Path) -> None:
    """Without the tokens of deployments and what is ignored; a sample that is not there is an error."""
    (tmp_path / ".env.example").write_text(
        "JWT_SECRET=\nNODE_ENV=production\nOUR_TOKEN=\nCLOUDFLARE_API_TOKEN=\n# X=\n"
    )
    loaded = load(tmp_path, 'example = ".env.example"\nrequired = ["KEY"]\nignore = ["NODE_ENV"]')
    found = read_expected_secrets(loaded)
    assert (found.example, found.required, found.where) == (("JWT_SECRET",), ("KEY",), ".env.example")
    assert {"OUR_TOKEN", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID", "NODE_ENV"} == list_own_names(loaded)
    assert describe_source(loaded) is None
    with pytest.raises(UsageError, match="No such file"):
        read_expected_secrets(load(tmp_path, 'example = "gone"'))


def test_the_names_of_secrets_are_found_without_resolving_any_type() -> None:
    """A worker looks through all environments for each of them; to resolve the types took nearly all of its start."""

    class Inner(msgspec.Struct):
        key_env: Unresolved | None = None  # type: ignore[name-defined]  # noqa: F821
        headers_env: dict[str, str] = msgspec.field(default_factory=dict)

    found = list_secret_variables([Inner("KEY", {"X-Key": "HEADER"}), {"of": Inner()}, "other"])
    assert found == {"KEY", "KEY_FILE", "HEADER", "HEADER_FILE"}
