"""Turn a file, the environment and the flags into one frozen Config, or report every mistake at once.

Order: flags, then BACKOUT_* variables, then the file, then the defaults.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backout.config import scalars, trust
from backout.config.effective import Config
from backout.config.explain import Mistake, Where, explain, suggest_similar
from backout.config.identity import check_across_keys
from backout.config.overlay import overlay
from backout.config.places import list_records
from backout.config.schema import Settings
from backout.config.written import join_path
from backout.decoding import convert, decode_toml
from backout.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backout.config.environment import Environment
    from backout.errors import Untrusted

FILE_NAME = "backout.toml"
_SET_TWICE = ("Cannot declare", "Cannot overwrite", "Cannot mutate")
MAX_FILE_BYTES = 1024 * 1024

Table = dict[str, object]


def find(variables: Environment, start: Path, path: Path | None = None) -> Path:
    """Return the file: `path`, else BACKOUT_CONFIG, else the nearest backout.toml in `start` or above.

    Raises:
        UsageError: there is none.
    """
    named = path or (Path(found) if (found := variables.get("BACKOUT_CONFIG")) else None)
    if named is not None:
        if not named.is_file():
            raise UsageError("no such configuration file", where=str(named), hint="backout init")
        return named.absolute()
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise UsageError(
        f"no {FILE_NAME} here or in a folder above", where=str(start), hint="backout init, or --config FILE"
    )


def load(
    variables: Environment,
    *,
    start: Path,
    path: Path | None = None,
    environment: str | None = None,
    flags: Mapping[str, str] | None = None,
    on_doubt: Callable[[Untrusted], None] = trust.refuse,
    no_commands: bool = False,
) -> Config:
    """Return the configuration; `flags` are {"guard.mode": "act"}, keys relative to the chosen environment.

    Args:
        on_doubt: is told of a file, and of records beside it, that others could have written; if it returns, no program
            that the file names is run, and where it is the file, no address in it is used either.
        no_commands: no program is run in any case.

    Raises:
        ConfigError: with every mistake.
        UsageError: no file, or no such environment.
        Untrusted: by default.
    """
    doubts: list[Untrusted] = []

    def tell(doubt: Untrusted) -> None:
        doubts.append(doubt)
        on_doubt(doubt)

    file = find(variables, start, path)
    trust.check_config(file, variables.get(trust.TRUST_ENV), tell)
    text = read_file(file)
    document = parse_file(text, file)
    chosen = _choose(document, environment or variables.get("BACKOUT_ENVIRONMENT"), file)
    merged, set_by = overlay(document, chosen, variables, flags or {})
    settings = _convert(merged, text, file, set_by)
    if doubts:
        from backout.config.addresses import withhold_addresses

        settings = withhold_addresses(settings, set_by)
    trust.check_state(file.parent, list_records(settings), tell)
    if not (no_commands or doubts):
        return Config(file, settings, chosen, variables, text, set_by)
    from backout.config.programs import withhold

    without, withheld = withhold(settings, set_by)
    return Config(file, without, chosen, variables, text, set_by, no_commands=True, withheld=withheld)


def find_mistakes(text: str, file: Path) -> tuple[str, ...]:
    """Return every mistake of a configuration's text as `file:line: path: what`; empty if there is none."""
    try:
        _convert(parse_file(text, file), text, file, {})
    except ConfigError as error:
        return error.mistakes
    return ()


