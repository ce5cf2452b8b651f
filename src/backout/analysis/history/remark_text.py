"""Parses the text of a remark; pure. The result does not count yet: only `analysis.history.marks` may use it (a test).

A remark stands in brackets in front of the text, and its longest form has 94 bytes: providers cut messages, the
strictest known limit is 100. With a key, `sig=` and a signature are its last word (`analysis.history.seal`).

    [backout rollback-1a2b3c4d auto hop=2 bad=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout ramp-1a2b3c4d ramp] to 50 %: the reason
    [backout secrets-1a2b3c4d secrets] the reason
    [backout recover-1a2b3c4d maintenance] the reason
    [backout rollback-1a2b3c4d prove] at 0 %, to be asked before it gets traffic
    [backout guard-1a2b3c4d pair] asked at 0 %, beside what is live
    [backout guard-1a2b3c4d stable=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout rollback-1a2b3c4d questioned=1a2b3c4d/0123456789ab/abcdef1] the reason
    [backout hold until=2026-11-25T12:00:00Z in=rollback-1a2b3c4d] the reason
    [backout release ok=1a2b3c4d/0123456789ab/abcdef1] the reason

Behind the brackets, where an older backout reads it as a part of the reason, stands which event was the newest of the
journal (`model.witness`), if one could be read:

    [backout secrets-1a2b3c4d secrets] journal=1a2b3c4d/0123456789ab the reason

It is read exactly as it is written, letter by letter: other spaces, another case or order, a word more are no remark.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from backout.decoding import Undecodable, parse_moment
from backout.model.remark import CODE_DIGITS, NAMED_BY_KIND, SHA_DIGITS, VERSION_DIGITS, Code, Remark, RemarkKind
from backout.model.witness import Witness

_HEAD = re.compile(r"\[backout [!-Z\\^-~]+(?: [!-Z\\^-~]+)*\](?= |\Z)", re.ASCII)
_RUN = re.compile(r"[a-z]{1,12}-[0-9A-Za-z]{1,16}", re.ASCII)
_CODE = re.compile(rf"([\w.-]{{1,{VERSION_DIGITS}}})/([\w.-]{{0,{CODE_DIGITS}}})/([\w.-]{{0,{SHA_DIGITS}}})", re.ASCII)
_SIGNATURE = re.compile(r"sig=[0-9A-Za-z_-]{14}", re.ASCII)
_WITNESS = re.compile(r"journal=([0-9a-f]{8})/([0-9a-f]{12})(?: |\Z)", re.ASCII)
_HOP = re.compile(r"[1-9][0-9]?", re.ASCII)
_UNTIL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


def parse(message: str) -> Remark | None:
    """Return the remark at the beginning of a message, or None when there is none.

    >>> parse("[backout rollback-1a2b3c4d auto bad=1a2b3c4d/0123456789ab/] it fails").auto
    True
    >>> parse("deploy of main")
    """
    found = _HEAD.match(message)
    if found is None:
        return None
    first, *words = found[0][len("[backout ") : -1].split(" ")
    signature = words.pop() if words and _SIGNATURE.fullmatch(words[-1]) else ""
    text = message[found.end() + 1 :]
    told = _WITNESS.match(text)
    read = _read(first, words, text if told is None else text[told.end() :])
    if read is None:
        return None
    witness = None if told is None else Witness(told[1], told[2])
    read = replace(read, signature=signature.removeprefix("sig="), witness=witness)
    return read if read.head == found[0] else None


def _read(first: str, words: list[str], text: str) -> Remark | None:
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if first == "hold":
        until, incident = _parse_seconds(values.get("until", "")), values.get("in", "")
        if until is None or (incident and not _RUN.fullmatch(incident)):
            return None
        return Remark(RemarkKind.HOLD, until=until, incident=incident, text=text)
    if first == "release":
        return Remark(RemarkKind.RELEASE, code=_parse_code(values.get("ok")), text=text)
    if not _RUN.fullmatch(first):
        return None
    for kind in NAMED_BY_KIND:
        if words == [kind]:
            return Remark(kind, first, text=text)
    for kind in (RemarkKind.STABLE, RemarkKind.QUESTIONED):
        if kind in values:
            return Remark(kind, first, code=_parse_code(values[kind]), text=text)
    hop = values.get("hop", "1")
    return Remark(
        RemarkKind.ROLLBACK,
        first,
        auto="auto" in words,
        hop=int(hop) if _HOP.fullmatch(hop) else 1,
        code=_parse_code(values.get("bad")),
        text=text,
    )


def _parse_code(text: str | None) -> Code | None:
    found = _CODE.fullmatch(text or "")
    return Code(found[1], found[2], found[3]) if found else None


def _parse_seconds(text: str) -> float | None:
    if text == "0":
        return 0.0
    if not _UNTIL.fullmatch(text):
        return None
    try:
        return parse_moment(text)
    except Undecodable:
        return None
