"""pgBackRest: an existing repository instead of ours."""
