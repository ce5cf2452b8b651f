"""The files of Alembic and Django: what a revision is called and comes after, without running a line of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import UsageError
from backout.providers.files.revisions import AlembicRevisions, DjangoMigrations

if TYPE_CHECKING:
    from pathlib import Path

ALEMBIC = '''"""add note

Revision ID: {revision}
Revises: {after}
"""
from typing import Sequence, Union
from alembic import op
import application_that_is_not_installed

raise SystemExit("a migration that is run")
revision: str = "{revision}"
down_revision: Union[str, Sequence[str], None] = {after!r}
branch_labels = None
depends_on = {depends!r}
'''
DJANGO = """from django.conf import settings
from django.db import migrations, models
import application_that_is_not_installed

class Migration(migrations.Migration):
    initial = True
    dependencies = {dependencies}
    {more}
    operations = [migrations.RunPython(lambda apps, editor: None)]
"""


def alembic(folder: Path, revision: str, after: object = None, depends: object = None, name: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = ALEMBIC.format(revision=revision, after=after, depends=depends)
    (folder / (name or f"{revision}_add_note.py")).write_text(text)


def django(folder: Path, application: str, name: str, dependencies: str = "[]", more: str = "") -> None:
    place = folder / application / "migrations"
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").touch()
    (place / f"{name}.py").write_text(DJANGO.format(dependencies=dependencies, more=more))


def test_revisions_come_parents_first_whatever_their_files_are_called(tmp_path: Path) -> None:
    """Names are the revisions; the rest of the file's name is the title."""
    alembic(tmp_path, "fff")
    alembic(tmp_path, "ccc", "fff")
    alembic(tmp_path, "aaa", ("ccc", "bbb"))
    alembic(tmp_path / "deeper", "bbb", "fff", depends="ccc")
    (tmp_path / "common.py").write_text("OTHER = 1\n")
    known = AlembicRevisions(tmp_path).read()
    assert [(m.name, m.after) for m in known] == [
        ("fff", ()),
        ("ccc", ("fff",)),
        ("bbb", ("fff", "ccc")),
        ("aaa", ("ccc", "bbb")),
    ]
    assert known[0].title == "add note"
    assert len(known[0].checksum) == 64


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("revision = make()\n", r"not a string literal.*|x\.py:1"),
        ("revision = 7\n", "not a string literal"),
        ("revision = \n", "not Python that can be parsed"),
        ("a\0b", "not Python that can be parsed"),
        ("revision = 'a'\ndown_revision = 'a'\n", "in a circle: a"),
    ],
    ids=["computed", "number", "broken", "zero byte", "circle"],
)
def test_a_file_that_cannot_be_told_is_named(tmp_path: Path, text: str, what: str) -> None:
    """With its line where there is one."""
    (tmp_path / "x.py").write_text(text)
    with pytest.raises(UsageError, match=what) as caught:
        AlembicRevisions(tmp_path).read()
    assert str(tmp_path) in str(caught.value.where)


def test_one_revision_in_two_files_is_an_error(tmp_path: Path) -> None:
    """Alembic itself would warn, and take one of them."""
    alembic(tmp_path, "aaa", name="one.py")
    alembic(tmp_path, "aaa", name="two.py")
    with pytest.raises(UsageError, match=r"is in one\.py as well"):
        AlembicRevisions(tmp_path).read()


@pytest.mark.parametrize("reader", [AlembicRevisions, DjangoMigrations])
def test_a_missing_folder_is_named(tmp_path: Path, reader: type[AlembicRevisions | DjangoMigrations]) -> None:
    """A wrong path is not the same as nothing."""
    with pytest.raises(UsageError, match="no such folder"):
        reader(tmp_path / "nowhere").read()
    assert reader(tmp_path).read() == ()


def test_djangos_migrations_go_by_application_and_come_after_their_dependencies(tmp_path: Path) -> None:
    """Dependencies on settings and on applications elsewhere are passed over or kept as names."""
    django(tmp_path, "shop", "0001_initial", "[migrations.swappable_dependency(settings.AUTH_USER_MODEL)]")
    django(tmp_path, "shop", "0002_note", "[('shop', '0001_initial'), ('auth', '0001_initial')]")
    django(tmp_path, "aa", "0001_initial", "[('shop', '__latest__')]")
    django(tmp_path, "zz", "0001_initial", more="run_before = [('shop', '0001_initial')]")
    known = DjangoMigrations(tmp_path).read()
    assert [(m.name, m.after) for m in known] == [
        ("zz.0001_initial", ()),
        ("shop.0001_initial", ("zz.0001_initial",)),
        ("shop.0002_note", ("shop.0001_initial", "auth.0001_initial")),
        ("aa.0001_initial", ("shop.0002_note",)),
    ]
    assert {m.application for m in known} == {"zz", "shop", "aa"}


def test_one_applications_folder_can_be_named_itself(tmp_path: Path) -> None:
    """`migrations_path = "shop/migrations"`; squashed migrations say what they replace."""
    replaces = "replaces = [('shop', '0001_initial'), ('shop', '0002_note')]"
    django(tmp_path, "shop", "0001_squashed", more=replaces)
    (known,) = DjangoMigrations(tmp_path / "shop" / "migrations").read()
    assert (known.name, known.replaces) == ("shop.0001_squashed", ("shop.0001_initial", "shop.0002_note"))
