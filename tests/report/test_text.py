"""Text for a terminal: Markdown is laid out so that it can be read in 80 columns."""

from __future__ import annotations

from backout.report.text import reflow_markdown

PAGE = """# A heading that stays whole whatever its width may be, since a title that is broken is none

A long paragraph of more words than a line of forty columns can hold at once.

| for | vendor | contacts |
|---|---|---|
| code | Cloudflare [dashboard](https://dash.example.com) [support](https://support.example.com) | |
| a \\| b | none | Ann |

| a | b |
|---|---|
| 1 | 2 |

![Failed requests, by version](2026-12-01-picture.svg)
"""


def test_tables_and_pictures_can_be_read_in_a_narrow_terminal() -> None:
    """A table that fits stands in columns, a wider one has a line for each cell; no row is broken."""
    assert (
        reflow_markdown(PAGE, 40)
        == """\
# A heading that stays whole whatever its width may be, since a title that is broken is none

A long paragraph of more words than a
line of forty columns can hold at once.

  for     code
  vendor  Cloudflare dashboard
          https://dash.example.com
          support
          https://support.example.com

  for       a | b
  vendor    none
  contacts  Ann

a  b
1  2

Picture 2026-12-01-picture.svg: Failed
requests, by version"""
    )
