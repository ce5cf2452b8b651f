"""Names expected against names present, and what fingerprints and versions say of "changed since"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.analysis.secrets import find_binding, look_at
from backout.model.secrets import ExpectedSecrets, PushedSecret, Since
from backout.model.version import Version, VersionId

if TYPE_CHECKING:
    from backout.model.secrets import SecretState


def version(number: int, *secrets: str, by: str = "upload", text: tuple[str, ...] = ()) -> Version:
    """Return a version that was made at second `number`."""
    bindings = tuple([f"secret_text:{name}" for name in secrets] + [f"plain_text:{name}" for name in text])
    return Version(
        VersionId(f"v{number}"), number, float(number), triggered_by=by, secret_names=secrets, bindings=bindings
    )


def pushed(at: int, mark: str = "key1-aa", name: str = "A") -> PushedSecret:
    return PushedSecret(name, mark, f"v{at}", float(at), f"run-{at}")


def state(
    live: Version, target: Version | None, *others: Version, pushes: tuple[PushedSecret, ...] = ()
) -> SecretState:
    """Return the state of the name A."""
    everything = [v for v in (live, target, *others) if v is not None]
    expected = ExpectedSecrets(required=("A",))
    look = look_at("e", expected=expected, live=live, target=target, versions=everything, pushes=pushes)
    return next(each for each in look.states if each.name == "A")


def test_expected_by_whom_and_what_is_missing() -> None:
    """The sample file, the list and the version to return to expect; any binding of that name is enough."""
    live, target = version(2, "A", text=("PLAIN",)), version(1, "A", "LOST")
    expected = ExpectedSecrets(example=("PLAIN", "A", "GONE"), required=("A", "NEW"), where=".env.example")
    look = look_at("e", expected=expected, live=live, target=target, target_why="stable")
    assert look.missing == ("GONE", "LOST", "NEW")
    assert look.missing_in_target == ("NEW",)
    by_name = {each.name: each for each in look.states}
    assert by_name["A"].expected_by == ("example", "required", "live", "target")
    assert by_name["LOST"].expected_by == ("target",)
    assert (by_name["PLAIN"].live, by_name["A"].live, by_name["NEW"].live) == ("plain_text", "secret_text", "")
    assert (look.example, look.target_why) == (".env.example", "stable")


def test_without_a_version_to_return_to_nothing_is_said_of_one() -> None:
    """Neither missing nor changed."""
    look = look_at("e", expected=ExpectedSecrets(required=("A",)), live=version(1), target=None)
    assert (look.missing, look.missing_in_target, look.target) == (("A",), (), "")
    assert look.states[0].since_target is None


@pytest.mark.parametrize(
    ("pushes", "others", "since_push", "since_target"),
    [
        ((), (), None, Since.SAME),
        ((pushed(3),), (version(3, "A", by="secret"),), Since.SAME, Since.CHANGED),
        ((pushed(0), pushed(3)), (version(3, "A", by="secret"),), Since.SAME, Since.SAME),
        ((pushed(0, "key1-bb"), pushed(3)), (), Since.SAME, Since.CHANGED),
        ((pushed(0, "key2-aa"), pushed(3)), (), Since.SAME, Since.MAYBE),
        ((pushed(1),), (), Since.SAME, Since.SAME),
        ((), (version(3, "A", by="secret"),), None, Since.MAYBE),
        ((pushed(2),), (version(3, "A", by="secret"),), Since.MAYBE, Since.CHANGED),
        ((pushed(0), pushed(3, name="B")), (version(3, "A", "B", by="secret"),), Since.SAME, Since.SAME),
        ((pushed(9),), (), Since.CHANGED, Since.SAME),
    ],
    ids=range(10),
)
def test_changed_since(
    pushes: tuple[PushedSecret, ...], others: tuple[Version, ...], since_push: Since | None, since_target: Since
) -> None:
    """Live is version 5, the target version 1; what backout set when, and what others did."""
    found = state(version(5, "A"), version(1, "A"), *others, pushes=pushes)
    assert (found.since_push, found.since_target) == (since_push, since_target)


def test_added_and_gone() -> None:
    """A name that only one of both has."""
    assert state(version(2, "A"), version(1)).since_target is Since.ADDED
    assert state(version(2), version(1, "A")).since_target is Since.GONE
    assert state(version(2), None, pushes=(pushed(1),)).since_push is Since.GONE


def test_what_the_source_holds_beside_what_was_set() -> None:
    """The same, another, none, or nothing to compare with."""

    def of(held: dict[str, str], *pushes: PushedSecret) -> Since | None:
        live = version(2, "A")
        look = look_at("e", expected=ExpectedSecrets(), live=live, target=None, pushes=pushes, held=held)
        return look.states[0].source

    assert of({"A": "key1-aa"}, pushed(1)) is Since.SAME
    assert of({"A": "key1-bb"}, pushed(1)) is Since.CHANGED
    assert of({"A": "key2-aa"}, pushed(1)) is Since.MAYBE
    assert of({"A": "key1-aa"}) is Since.MAYBE
    assert of({}, pushed(1)) is Since.GONE


def test_how_a_name_is_bound() -> None:
    """Details may list a secret without its kind."""
    assert find_binding(Version(VersionId("v"), 1, 0.0, secret_names=("A",)), "A") == "secret_text"
    assert find_binding(version(1, text=("B",)), "B") == "plain_text"
    assert find_binding(version(1), "C") == ""
