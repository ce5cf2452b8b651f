"""Failing builds: each case is a small project in a fresh folder and the command that a pipeline would run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from collect import keep

ROOT = Path(__file__).resolve().parents[2]
BIN = [ROOT / "node_modules" / ".bin", ROOT / ".venv" / "bin"]
LIMIT = 120
"""Seconds that one command may take."""
PACKAGE = {"name": "shop-api", "version": "3.2.0"}
LOCK = {"name": "shop-api", "version": "3.2.0", "lockfileVersion": 3, "packages": {"": PACKAGE}}
PROJECT = "[project]\nname = 'shop'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['idna>=3']\n"
HEAP = "const kept = []; for (;;) kept.push(new Array(1e5).fill('x'))"

# Origin -> (files, command).
CASES: dict[str, tuple[dict[str, object], list[str]]] = {
    "npm#ci_out_of_step": (
        {"package.json": {**PACKAGE, "dependencies": {"ms": "^2.1.3"}}, "package-lock.json": LOCK},
        ["npm", "ci"],
    ),
    "npm#no_such_version": ({"package.json": {**PACKAGE, "dependencies": {"ms": "99.0.1"}}}, ["npm", "install"]),
    "npm#no_script": ({"package.json": PACKAGE}, ["npm", "run", "build"]),
    "esbuild#unresolved": (
        {"a.ts": "import { pay } from 'pay-next'; pay()"},
        ["esbuild", "a.ts", "--bundle", "--outfile=o.js"],
    ),
    "esbuild#syntax": ({"a.ts": "const a = 'unterminated\n"}, ["esbuild", "a.ts", "--outfile=o.js"]),
    "node#heap": ({"a.js": HEAP}, ["node", "--max-old-space-size=50", "a.js"]),
    "node#test": (
        {"a.test.mjs": "import t from 'node:test'; import a from 'node:assert'; t('vat', () => a.equal(1, 2))"},
        ["node", "--test"],
    ),
    "uv#no_lock": ({"pyproject.toml": PROJECT}, ["uv", "sync", "--frozen"]),
    "uv#conflict": ({"pyproject.toml": PROJECT.replace("idna>=3", "idna>900")}, ["uv", "lock"]),
    "pip#no_version": ({"requirements.txt": "idna==999.1\n"}, ["pip", "download", "-d", "d", "-r", "requirements.txt"]),
    "ruff#check": ({"a.py": "import os\nprint(total)\n"}, ["ruff", "check", "--isolated", "a.py"]),
    "mypy#strict": ({"a.py": "def f(x: int) -> str:\n    return x\n"}, ["mypy", "--strict", "a.py"]),
    "pytest#assert": ({"test_a.py": "def test_total():\n    assert sum([1, 2]) == 4\n"}, ["pytest", "-q", "test_a.py"]),
    "pytest#import": ({"test_a.py": "from shop.prices import total\n"}, ["pytest", "-q", "test_a.py"]),
}


def main() -> None:
    """Run every case and print what the tool printed."""
    environment = dict(os.environ, CI="true", NO_COLOR="1", PATH=os.pathsep.join([*map(str, BIN), os.environ["PATH"]]))
    for origin, (files, command) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_text(content if isinstance(content, str) else json.dumps(content))
            try:
                done = subprocess.run(
                    command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                print(f"{origin}: {error}", file=sys.stderr)
                continue
            if done.returncode == 0:
                print(f"{origin}: did not fail", file=sys.stderr)
                continue
            keep(origin, "build", (done.stdout + done.stderr).replace(folder, "/app"))


if __name__ == "__main__":
    main()
