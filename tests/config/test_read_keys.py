"""Every key of backout.toml is read by something: what is accepted and has no effect is a promise that nobody keeps."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import read_keys_plugin

from backout import config
from backout.config import schema
from backout.config.schema import environment, guard, notify
from backout.config.unbuilt import NOT_BUILT
from backout.model.guard import policy

from polling import PATIENCE_S

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "backout"
DECLARED = (schema, environment, guard, notify, policy)
UNTYPED = {
    "backout.config.schema.environment.Ci.provider": "one kind so far; another one is a mistake of the file",
}
"""Keys that have an effect without being read as an attribute, with that effect."""
FILE = """[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5" }
storage = { provider = "r2", bucket = "models" }
deploy = { command = "true" }
"""


def fields_of(module: ModuleType) -> set[str]:
    """Return the dotted name of each field that a module of settings declares."""
    found = set()
    for kind in vars(module).values():
        if not inspect.isclass(kind) or kind.__module__ != module.__name__:
            continue
        names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        names += kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else []
        found |= {f"{module.__name__}.{kind.__qualname__}.{name}" for name in names}
    return found


FIELDS = set().union(*map(fields_of, DECLARED))


@pytest.mark.rotating("whole sources", 3)
@pytest.mark.long
def test_every_key_is_read(tmp_path: Path) -> None:
    """By its type, as mypy knows it; the class's own methods count, its declaration does not."""
    settings, told = tmp_path / "pyproject.toml", tmp_path / "read"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    plugin = f'[tool.mypy]\nplugins = ["{read_keys_plugin.__file__}"]\nincremental = false\n'
    settings.write_text(text.replace("[tool.mypy]\n", plugin), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", os.devnull],
        cwd=ROOT, env={**os.environ, read_keys_plugin.TARGET: str(told)}, capture_output=True, text=True, check=False,
        timeout=3 * PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    read = {line.partition("\t")[0] for line in told.read_text(encoding="utf-8").splitlines()}
    assert len(FIELDS & read) > 150
    assert FIELDS - read == set(UNTYPED)


def test_every_key_has_a_name_that_the_source_reads() -> None:
    """The same by names alone, in a moment: a key whose name is its own is found here."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    names = set().union(*(re.findall(r"\.([a-z]\w*)", text) for text in texts))
    assert {field for field in FIELDS if field.rpartition(".")[2] not in names} == set()


@pytest.mark.parametrize("key", sorted(NOT_BUILT))
def test_a_key_that_nothing_reads_is_refused(key: str) -> None:
    """With its line, and what there is in its place; no field of the schema bears its name there."""
    table, _, name = key.partition(".")
    text = re.sub(rf"^({table} = {{.*) }}$", rf'\1, {name} = "x" }}', FILE, flags=re.MULTILINE)
    assert text != FILE
    (mistake,) = config.find_mistakes(text, Path("backout.toml"))
    assert re.fullmatch(rf"backout\.toml:\d: environments\.production\.{key}: not built yet: .*; take it out", mistake)
    assert config.find_mistakes(FILE, Path("backout.toml")) == ()