def read_file(file: Path) -> str:
    """Return the text of a file that a person writes.

    Raises:
        ConfigError: it is longer than 1 MiB, or not UTF-8.
        UsageError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError((f"{file.name}:1: longer than 1 MiB",))
        return content.decode()
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError((f"{file.name}:{line}: not UTF-8",)) from error


def parse_file(text: str, file: Path) -> Table:
    """Return the document of a text; `file` is what its mistakes name. Raises ConfigError: it is not TOML."""
    try:
        return decode_toml(text)
    except ValueError as error:
        what, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = int(line[1]) if line else text.rstrip().count("\n") + 1
        twice = _explain_duplicate(text, number) if what.startswith(_SET_TWICE) else ""
        mistake = f"{file.name}:{number}: TOML: {twice or what[:1].lower() + what[1:]}"
        raise ConfigError((mistake,), hint=f"correct {file.name}, then: backout config check") from error


def _explain_duplicate(text: str, number: int) -> str:
    """Return the mistake of a line that sets what an earlier one has set, "" for other lines.

    Args:
        number: of the line, from 1.
    """
    from backout.config.toml_lines import find_lines

    lines = text.split("\n")
    before, at = "\n".join(lines[: number - 1]), lines[number - 1]
    try:
        decode_toml(before)
        found, alone = find_lines(before), find_lines(at)
        header = next((line for line in reversed(lines[: number - 1]) if line.lstrip().startswith("[")), "")
        table = () if at.lstrip().startswith("[") else max(find_lines(header), key=len, default=())
    except ValueError:
        return ""
    path = (*table, *max(alone, key=len, default=()))
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            place = found[path[:length]]
            return f"{join_path(path[:length])} stands in line {place} already: write it there"
    return ""


def _choose(document: Table, wanted: str | None, file: Path) -> str | None:
    environments = document.get("environments")
    tables = environments if isinstance(environments, dict) else {}
    names = [name for name, value in tables.items() if isinstance(value, dict)]
    if wanted is None:
        return names[0] if len(names) == 1 else None
    if names and wanted not in names:
        raise UsageError(
            f"no environment {wanted!r}{suggest_similar(wanted, names)}",
            where=str(file),
            hint=f"one of: {', '.join(names)}",
        )
    return wanted if wanted in names else None


def _convert(document: Table, text: str, file: Path, set_by: Mapping[Where, str]) -> Settings:
    crossed = tuple(check_across_keys(document))
    try:
        settings = _make_absolute(convert(document, Settings, dec_hook=_make_hook(file.parent)), file.parent)
    except msgspec.ValidationError as error:
        found = tuple(explain(Settings, document)) or (Mistake((), str(error)),)
    else:
        if not crossed:
            return settings
        found = ()
    raise ConfigError(
        describe_mistakes((*found, *crossed), text, file, set_by),
        hint=f"correct {file.name}; every key with its meaning: backout config example",
    )


def _make_hook(folder: Path) -> Callable[[type, object], object]:
    def hook(kind: type, value: object) -> object:
        return value if kind is object else scalars.parse(kind, value, folder)

    return hook


def _make_absolute(settings: Settings, folder: Path) -> Settings:
    """Also resolve the default paths, which no hook has seen."""
    return msgspec.structs.replace(
        settings,
        incidents=msgspec.structs.replace(settings.incidents, directory=folder / settings.incidents.directory),
        journal=msgspec.structs.replace(
            settings.journal,
            path=folder / settings.journal.path,
            holds=folder / settings.journal.holds,
            bundles=folder / settings.journal.bundles,
        ),
    )


def describe_mistakes(found: Iterable[Mistake], text: str, file: Path, set_by: Mapping[Where, str]) -> tuple[str, ...]:
    """Return the mistakes as `file:line: path: what`, by line; `set_by` names what set a path in place of the file."""
    from backout.config.toml_lines import find_lines

    lines = find_lines(text)
    placed = []
    for mistake in found:
        line = _find_line(mistake.path, lines)
        place = set_by.get(mistake.path, f"{file.name}:{line}")
        name = f"{join_path(mistake.path)}: " if mistake.path else ""
        placed.append((line, f"{place}: {name}{mistake.what}"))
    return tuple(dict.fromkeys(words for _, words in sorted(placed, key=lambda pair: pair[0])))


def _find_line(path: Where, lines: Mapping[Where, int]) -> int:
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1
