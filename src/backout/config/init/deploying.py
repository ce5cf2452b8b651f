"""Which of wrangler's environments a script of package.json deploys; it is read, never run.

Source: the wrangler documentation, "Environments" and "System environment variables" (2026): `--env` (`-e`) or
CLOUDFLARE_ENV names the environment, and without them the top-level Worker is deployed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEPLOY = re.compile(
    r"\bwrangler(?:@\S{1,40})?\s{1,40}(?:deploy|publish|versions\s{1,40}(?:upload|deploy))\b([^;&|]{0,400})"
)
_FLAG = re.compile(r"(?:^|\s)(?:--env|-e)(?:[=\s]\s*(?P<name>[\w-]+)(?=\s|$))?")
_VARIABLE = re.compile(r"\bCLOUDFLARE_ENV=(?P<name>[\w-]+)?")
_RUN = re.compile(r"\b(?:npm|pnpm|yarn|bun)\s+(?:run\s+)?([\w:.-]+)(?:\s+--(?=\s))?")
_DEPTH = 3


def find_environment(scripts: Mapping[str, str], name: str, built: str = "") -> str | None:
    """Return the environment that a script deploys, "" for the top-level Worker, None where the script does not tell.

    >>> find_environment({"deploy": "npm run build && wrangler deploy -e live", "build": "vite build"}, "deploy")
    'live'
    >>> find_environment({"deploy": "wrangler deploy"}, "deploy"), find_environment({"deploy": "./up.sh"}, "deploy")
    ('', None)

    Args:
        scripts: those of package.json by name.
        built: the environment of the build whose configuration wrangler deploys where no other is named.
    """
    text = _read_script(scripts, name, _DEPTH)
    deploy = _DEPLOY.search(text)
    if deploy is None:
        return None
    named = _FLAG.search(deploy[1]) or _VARIABLE.search(text)
    return built if named is None else named["name"]


def deploys_top(scripts: Mapping[str, str], environment: str, built: str = "") -> bool | None:
    """Whether the team's own script for an environment deploys the top-level Worker instead; None: no script tells."""
    for name in (f"deploy:{environment}", "deploy:production", "deploy:prod", "deploy"):
        found = find_environment(scripts, name, built)
        if found is not None:
            return not found
    return None


def _read_script(scripts: Mapping[str, str], name: str, depth: int) -> str:
    """Return a script with those that it runs in their places: what is typed behind one goes to its last command."""

    def replace(found: re.Match[str]) -> str:
        inner = found[1]
        return _read_script(scripts, inner, depth - 1) if depth and inner != name and inner in scripts else found[0]

    return _RUN.sub(replace, scripts.get(name, ""))
