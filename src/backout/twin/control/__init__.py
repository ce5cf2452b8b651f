"""The control plane: scripts, versions, deployments, schedules, and their rules."""
