"""Reads the XML of an S3 server's answers; nothing a server sends can make it fetch or expand anything.

The bodies come from a server, so they are not trusted: expat without a DTD (no entities, no external references),
always as UTF-8, with a limit on the size, the depth and the number of elements. An answer counts only with the root
that belongs to its call, since a 200 can carry an error, or the page of a network that wants a login.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_BODY_BYTES = 16 * 1024 * 1024
"""A page of 1000 keys of 1024 bytes, every byte percent-encoded, stays below a third of it."""
_DEEPEST = 16
_MOST_NODES = 100_000
"""A page of 1000 entries has less than a fifth of it."""
_LONGEST_TAG = 40
_ENTRY = 2
"""The depth of a listing's entry: below the root."""
ERROR = "Error"


class MalformedAnswer(ValueError):
    """The body is not XML of S3, or not what the call is answered with."""


class LateError(MalformedAnswer):
    """The answer began with 200, and its body is an error."""


@dataclass(slots=True)
class Node:
    """One XML element; the namespace is dropped, since S3 servers do not agree on it."""

    tag: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Node]:
        """Yield the direct children of that name, in document order."""
        return (child for child in self.children if child.tag == tag)

    def value(self, tag: str, default: str = "") -> str:
        """Return the text of the first child of that name."""
        return next((child.text for child in self.all(tag)), default)


class Entry(NamedTuple):
    """One entry of a listing: its element's name, and the texts of the elements in it."""

    tag: str
    fields: dict[str, str]


def parse_listing(body: bytes, tag: str, entries: frozenset[str]) -> tuple[Node, list[Entry]]:
    """Return the root of a listing, without its entries, and those in the document's order.

    A listing has thousands of entries, and a tree of them takes three times as long.

    Args:
        tag: the root's name.
        entries: the names of its entries.

    Raises:
        LateError, MalformedAnswer: as `parse_result`.
    """
    root, found = Node(""), list[Entry]()
    path: list[str] = []
    texts: list[str] = []
    fields: dict[str, str] = {}
    groups: dict[str, list[Node]] = {}
    made = 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal fields, made
        made += 1
        path.append(name.rpartition(":")[2])
        texts.clear()
        if len(path) > _DEEPEST:
            raise MalformedAnswer("XML nested too deeply")
        if made > _MOST_NODES:
            raise MalformedAnswer(f"XML of more than {_MOST_NODES} elements")
        if len(path) == _ENTRY and path[-1] in entries:
            fields = {}
            found.append(Entry(path[-1], fields))

    def end(_name: str) -> None:
        name = path.pop()
        depth = len(path)
        if depth == _ENTRY and path[1] in entries:
            fields.setdefault(name, "".join(texts))
        elif depth == 1 and name not in entries:
            root.children.append(Node(name, "".join(texts), groups.pop(name, [])))
        elif depth == _ENTRY:
            groups.setdefault(path[1], []).append(Node(name, "".join(texts)))
        elif depth == 0:
            root.tag = name
        texts.clear()

    _feed(body, start, end, texts.append)
    return check_root(root, tag), found


def parse_xml(body: bytes) -> Node:
    """Return the root element.

    Raises:
        MalformedAnswer: not well-formed in UTF-8, too large, too deep, of too many elements, or with a DTD.
    """
    top = Node("")
    open_nodes, texts, made = [top], [[""]], 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal made
        made += 1
        if len(open_nodes) > _DEEPEST:
            raise MalformedAnswer("XML nested too deeply")
        if made > _MOST_NODES:
            raise MalformedAnswer(f"XML of more than {_MOST_NODES} elements")
        node = Node(name.rpartition(":")[2])
        open_nodes[-1].children.append(node)
        open_nodes.append(node)
        texts.append([])

    def end(_name: str) -> None:
        open_nodes.pop().text = "".join(texts.pop())

    def text(data: str) -> None:
        texts[-1].append(data)

    _feed(body, start, end, text)
    return top.children[0]


def _feed(
    body: bytes,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None],
    text: Callable[[str], None],
) -> None:
    """Have XML read. Raises MalformedAnswer: not well-formed in UTF-8, too large, or with a DTD."""
    if len(body) > LONGEST_BODY_BYTES:
        raise MalformedAnswer(f"{len(body)} bytes of XML")

    def doctype(*_: object) -> None:
        raise MalformedAnswer("XML with a DTD")

    # S3 writes UTF-8. A declared encoding would be looked up among Python's codecs, of which some are none for text.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise MalformedAnswer(str(error)) from error


def parse_result(body: bytes, tag: str) -> Node:
    """Return the root element of an answer, which has to be of that name.

    Raises:
        LateError: it is an error instead.
        MalformedAnswer: it is anything else, or no XML.
    """
    return check_root(parse_xml(body), tag)


def check_root(root: Node, tag: str) -> Node:
    """Return the root element of an answer, which has to be of that name.

    Raises:
        LateError: it is an error instead.
        MalformedAnswer: it is anything else.
    """
    if root.tag == ERROR:
        raise LateError("an error in an answer that had begun well")
    if root.tag != tag:
        raise MalformedAnswer(f"the answer is <{root.tag[:_LONGEST_TAG]}> and not {f'<{tag}>' if tag else 'empty'}")
    return root


def check_empty(body: bytes) -> None:
    """Look at the body of an answer that says everything in its headers.

    Raises:
        LateError: it is an error.
        MalformedAnswer: it is a page of somebody else.
    """
    if body.lstrip().startswith(b"<"):
        parse_result(body, "")
