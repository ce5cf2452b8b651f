"""The deployments of a repository, as GitHub shows them."""
