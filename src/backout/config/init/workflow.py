"""The workflow from a pipeline runner's variables and from `[environments.X.ci]`: where a deployment is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.errors import AuthError, UsageError

if TYPE_CHECKING:
    from backout.config.environment import Environment
    from backout.config.schema.environment import Ci
    from backout.config.secret import Secret

TOKEN_ENV = "GITHUB_TOKEN"  # noqa: S105 the name of a variable
API_BASE_URL = "https://api.github.com"


@dataclass(frozen=True, slots=True)
class Workflow:
    """One deployment in a pipeline.

    Args:
        repository: owner/name.
        commit: what is deployed.
        run_url: the page of the pipeline's run, "" when unknown.
    """

    repository: str
    commit: str
    environment: str
    run_url: str
    api_base_url: str
    token: Secret = field(repr=False)


def find_workflow(variables: Environment, ci: Ci | None, environment: str) -> Workflow:
    """Return the workflow that this process runs in; values that `ci` lacks come from the runner's variables.

    Raises:
        UsageError: the commit or the repository is not known.
        AuthError: there is no token.
    """
    repository = ci.repository if ci else variables.get("GITHUB_REPOSITORY")
    commit = variables.get("GITHUB_SHA")
    for name, value in (("GITHUB_REPOSITORY", repository), ("GITHUB_SHA", commit)):
        if not value:
            raise UsageError(f"{name} is not set, so no deployment of a workflow can be found", hint=f"set {name}")
    return Workflow(
        repository=str(repository),
        commit=str(commit),
        environment=environment,
        run_url=_make_run_url(variables),
        api_base_url=str((ci and ci.api_base_url) or variables.get("GITHUB_API_URL") or API_BASE_URL),
        token=_get_token(variables, ci),
    )


def get_pipeline_token(variables: Environment, ci: Ci) -> Secret:
    """Return the token that reads the pipeline's runs. Raises AuthError: there is none."""
    return _get_token(variables, ci)


def _make_run_url(variables: Environment) -> str:
    server, repository = variables.get("GITHUB_SERVER_URL"), variables.get("GITHUB_REPOSITORY")
    run = variables.get("GITHUB_RUN_ID")
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""


def _get_token(variables: Environment, ci: Ci | None) -> Secret:
    file = ci.token_file if ci else None
    name = (ci and ci.token_env) or (None if file else TOKEN_ENV)
    if name and (found := variables.secret(name)):
        return found
    if file:
        return variables.secret_file(file, "ci.token_file")
    raise AuthError(f"the pipeline needs a token, and {name} is not set", hint=f"set {name}")
