"""The Node that a person's `npx wrangler` runs with; no environment is needed to say it."""

from backout.providers.node import format_path_line, list_npx_lines, write_programs

__all__ = ["format_path_line", "list_npx_lines", "write_programs"]
