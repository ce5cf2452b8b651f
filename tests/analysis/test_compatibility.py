"""The classifier on small histories: splitting, what is new, what is not known, blocks, the head that is checked."""

# ruff: noqa: E501, S608 - a table of SQL reads best with a change on a line

from __future__ import annotations

import pglast
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pglast.parser import scan

from backout.analysis.compatibility import judge, list_unread
from backout.analysis.compatibility.splitting import split
from backout.model.database.compatibility import Compatibility, MigrationFile, MigrationVerdict

from compatibility_lab import BASE
from extent import examples

MANY = examples(60, proof=3000)
SAFE, SAFE_IF, BREAKING = Compatibility.SAFE, Compatibility.SAFE_IF, Compatibility.BREAKING
ORDER = list(Compatibility)


def last(*files: str, app_checks_head: bool = False) -> MigrationVerdict:
    """Judge a history and return the verdict on its last migration."""
    history = [MigrationFile(f"{number:04}", sql) for number, sql in enumerate(files)]
    return judge(history, app_checks_head=app_checks_head)[-1]


USERS = "CREATE TABLE users (id serial PRIMARY KEY, email text UNIQUE, name text NOT NULL, n int);"


@pytest.mark.parametrize(
    ("sql", "texts"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("-- a; b\nSELECT 1; -- end", ["SELECT 1"]),
        ("/* a /* b; */ c; */ SELECT 1 /* ; */;", ["SELECT 1 /* ; */"]),
        ("SELECT ';', E'\\';', \"a;b\"; SELECT 2", ["SELECT ';', E'\\';', \"a;b\"", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT 2;", ["SELECT 'it''s;'", "SELECT 2"]),
        ("DO $a$ BEGIN x; $b$ ; $b$ END $a$; SELECT 1", ["DO $a$ BEGIN x; $b$ ; $b$ END $a$", "SELECT 1"]),
        ("SELECT a$b$c; SELECT 2", ["SELECT a$b$c", "SELECT 2"]),
        ("SELECT $1; SELECT 2", ["SELECT $1", "SELECT 2"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3",
         ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"]),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SELECT 3",
         ["CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END", "SELECT 3"]),
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
        ("\\set x 1\nSELECT 1 \\gexec\nSELECT 2;", ["\\set x 1", "SELECT 1", "\\gexec", "SELECT 2"]),
        ("COPY t FROM stdin;\na;'b\n\\.\nSELECT 1;", ["COPY t FROM stdin", "SELECT 1"]),
        ("COPY t FROM stdin;\nnever ends; SELECT 1;", ["COPY t FROM stdin"]),
        ("\ufeffSELECT 1;;; ;", ["SELECT 1"]),
        ("SELECT 'never ends; SELECT 2;", ["SELECT 'never ends; SELECT 2;"]),
        ("SELECT 1; /* never ends; SELECT 2;", ["SELECT 1"]),
        ("", []),
        (" \n-- nothing\n", []),
    ],
)  # fmt: skip
def test_a_file_is_cut_as_psql_cuts_it(sql: str, texts: list[str]) -> None:
    """Quotes, comments, dollar quotes, bodies and data hide their semicolons."""
    assert [piece.text for piece in split(sql)] == texts


def test_the_base_is_cut_as_postgres_itself_cuts_it() -> None:
    """One piece for each statement that Postgres's parser finds in the whole text."""
    assert len(split(BASE)) == len(pglast.parse_sql(BASE))


_FRAGMENTS = st.sampled_from(
    ["SELECT ", "1", ";", "'a;'", "'", '"x;"', "$$", "$t$ ; $t$", "--;\n", "/*;*/", "(", ")", "E'\\''", "e", " ", "\n", "é", ","]
)  # fmt: skip


@MANY
@given(st.lists(_FRAGMENTS, max_size=25).map("".join))
def test_what_postgres_lexes_is_cut_at_the_same_places(sql: str) -> None:
    """Postgres's own lexer is asked where a semicolon stands outside parentheses."""
    try:
        tokens = scan(sql)
    except pglast.Error:
        return
    depth, ends = 0, 0
    content = False
    for token in tokens:
        text = sql[token.start : token.end + 1]
        if token.name in {"SQL_COMMENT", "C_COMMENT"}:
            continue
        depth += (text == "(") - (text == ")")
        if text == ";" and depth <= 0:
            ends += content
            content, depth = False, 0
        else:
            content = True
    assume(not any(piece.meta for piece in split(sql)))  # a backslash is psql's, and the server's lexer reads on
    assert len(split(sql)) == ends + content


NEW = (  # what is new in the same migration, and what only looks so
    ("CREATE TABLE t (a int); ALTER TABLE t ADD CHECK (a > 0), ADD UNIQUE (a), ALTER a SET NOT NULL", SAFE),
    ("CREATE TABLE t (a int REFERENCES users); CREATE UNIQUE INDEX i ON t (a); INSERT INTO t VALUES (1); DROP TABLE t", SAFE),
    ("CREATE TABLE t AS SELECT * FROM users; ALTER TABLE t ADD PRIMARY KEY (id); TRUNCATE t", SAFE),
    ("CREATE TEMP TABLE t (a int); DROP TABLE t", SAFE),
    ("CREATE TABLE t (a int); ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME COLUMN a TO b; DROP TABLE u", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ALTER x TYPE text; ALTER TABLE users DROP COLUMN x", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users RENAME COLUMN x TO y; ALTER TABLE users ALTER y SET DEFAULT 3", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ADD CHECK (x > n)", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ADD CHECK (x IS NULL OR n > 0)", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ADD CHECK (coalesce(x, n) > 0)", SAFE_IF),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ADD CHECK (x IS NOT NULL)", BREAKING),
    ("ALTER TABLE users ADD COLUMN x int NOT NULL DEFAULT 0; ALTER TABLE users ADD CHECK (x > 0) NOT VALID", BREAKING),
    ("ALTER TABLE users ADD COLUMN x int NOT NULL DEFAULT 1; ALTER TABLE users ADD CHECK (x BETWEEN 1 AND 3)", SAFE),
    ("ALTER TABLE users ADD x int, ADD y int; UPDATE users SET x = 1; ALTER TABLE users ADD CHECK (num_nonnulls(x, y) = 1)",
     BREAKING),
    ("ALTER TABLE users ADD x int, ADD y int, ADD CHECK (num_nonnulls(x, y) <= 1)", SAFE),
    ("ALTER TABLE users ADD x int, ADD y int; ALTER TABLE users ADD CHECK (somebodys(x, y))", SAFE_IF),
    ("ALTER TABLE users ADD x text CHECK (length(x) > 3)", SAFE),
    ("ALTER TABLE users ADD x text NOT NULL DEFAULT '' CHECK (length(x) > 0)", BREAKING),
    ("ALTER TABLE users ADD x text DEFAULT 'a' CHECK (x ~ '^a')", SAFE),
    (("ALTER TABLE users ADD x int; CREATE TRIGGER t BEFORE INSERT ON users EXECUTE FUNCTION f(); "
     "ALTER TABLE users ALTER x SET NOT NULL"), SAFE_IF),
    ("ALTER TABLE users ADD COLUMN x int DEFAULT 1; ALTER TABLE users ALTER x SET NOT NULL", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ALTER x SET NOT NULL; ALTER TABLE users ALTER x SET DEFAULT 1", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; ALTER TABLE users ALTER x SET NOT NULL", BREAKING),
    ("ALTER TABLE users ADD COLUMN x int NOT NULL DEFAULT 1; ALTER TABLE users ALTER x DROP DEFAULT", BREAKING),
    ("ALTER TABLE users ADD COLUMN x int DEFAULT 1; ALTER TABLE users ALTER x DROP DEFAULT", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; CREATE UNIQUE INDEX i ON users (x)", SAFE),
    ("ALTER TABLE users ADD COLUMN x int; CREATE UNIQUE INDEX i ON users (x) NULLS NOT DISTINCT", BREAKING),
    ("ALTER TABLE users ADD COLUMN x int; CREATE UNIQUE INDEX i ON users (n) WHERE x = 1", SAFE),
    ("ALTER TABLE users ADD COLUMN x int DEFAULT 1; CREATE UNIQUE INDEX i ON users (n, x)", SAFE_IF),
    ("ALTER TABLE users ADD COLUMN x uuid DEFAULT gen_random_uuid(); ALTER TABLE users ADD UNIQUE (x)", SAFE),
    ("CREATE TYPE e AS ENUM ('a'); ALTER TYPE e ADD VALUE 'b'; ALTER TABLE users ADD COLUMN e e NOT NULL DEFAULT 'a'", SAFE),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION f()", SAFE),
    ("CREATE SCHEMA s CREATE TABLE t (a int); ALTER TABLE s.t ADD CHECK (a > 0); DROP SCHEMA s CASCADE", SAFE),
    ("CREATE VIEW v AS SELECT 1 AS a; DROP VIEW v", SAFE),
    ("SET search_path = s; CREATE TABLE users (a int); DROP TABLE users", SAFE),
    ("SET search_path = s; DROP TABLE users", BREAKING),
    ("CREATE TABLE s.users (a int); DROP TABLE users", BREAKING),
    ('CREATE TABLE "Users" (a int); DROP TABLE users', BREAKING),
    ('CREATE TABLE "Users" (a int); DROP TABLE "Users"', SAFE),
    ("DROP TABLE users; CREATE TABLE users (id int, email text, name text, n int)", BREAKING),  # ON CONFLICT
    ("DROP TABLE users; CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, name text, n int)", SAFE_IF),
    ("DROP TABLE users; CREATE TABLE users (id int, email text)", BREAKING),
    ("ALTER TABLE users RENAME TO u; CREATE TABLE users (id int, email text, name text, n int); DROP TABLE u", BREAKING),
)  # fmt: skip


@pytest.mark.parametrize(("sql", "verdict"), NEW, ids=[row[0][-60:] for row in NEW])
def test_what_is_new_in_a_migration_cannot_hurt_old_code(sql: str, verdict: Compatibility) -> None:
    """Unless old code's own rows meet it: a new column that nothing fills, a constant that repeats."""
    found = last(USERS, sql)
    assert found.verdict is verdict, found.statements


def test_what_is_new_is_old_in_the_next_migration() -> None:
    """The same constraint one migration later meets rows of old code."""
    assert last(USERS, "ALTER TABLE users ADD COLUMN x int").verdict is SAFE
    assert (
        last(USERS, "ALTER TABLE users ADD COLUMN x int", "ALTER TABLE users ALTER x SET NOT NULL").verdict is SAFE_IF
    )
    assert last(USERS, "ALTER TABLE users ADD CHECK (n > 0)").verdict is SAFE_IF


UNKNOWN = (  # a history without its beginning: what is not known is not trusted
    ("ALTER TABLE t ALTER c TYPE text", SAFE),
    ("ALTER TABLE t ALTER c TYPE varchar", SAFE),
    ("ALTER TABLE t ALTER c TYPE text USING c::text", SAFE_IF),
    ("ALTER TABLE t ALTER c TYPE bigint", BREAKING),
    ("ALTER TABLE t ALTER c TYPE varchar(400)", BREAKING),
    ("ALTER TABLE t ALTER c TYPE text USING lower(c)", BREAKING),
    ("ALTER TABLE t ADD COLUMN c text", SAFE),
    ("ALTER TABLE t ADD COLUMN c text NOT NULL", BREAKING),
    ("ALTER TABLE t ADD COLUMN c text NOT NULL DEFAULT ''; ALTER TABLE t ALTER c DROP DEFAULT", BREAKING),
    ("ALTER TABLE t ADD COLUMN c text; ALTER TABLE t ALTER c SET NOT NULL", BREAKING),
    ("ALTER TABLE t ADD COLUMN c text DEFAULT ''; ALTER TABLE t ALTER c SET NOT NULL", SAFE),
    ("DROP TABLE IF EXISTS t", BREAKING),
    ("DROP TABLE IF EXISTS t; CREATE TABLE t (a int)", SAFE_IF),
    ("DROP TABLE t; CREATE TABLE t (a int)", BREAKING),
    ("DROP TYPE IF EXISTS e; CREATE TYPE e AS ENUM ('a')", SAFE_IF),
    ("ALTER TABLE t DROP COLUMN IF EXISTS c", BREAKING),
    ("DROP INDEX t_a_idx", SAFE_IF),
    ("DROP INDEX t_a_key", BREAKING),
    ("ALTER TABLE t DROP CONSTRAINT t_a_fkey", SAFE),
    ("ALTER TABLE t DROP CONSTRAINT t_a_key", BREAKING),
    ("ALTER TABLE t DROP CONSTRAINT c", SAFE_IF),
    ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", SAFE_IF),
    ("CREATE OR REPLACE VIEW v AS SELECT 1 AS a", SAFE_IF),
    ("ALTER TABLE t DROP CONSTRAINT IF EXISTS c", SAFE_IF),
)


@pytest.mark.parametrize(("sql", "verdict"), UNKNOWN, ids=[row[0][:60] for row in UNKNOWN])
def test_what_is_not_known_is_not_trusted(sql: str, verdict: Compatibility) -> None:
    """A folder that begins in the middle of a history; a type that holds every value is the exception."""
    found = last(sql)
    assert found.verdict is verdict, found.statements


HIDDEN = [
    ("CREATE PUBLICATION p FOR TABLE users", SAFE),
    ("CREATE PUBLICATION p FOR TABLE users WHERE (n > 1)", BREAKING),  # "not part of the replica identity"
    ("CREATE PUBLICATION p FOR TABLE users (name)", BREAKING),
    ("CREATE OR REPLACE VIEW seen WITH (security_invoker = on) AS SELECT name FROM users", SAFE_IF),
    ("CREATE UNIQUE INDEX ON users (email)", SAFE),
    ('CREATE UNIQUE INDEX ON users (email COLLATE "blind")', SAFE_IF),
    ("ALTER TABLE users ADD COLUMN z varchar(3) GENERATED ALWAYS AS (name) STORED", SAFE_IF),
]


@pytest.mark.parametrize(("sql", "verdict"), HIDDEN, ids=[row[0][:70] for row in HIDDEN])
def test_what_a_clause_hides_is_seen(sql: str, verdict: Compatibility) -> None:
    """The statement alone is safe; with this clause writes or reads of old code fail."""
    assert last(USERS, "CREATE VIEW seen AS SELECT name FROM users", sql).verdict is verdict


def test_a_block_that_cannot_be_read_hides_what_was_made() -> None:
    """After dynamic SQL nothing counts as "never there" any more."""
    never = "DROP TABLE IF EXISTS nothing"
    assert last(USERS, never).verdict is SAFE
    assert (
        last(USERS, "DO $$ BEGIN EXECUTE format('CREATE TABLE %I (a int)', 'nothing'); END $$", never).verdict
        is BREAKING
    )
    assert last(USERS, "\\i other.sql", never).verdict is BREAKING
    assert last(f"{USERS} CREATE TYPE c AS (a int)", "ALTER TYPE c ADD ATTRIBUTE b int", never).verdict is SAFE
    assert last(USERS, "ALTER TABLE elsewhere ADD COLUMN a int", never).verdict is BREAKING


BLOCKS = (
    ("DO $$ BEGIN RAISE NOTICE 'x'; END $$", SAFE),
    ("DO $$ DECLARE n int := 3; BEGIN n := n + 1; IF n > 3 THEN PERFORM 1; END IF; END $$", SAFE),
    ("DO $$ BEGIN EXECUTE 'ALTER TABLE users ADD COLUMN x int'; END $$", SAFE),
    ("DO $$ BEGIN EXECUTE 'ALTER TABLE users DROP COLUMN n'; END $$", BREAKING),
    ("DO $$ BEGIN EXECUTE 'ALTER TABLE ' || 'users DROP COLUMN n'; END $$", SAFE_IF),
    ("DO $$ BEGIN FOR i IN 1..3 LOOP DELETE FROM users WHERE n = i; END LOOP; END $$", SAFE_IF),
    ("DO $$ BEGIN BEGIN ALTER TABLE users RENAME n TO m; EXCEPTION WHEN OTHERS THEN NULL; END; END $$", BREAKING),
    ("DO $$ DECLARE r record; BEGIN FOR r IN EXECUTE 'SELECT 1' LOOP NULL; END LOOP; END $$", SAFE),
    ("DO $$ BEGIN PERFORM somebodys_function(); END $$", SAFE_IF),
    ("DO LANGUAGE plpython3u $$ plpy.execute('DROP TABLE users') $$", SAFE_IF),
    ("DO $$ this is no block $$", SAFE_IF),
    ("DO $$ BEGIN RETURN (WITH d AS (DELETE FROM users RETURNING 1) SELECT count(*) FROM d); END $$", SAFE_IF),
)


@pytest.mark.parametrize(("sql", "verdict"), BLOCKS, ids=[row[0][:70] for row in BLOCKS])
def test_blocks_are_read_to_the_bottom(sql: str, verdict: Compatibility) -> None:
    """Conditions, loops, handlers and constant EXECUTE; what cannot be read is at least safe-if."""
    found = last(USERS, sql)
    assert found.verdict is verdict, found.statements


def test_an_application_that_checks_the_head_breaks_on_every_migration() -> None:
    """One statement more says so; an empty migration is no exception."""
    found = last(USERS, "", app_checks_head=True)
    assert found.verdict is BREAKING
    assert "app_checks_head" in found.statements[0].reason
    assert last(USERS, "").verdict is SAFE


def test_what_cannot_be_parsed_is_named_and_never_safe() -> None:
    """The parser's own words; where the text drops or renames something, breaking."""
    found = last(USERS, "SELEKT 1; CREATE TABLE t (a int; DROP TABLE users; ")
    assert [s.verdict for s in list_unread(found)] == [SAFE_IF, BREAKING]
    assert "syntax error" in found.statements[0].reason
    assert last(USERS, "SELECT '\0'").verdict is SAFE_IF
    assert last(USERS, "SELECT " + "(" * 5000 + "1" + ")" * 5000).verdict is SAFE_IF


@pytest.mark.parametrize("link", ["+1", " UNION SELECT 1", "::int", " JOIN t ON true"])
def test_a_chain_that_would_end_the_process_is_not_parsed(link: str) -> None:
    """The parser's tree is freed and walked by recursion in C; a long list is no chain."""
    assert last(USERS, "SELECT 1" + link * 50_000).verdict is SAFE_IF
    many = ",".join(["(1, -2)"] * 3000)
    assert not list_unread(last(USERS, f"INSERT INTO users VALUES {many}"))


def test_names_in_conditions_are_quoted_where_sql_needs_it() -> None:
    """Mixed case, reserved words, other schemas, quotes."""
    base = 'CREATE TABLE s."Us""er" ("order" int, "Name" text);'
    found = last(
        base, 'ALTER TABLE s."Us""er" ALTER "order" SET NOT NULL; CREATE UNIQUE INDEX i ON s."Us""er" ("Name");'
    )
    queries = [str(s.condition_sql) for s in found.statements]
    assert queries[0] == 'SELECT 1 FROM s."Us""er" WHERE "order" IS NULL LIMIT 1'
    assert 'GROUP BY "Name"' in queries[1]
    assert all(pglast.parse_sql(query) for query in queries)


STATEMENTS = (
    "ALTER TABLE users ADD COLUMN a1 int", "ALTER TABLE users ADD COLUMN a2 int NOT NULL DEFAULT 1",
    "ALTER TABLE users DROP COLUMN n", "CREATE INDEX i1 ON users (n)", "CREATE UNIQUE INDEX i2 ON users (name)",
    "ALTER TABLE users ALTER n TYPE bigint", "ALTER TABLE users ALTER n SET NOT NULL", "DELETE FROM users",
    "ALTER TABLE users RENAME name TO label", "COMMENT ON TABLE users IS 'x'", "CREATE TABLE t1 (a int)",
    "ALTER TABLE users DROP CONSTRAINT users_email_key", "DO $$ BEGIN EXECUTE x; END $$", "SELECT 1", "nonsense",
    "GRANT SELECT ON users TO bob", "REVOKE ALL ON users FROM bob", "DROP TABLE IF EXISTS t9",
)  # fmt: skip


@MANY
@given(st.lists(st.sampled_from(STATEMENTS), max_size=6), st.sampled_from(STATEMENTS))
def test_a_longer_file_is_never_judged_more_mildly(statements: list[str], more: str) -> None:
    """What is added makes nothing better, unless it makes anew what was dropped, or fills what was required."""
    shorter, longer = last(USERS, ";".join(statements)), last(USERS, ";".join([*statements, more]))
    assert ORDER.index(longer.verdict) >= ORDER.index(shorter.verdict)


@MANY
@given(st.lists(st.sampled_from([s for s in STATEMENTS if "a1" not in s and "t1" not in s]), min_size=1, max_size=5))
def test_how_statements_are_spread_over_files_changes_nothing(statements: list[str]) -> None:
    """One file or one for each: the worst is the same, as long as nothing is about what the migration itself made."""
    together = last(USERS, ";\n".join(statements))
    alone = judge([MigrationFile("0", USERS), *(MigrationFile(str(n), s) for n, s in enumerate(statements, 1))])[1:]
    assert together.verdict is max((v.verdict for v in alone), key=ORDER.index)


_TOKENS = [word for piece in split(BASE) for word in piece.text.replace("(", " ( ").replace(",", " , ").split()]


@MANY
@given(
    st.lists(st.sampled_from([*_TOKENS, ";", "'", "$$", "ALTER TABLE", "DROP", "DO", "\\i"]), max_size=30), st.data()
)
def test_it_never_crashes_on_what_is_no_sql(words: list[str], data: st.DataObject) -> None:
    """Shuffled words of a schema, and the schema itself with a piece cut out."""
    cut = data.draw(st.integers(0, len(BASE)))
    length = data.draw(st.integers(0, 40))
    for verdict in judge([MigrationFile("a", BASE[:cut] + BASE[cut + length :]), MigrationFile("b", " ".join(words))]):
        assert verdict.verdict in ORDER
        assert all(s.reason for s in verdict.statements)


@MANY
@given(st.text(max_size=80))
def test_it_never_crashes_on_any_text(text: str) -> None:
    """Whatever a file holds."""
    judge([MigrationFile("a", text), MigrationFile("b", f"DO $x${text}$x$;{text}")])
