"""The commented example is the schema and the documentation: it parses, and it has every key."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec
import pytest
from values import replace

from backout import config
from backout.config.schema import EnvironmentSettings, Settings
from backout.config.toml_lines import find_lines

HOST = "web1"
"""A table of the example whose name anybody gives."""
TEXT = (resources.files("backout") / "catalogue" / "backout.toml").read_text()
MINIMAL = """
[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5-production" }
"""


def load(
    folder: Path, text: str, variables: dict[str, str] | None = None, environment: str | None = None
) -> config.Config:
    (folder / "backout.toml").write_text(text)
    return config.load(config.Environment(variables or {}), start=folder, environment=environment)


def keys(kind: type[msgspec.Struct], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every key that a section knows, sections themselves included."""
    found: list[tuple[str, ...]] = []
    for field in msgspec.structs.fields(kind):
        here = (*path, field.encode_name)
        found.append(here)
        for candidate in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
                found += keys(candidate, here)
    return found


def test_the_example_is_right() -> None:
    """The example as a whole has no mistake."""
    assert config.find_mistakes(TEXT, Path("backout.toml")) == ()


def test_the_example_has_every_key() -> None:
    """A key that the schema knows and the example does not show would be an undocumented setting."""
    wanted = {path for path in keys(Settings) if path[0] != "environments"}
    wanted |= {("environments", "production", *path) for path in keys(EnvironmentSettings)}
    assert len(wanted) > 60
    shown = {tuple(each for each in path if each != HOST) for path in find_lines(TEXT)}
    assert wanted - shown == set()


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    """Criteria and guard of the example are the defaults: who deletes a line changes nothing."""
    shown, default = load(tmp_path, TEXT).policy, load(tmp_path, MINIMAL).policy
    assert shown.criteria == default.criteria
    assert shown.guard.alpha == pytest.approx(default.guard.alpha, rel=0.01)
    assert replace(shown.guard, alpha=default.guard.alpha) == default.guard


def test_the_sample_application_is_configured() -> None:
    """examples/fm5/backout.toml has no mistake."""
    file = Path(__file__).parents[2] / "examples" / "fm5" / "backout.toml"
    assert config.find_mistakes(file.read_text(), file) == ()
