"""The state of a watched deployment as a pipeline shows it."""

from __future__ import annotations

from enum import StrEnum


class PipelineState(StrEnum):
    """The state of a deployment, in the terms of pipelines."""

    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILURE = "failure"  # it was bad, or not known to be good
    INACTIVE = "inactive"  # another deployment took its place
    ERROR = "error"  # it could not be judged
