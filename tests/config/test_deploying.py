"""Which of wrangler's environments a script of package.json deploys."""

from __future__ import annotations

import pytest

from backout.config.init.deploying import find_environment


@pytest.mark.parametrize(
    ("script", "built", "environment"),
    [
        ("npx wrangler@4 deploy -e live", "", "live"),
        ("wrangler versions upload --env 'live'", "", None),  # a quoted or computed name is not read
        ("wrangler deploy --env $ENV", "", None),
        ("CLOUDFLARE_ENV=$ENV wrangler deploy", "", None),
        ("wrangler deploy && echo -e done", "", ""),
        ("wrangler deploy", "live", "live"),
        ("opennextjs-cloudflare deploy", "", None),
    ],
)
def test_what_a_script_deploys(script: str, built: str, environment: str | None) -> None:
    """Without --env or CLOUDFLARE_ENV it is the top-level Worker, or the build's; None where it does not tell."""
    assert find_environment({"deploy": script}, "deploy", built) == environment
