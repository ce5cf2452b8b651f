"""What a pipeline shows of a deployment that is being watched."""

from __future__ import annotations

from enum import StrEnum


class PipelineState(StrEnum):
    """Where a deployment stands, in the words of pipelines."""

    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILURE = "failure"  # it was bad, or nobody knows that it is good
    INACTIVE = "inactive"  # another deployment took its place
    ERROR = "error"  # it could not be judged
