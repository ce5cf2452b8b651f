"""The pipeline that builds and deploys, and its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.wiring.masked_ports import MaskedBuilds, MaskedPipeline

if TYPE_CHECKING:
    from backout.config import Config, Environment
    from backout.config.schema.environment import Ci
    from backout.ports import Builds, Pipeline


def make_pipeline(variables: Environment, ci: Ci | None, environment: str, health_url: str = "") -> Pipeline:
    """Return the page of the workflow that this process runs in.

    Args:
        health_url: of whose host the page has a link, "" for none.

    Raises:
        UsageError, AuthError: as `find_workflow`.
    """
    from urllib.parse import urlsplit

    from backout.config.init.workflow import find_workflow
    from backout.providers.github.client import GitHubClient
    from backout.providers.github.deployments import GitHubDeployment

    workflow = find_workflow(variables, ci, environment)
    shown = GitHubDeployment(
        GitHubClient(workflow.api_base_url, workflow.token.reveal),
        workflow.repository,
        commit=workflow.commit,
        environment=environment,
        log_url=workflow.run_url,
        url=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if (parts := urlsplit(health_url)).hostname else "",
    )
    return MaskedPipeline(shown, variables.mask_text)


def make_builds(config: Config) -> Builds | None:
    """Return the pipeline that builds and deploys, None where none is set up; its token is read at the first call."""
    ci = config.environment.ci
    if ci is None:
        return None
    from backout.config.init.workflow import API_BASE_URL as GITHUB_URL
    from backout.config.init.workflow import get_pipeline_token
    from backout.providers.github.builds import GitHubBuilds
    from backout.providers.github.client import GitHubClient

    url = str(ci.api_base_url or config.variables.get("GITHUB_API_URL") or GITHUB_URL)
    found = GitHubBuilds(GitHubClient(url, lambda: get_pipeline_token(config.variables, ci).reveal()), ci.repository)
    return MaskedBuilds(found, config.variables.mask_text)
