"""A function begins with a verb: what it does is read where it is called."""

from __future__ import annotations

import ast
import re

from source_trees import SOURCE, tree_of

VERBS = frozenset(re.findall(r"\w+", """
abort accept accumulate act add admit advance advise agree alter announce answer append apply approve ask assess assume
attach attempt authenticate await begin bind blank boot bound break bring build call cancel carry cascade cast catch
change check choose clamp classify clean clear close coalesce combine commit compare compile complete compose compute
conclude connect constrain convert copy count cover crash create cut damage decode define delete demand deploy derive
describe detach diagnose dial differ disable disturb divide do draft drain draw drop dump embed enable encode end
enrich ensure equal escape estimate evaluate examine exchange exclude execute exist explain extend extract fail feed
fence fetch file fill finalize find fingerprint finish fit fold follow foresee forget forgive format freeze get give go
greet group guard hash heed hide hold ignore include infer inherit inline insert install invert isolate join judge keep
label lack lead learn leave lie limit link list listen live load locate lock log look lower main make mark mask match
measure mend mention merge mix monitor move multiply name need note observe open order overlay overwrite pack parse
pass patch pause perform pin place plan post precede prepare print protect prove prune pump push put quarantine query
quote raise rank reach read receive recognise record redact refer reflow refresh refuse regress rehearse relay release
remain remember remove rename render renew renumber repair repeat replace replay report require rescue reset resolve
respond restore restrict resume retain retrace retry return revalidate reveal rewrite roll round run save say search
see select send serve set settle share shorten show sift sign simulate skip slow sort spare spawn speak split squeeze
stand start stay stop store strip subtract suffer suggest sum summarize survey sync take teach tell tie touch trace
translate truncate try undo unescape unpack unquote update upload use verify wait walk want warn watch weigh wire
withhold work worsen wrap write
"""))  # fmt: skip
"""What the functions of a module begin with; another verb is added here."""
AUXILIARIES = {
    *("is", "are", "has", "was", "can", "cannot", "may", "must", "should", "would"),
    *("came", "became", "began", "gave", "went"),
}
CONVERSIONS = {"to", "as", "from"}
"""As in Python's own `from_bytes`."""
FIELD = frozenset(
    (
        *("beta_tails", "beta_quantile", "quantile_ms", "upper_bound", "low_chi_square", "mass", "odds"),  # statistics
        *("md", "prose", "cell", "code", "block"),  # what makes Markdown of a text
        *("safe", "safe_if", "breaking"),  # the verdicts on a migration
        *("head", "control", "quiet", "now", "strict", "proving", "__getattr__"),
    )
)
"""Names that the field has for a value."""


def begins_with_a_verb(name: str) -> bool:
    """Whether a name does, in the third person too: `holds`, `touches`."""
    word = name.lstrip("_").partition("_")[0]
    forms = {word, word.removesuffix("s"), word.removesuffix("es")}
    return bool(forms & VERBS) or word in AUXILIARIES | CONVERSIONS or {name, name.lstrip("_")} & FIELD != set()


def named() -> list[str]:
    """Return the functions of modules, but commands, which are named as they are typed, and context managers."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in tree_of(path).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if "contextmanager" not in decorators and path.relative_to(SOURCE).parts[0] != "cli":
                found.append(f"{path.relative_to(SOURCE)}: {node.name}")
    return found


def test_each_function_begins_with_a_verb() -> None:
    assert [each for each in named() if not begins_with_a_verb(each.rpartition(": ")[2])] == []


def test_what_does_not_begin_with_one_is_found() -> None:
    assert len(named()) > 3000
    assert not any(map(begins_with_a_verb, ("rows_of", "_newest", "without_rows", "described")))
    assert all(map(begins_with_a_verb, ("find_rows", "_holds", "touches_rows", "is_newest", "md")))
