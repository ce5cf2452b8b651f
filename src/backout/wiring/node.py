"""The Node that a person's `npx wrangler` runs with; no environment is needed to say it."""

from backout.providers.node import lines_for_npx, path_line, write_programs

__all__ = ["lines_for_npx", "path_line", "write_programs"]
