"""What a fence around a real Postgres is refused for: each reason, and that its script takes the reason away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from fence_lab import DEADLINE, PASSWORD, Shop, running_server

from backout.errors import Refused
from backout.model.database.fence import FenceOrder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backout.model.database.fence import FenceRefusal


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_server(tmp_path_factory.mktemp("fence")) as port:
        yield port


@pytest.fixture
def shop(port: int, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(port, tmp_path)
    yield made
    made.fence.close()


def refusal(shop: Shop, words: str) -> FenceRefusal:
    """Return the one refusal there is; no fence goes up, and nothing is changed."""
    before = shop.roles()
    (found,) = shop.fence.survey().refusals
    assert re.search(words, found.reason), found.reason
    with pytest.raises(Refused, match=words) as raised:
        shop.fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, shop.fence.survey().planned))
    assert raised.value.options == found.script
    assert shop.roles() == before
    return found


def run_script(shop: Shop, found: FenceRefusal) -> None:
    """Run its SQL as the superuser does."""
    lines = [line for line in found.script if not line.startswith("--")]
    assert lines
    shop.administer(*lines)


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_plain_application_is_not_refused(shop: Shop) -> None:
    """It owns its database and nothing else."""
    found = shop.fence.survey()
    assert found.refusals == ()
    assert (found.database, found.ours, found.planned) == (shop.name, "postgres", (shop.name,))
    (role,) = [role for role in found.roles if role.name == shop.name]
    assert role.writes == "it owns the database"


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_the_same_role(shop: Shop) -> None:
    """Backout would shut itself out."""
    shop.fence = shop.make_fence(shop.name)
    reasons = [each for each in shop.fence.survey().refusals if "administrator's own role" in each.reason]
    assert "CREATE ROLE backout_admin LOGIN SUPERUSER" in reasons[0].script[0]


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_superuser_application(shop: Shop) -> None:
    """It could open any fence."""
    shop.administer(f"ALTER ROLE {shop.name} SUPERUSER")
    run_script(shop, refusal(shop, "logs in as the superuser"))
    assert shop.fence.survey().refusals == ()


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_role_that_another_application_uses(shop: Shop) -> None:
    """By what it owns, what it was granted, or a session it has there."""
    shop.administer(f"CREATE DATABASE {shop.name}_two")
    assert shop.fence.survey().refusals == ()
    with shop.connect("postgres", f"{shop.name}_two") as session:
        session.execute("CREATE TABLE books (i int)")
        session.execute(f"GRANT SELECT ON books TO {shop.name}")
    found = refusal(shop, f"also used in {shop.name}_two")
    assert "CREATE ROLE" in found.script[0]
    with shop.connect("postgres", f"{shop.name}_two") as session:
        session.execute(f"DROP OWNED BY {shop.name}")
        assert shop.fence.survey().refusals == ()
        with shop.connect(shop.name, f"{shop.name}_two"):
            refusal(shop, "also used in")


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("GRANT INSERT ON orders TO {role}", "may write to public.orders"),
        ("GRANT UPDATE (at) ON orders TO {role}", "may write to public.orders"),
        ("GRANT {shop} TO {role} WITH INHERIT FALSE", "is a member of shop_"),
        ("GRANT pg_write_all_data TO {role}", "may write all data"),
        ("GRANT USAGE ON SEQUENCE orders_id_seq TO {role}", "may advance"),
        ("GRANT CREATE ON SCHEMA public TO {role}", "may create in schema public"),
        ("CREATE FUNCTION act() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "may call public.act"),
    ],
)
def test_a_role_outside_the_plan_that_can_write(shop: Shop, given: str, words: str) -> None:
    """However it may; one that only reads is none."""
    role = f"{shop.name}_other"
    shop.administer(f"CREATE ROLE {role} LOGIN", f"GRANT CONNECT ON DATABASE {shop.name} TO {role}")
    shop.administer(f"GRANT SELECT ON orders TO {role}")
    assert shop.fence.survey().refusals == ()
    shop.administer(given.format(role=role, shop=shop.name))
    found = refusal(shop, f"not in the plan and can log in and write: .*{words}")
    run_script(shop, found)
    assert shop.fence.survey().refusals == ()


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_role_outside_the_plan_may_be_taken_into_it(shop: Shop) -> None:
    """Then the fence keeps it out as well."""
    role = f"{shop.name}_worker"
    shop.administer(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' IN ROLE {shop.name}")
    refusal(shop, "is not in the plan")
    shop.fenced = (shop.name, role)
    shop.fence = shop.make_fence()
    before = shop.roles()
    mark = shop.fence.raise_fence(FenceOrder("r1", "ann@host", DEADLINE, shop.fence.survey().planned))
    assert [each.name for each in mark.roles] == [shop.name, role]
    assert not shop.write()
    shop.fence.open(mark)
    assert shop.roles() == before


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_publics_connect(shop: Shop) -> None:
    """Everyone in the cluster is let in, and may write here by what PUBLIC may."""
    shop.administer(f"GRANT CONNECT ON DATABASE {shop.name} TO PUBLIC", f"CREATE ROLE {shop.name}_guest LOGIN")
    assert shop.fence.survey().refusals == ()
    shop.administer("GRANT INSERT ON orders TO PUBLIC")
    found = [each for each in shop.fence.survey().refusals if f"{shop.name}_guest" in each.reason]
    assert "let in by PUBLIC's CONNECT" in found[0].reason
    run_script(shop, found[0])
    assert shop.fence.survey().refusals == ()


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_managed_vendors_owner(shop: Shop) -> None:
    """The vendor's own administrator is left alone."""
    shop.administer(
        "DO $$ BEGIN CREATE ROLE neon_superuser; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"GRANT neon_superuser TO {shop.name}",
    )
    found = refusal(shop, "the managed vendor's own administrator .neon_superuser.")
    assert "CREATE ROLE" in found.script[0]


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_an_administrator_who_may_not(shop: Shop) -> None:
    """Each right that is lacking, with what grants it."""
    admin = f"{shop.name}_admin"
    shop.administer(f"CREATE ROLE {admin} LOGIN PASSWORD '{PASSWORD}'", f"GRANT ALL ON DATABASE {shop.name} TO {admin}")
    shop.fence = shop.make_fence(admin)
    found = shop.fence.survey().refusals
    assert [each.reason.partition(" ")[2][:24] for each in found] == [
        "may not read the WAL, so",
        "may not end the sessions",
        "may not take LOGIN from ",
    ]
    for each in found:
        run_script(shop, each)
    assert shop.fence.survey().refusals == ()


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_programs_of_another_version(shop: Shop, tmp_path: Path) -> None:
    """The WAL could not be read, so nothing would be proved."""
    other = tmp_path / "other"
    other.mkdir()
    for program in ("postgres", "psql", "pg_waldump"):
        (other / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.2'\n", encoding="ascii")
        (other / program).chmod(0o755)
    shop.fence = shop.make_fence(binaries=other)
    assert "version 17" in refusal(shop, "the WAL of Postgres 18 cannot be read").reason


@pytest.mark.long
@pytest.mark.rotating("fence", 4)
def test_a_role_that_is_not_there(shop: Shop) -> None:
    """A wrong name in the configuration."""
    shop.fenced = ("nobody_here",)
    shop.fence = shop.make_fence()
    assert "nobody_here does not exist" in "; ".join(each.reason for each in shop.fence.survey().refusals)
