"""pgBackRest: an existing repository in place of ours."""
