"""Text for a terminal: Markdown is laid out so that it can be read in 80 columns."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    "text",
    [
        "|---|",
        "| grep -v nothing",
        "| a | b |\n| c | d |",
        "| a | b |\n|---|---|\n| c | d | e |",
        "```\n| a | b |\n|---|---|\n| c | d and a long line of output that nobody may break |\n```",
    ],
)
def test_lines_that_are_no_table_are_left_as_they_are(text: str) -> None:
    """People edit reports and quote output there; nothing of it is lost."""
    assert reflow_markdown(text, 40) == text


def test_a_row_of_dashes_is_a_row() -> None:
    """Only the line below the head is a rule."""
    assert reflow_markdown("| a | b |\n|---|---|\n| - | - |", 40) == "a  b\n-  -"
