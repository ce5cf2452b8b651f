r"""Make text from outside harmless for its destination; each destination has exactly one function, here.

Whatever an application, a visitor, a colleague's commit or a provider wrote is text: a terminal obeys none of it, a
page makes no link, picture, mention or element of it, a mail gets no header from it. Invisible characters are named.

    terminal: printable      Markdown: prose, cell, code, block, md      HTML: html
    Slack: slack             mail headers, one line of status: line      JSON on a terminal: escape_json
"""

from __future__ import annotations

import re
from functools import cache

INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Inside of a character class: invisible characters (fillers, joiners, marks of direction, tags, selectors)."""
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys instead of showing it; line ends and tabs are kept."""
_PRINTS_AS_IT_IS = re.compile(r"[\t\n -~\xa1-\xac\xae-\u02ff]*")
_COMMAND = re.compile(r"(?m)^([ \t]*)(?=::|##\[)")
"""What the runner of a pipeline takes for a command at the beginning of a line."""


def make_printable(text: str) -> str:
    r"""Return text for a terminal: `?` for what moves the cursor or renames the window, names for invisible characters.

    >>> make_printable("fine\x1b[2J\r\x1b]0;x\x07"), make_printable("to\u200bken \u202egnp")
    ('fine?[2J??]0;x?', 'to<U+200B>ken <U+202E>gnp')
    """
    text = _COMMAND.sub(r"\1'", text)
    return text if _PRINTS_AS_IT_IS.fullmatch(text) else show_unseen(_OBEYED.sub("?", text))


def make_harmless(text: str) -> str:
    r"""Return text that somebody typed with `?` for what a terminal would obey; lines and tabs stay, all else, too.

    >>> make_harmless("fine\x1b[2J\0\n")
    'fine?[2J?\n'
    """
    return _OBEYED.sub("?", text)


def show_unseen(text: str) -> str:
    """Return text with each invisible character replaced by its name; the selector of a picture is left."""
    return text if text.isascii() else _compile_unseen().sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def escape_json(text: str) -> str:
    r"""Return JSON for a terminal: the same value, with what a terminal obeys or does not show as its escape.

    >>> escape_json('"a\u202eb"')
    '"a\\u202eb"'
    """
    if text.isascii() and "\x7f" not in text:
        return text
    shown = re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)
    return _compile_unseen().sub(lambda found: _escape_units(found[0]), shown)


def _escape_units(character: str) -> str:
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


@cache
def _compile_unseen() -> re.Pattern[str]:
    return re.compile(rf"(?![\ufe0e\ufe0f](?<=[\u2190-\u3299\U0001f000-\U0001faff].))[{INVISIBLE}]")


def escape_line(text: str) -> str:
    r"""Return text as one line in which nothing is obeyed: a header, a status, a title.

    >>> escape_line("a\r\nBcc: all@example.com\x07")
    'a Bcc: all@example.com?'
    """
    return make_printable(" ".join(text.split()))


BRIEF = 240
"""How much of a person's reason is shown in other output; `--json`, the journal and the report have all of it."""


def fold_blanks(text: str) -> str:
    """Return text with line breaks and runs of blanks folded into single blanks."""
    return " ".join(text.split())


def shorten(text: str, most: int = BRIEF) -> str:
    r"""Return text on one line, cut at a word with an ellipsis when it has more than `most` characters.

    >>> shorten("moved\n  to /up"), shorten("one two three", 9), shorten("x" * 20, 9)
    ('moved to /up', 'one two…', 'xxxxxxxx…')
    """
    flat = fold_blanks(text)
    if len(flat) <= most:
        return flat
    cut = flat[:most].rpartition(" ")[0]
    return f"{cut if len(cut) > most // 2 else flat[: most - 1]}…"


def escape_html(text: str) -> str:
    """Return text for HTML, also within an attribute."""
    from html import escape

    return escape(make_printable(text), quote=True)


def escape_slack(text: str) -> str:
    """Return text in which Slack sees no link, mention or channel."""
    return make_printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- Markdown -----------------------------------------------------------------------------------------------------

_SPECIAL = r"[\\`*\[\]<|~$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|&(?=[#0-9A-Za-z]+;)|^>"
_LIVE = r"@|://|(?i:\bwww\.)|(?i:\b(?:mailto|xmpp|javascript|data):)|#\d|(?i:\bgh-\d)|\b[0-9a-f]{40}\b|:[a-z+-][a-z0-9_+-]*:"
"""What pages turn into a link, a mention or a picture even without brackets."""
_BLOCK = r"#{1,6}|[-+]|=+|:?-+:?|1[.)]"
_FIRST = r"\d{1,9}[.)]"
"""Words that turn the text they begin into a heading, a list or a rule."""


class Markdown(str):
    """Our own Markdown, in which all text from outside is escaped: only `md`, `prose`, `cell` and `code` make it.

    A plain f-string is not one, so that text from outside cannot get onto a page by accident.
    """

    __slots__ = ()


def md(template: str, *values: object) -> Markdown:
    r"""Return a template of ours with its `{}` filled in: Markdown and numbers as they are, any other text as `prose`.

    >>> md("## {}: {} of {}", "<img src=x>", 3, code("a`b"))
    '## \\<img src=x>: 3 of ``a`b``'
    """
    return Markdown(template.format(*(_escape_value(value) for value in values)))


def _escape_value(value: object) -> str:
    return str(value) if isinstance(value, Markdown | int | float) else prose(str(value))


def join_parts(parts: list[Markdown] | tuple[Markdown, ...], between: str = "\n") -> Markdown:
    """Return parts of a page one after the other."""
    return Markdown(between.join(parts))


def prose(text: str) -> Markdown:
    r"""Return text as one line that Markdown shows as it is; text between backticks, and live text, becomes code.

    >>> prose("a|b\n`c` <d> by @ops, see https://x.example")
    'a\\|b `c` \\<d> by `@ops,` see `https://x.example`'
    """
    flat = " ".join(make_printable(text).split())
    parts = flat.split("`")
    if len(parts) % 2 == 0 or not all(part.strip() for part in parts[1::2]):  # not closed, or nothing in it
        return Markdown(_escape_words(flat))
    shown_parts = [_fence(part) if number % 2 else _escape_words(part) for number, part in enumerate(parts)]
    return Markdown("".join(shown_parts))


def cell(text: str) -> Markdown:
    """Return text for a cell of a table: as `prose`, with no bar that begins the next cell."""
    return Markdown(re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", prose(text)))


def code(text: str) -> Markdown:
    r"""Return text as code on one line, in which nothing is live, whatever backticks it holds.

    >>> code("a`b``c"), code("")
    ('```a`b``c```', '')
    """
    return Markdown(_fence(" ".join(make_printable(text).split())))


def block(text: str, language: str = "") -> Markdown:
    r"""Return text of several lines as a block of code, whatever backticks it holds.

    >>> block("ls", "sh")
    '```sh\nls\n```'
    """
    fence = "`" * max(3, _find_longest(text) + 1)
    return Markdown(f"{fence}{language}\n{make_printable(text)}\n{fence}")


def _find_longest(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def _fence(text: str) -> str:
    if not text.strip():
        return text
    fence = "`" * (_find_longest(text) + 1)
    apart = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{apart}{text}{apart}{fence}"


def _escape_words(text: str) -> str:
    words = text.split(" ")
    return " ".join(_escape_word(word, first=number == 0) for number, word in enumerate(words))


def _escape_word(word: str, *, first: bool) -> str:
    if re.search(_LIVE, word):
        return _fence(word)
    if re.fullmatch(_BLOCK, word) or (first and re.fullmatch(_FIRST, word)):
        return f"{word[:-1]}\\{word[-1]}" if word[0].isdigit() else f"\\{word}"
    return re.sub(_SPECIAL, r"\\\g<0>", word)
