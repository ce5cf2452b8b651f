"""Every mistake of a backout.toml at once, each with its line, its key and a suggestion."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout import config
from backout.config.expected import parse_expectation
from backout.config.explain import explain
from backout.config.loading import _make_hook
from backout.config.schema import Settings
from backout.config.toml_lines import find_lines
from backout.config.toml_text import format_literal
from backout.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path("backout.toml")
GOOD = """[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5-production", account_id = "a" }
health = { url = "https://fm5.example.com/health" }
services = { database = "critical" }
secrets = { required = [
  "JWT_SECRET",
  "DATABASE_URL",
] }
storage = { provider = "r2", bucket = "models" }
[environments.production.criteria]
error_rate = { below = 0.01, for = "5m" }
[environments.production.guard]
mode = "observe"
at_most = "1 per 6h"
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "what"),
    [
        ('mode = "observe"', "down_prob = 3", 15, ".guard.down_prob", "unknown key, did you mean 'down_probes'?"),
        ('mode = "observe"', "zzz = 3", 15, ".guard.zzz", "unknown key"),
        (
            '"observe"',
            '"obsrve"',
            15,
            ".guard.mode",
            "expected 'observe', 'ask' or 'act', got 'obsrve', did you mean 'observe'?",
        ),
        ('"1 per 6h"', '"often"', 16, ".guard.at_most", "expected a rate such as '1 per 6h', got 'often'"),
        (
            '"5m"',
            '"5 parsecs"',
            13,
            ".criteria.error_rate.for",
            "expected a duration such as '15m' or '1h30m', got '5 parsecs'",
        ),
        ('"5m"', "-1", 13, ".criteria.error_rate.for", "expected a duration from 0 to 366 days, got -1"),
        ('"5m"', "nan", 13, ".criteria.error_rate.for", "expected a duration from 0 to 366 days, got nan"),
        (
            "below = 0.01",
            "below = 1.5",
            13,
            ".criteria.error_rate.below",
            "expected a number more than 0 and less than 1, got 1.5",
        ),
        ("below = 0.01", 'below = "1%"', 13, ".criteria.error_rate.below", "expected a number, got '1%'"),
        ('  "DATABASE_URL"', "  5", 9, ".secrets.required[1]", "expected a string, got 5"),
        ('script = "fm5-production", ', "", 4, ".platform.script", "required, but not there"),
        (
            'provider = "cloudflare"',
            'provider = "cloudfare"',
            4,
            ".platform.provider",
            "expected 'cloudflare', 'caddy' or 'command', got 'cloudfare', did you mean 'cloudflare'?",
        ),
        ('{ database = "critical" }', '"all"', 6, ".services", "expected a table, got 'all'"),
        (
            '"critical"',
            '"crtical"',
            6,
            ".services.database",
            "expected 'critical' or 'degradable', got 'crtical', did you mean 'critical'?",
        ),
        (
            "https://fm5.example.com/health",
            "fm5.example.com",
            5,
            ".health.url",
            "expected a URL such as 'https://example.com/health', got 'fm5.example.com'",
        ),
        (
            "https://fm5.example.com/health",
            "https://u:hunter22@fm5.example.com",
            5,
            ".health.url",
            "a URL here holds no user or password",
        ),
        ("https://fm5.example.com/health", "https://[::1", 5, ".health.url", "expected a URL: Invalid IPv6 URL"),
        ('name = "fm5"', 'name = ""', 2, "app.name", "expected something that is not empty, got ''"),
        (
            'bucket = "models"',
            'bucket = "models", histry = "models"',
            11,
            ".storage.histry",
            "unknown key, did you mean 'history'?",
        ),
        ("[app]", "[ap]", 1, "ap", "unknown key, did you mean 'app'?"),
    ],
)
def test_each_kind_of_mistake_names_its_line_and_key(old: str, new: str, line: int, key: str, what: str) -> None:
    """One change in a right file is answered with the line and the key of that change."""
    assert old in GOOD
    found = config.find_mistakes(GOOD.replace(old, new), FILE)
    path = f"environments.production{key}" if key.startswith(".") else key
    assert f"backout.toml:{line}: {path}: {what}" in found
    assert not any("hunter22" in words for words in found)


def test_all_mistakes_come_at_once_in_the_files_order() -> None:
    """Three mistakes, and one across environments, are one answer, sorted by line."""
    text = GOOD.replace('"5m"', '"5 m m"').replace('"observe"', "1").replace("[app]", "extra = 1\n[app]")
    text += "\n[environments.staging]\n" + next(line for line in GOOD.splitlines() if line.startswith("platform"))
    found = config.find_mistakes(text, FILE)
    assert [line.split(": ")[0] for line in found] == [f"backout.toml:{n}" for n in (1, 14, 16, 20)]


@pytest.mark.parametrize(
    ("staging", "where"),
    [
        ('platform = { provider = "cloudflare", script = "fm5-production", account_id = "a" }', "platform.script"),
        ('health = { url = "https://FM5.example.com/other" }', "health.url"),
        ('storage = { provider = "r2", bucket = "models" }', "storage.bucket"),
    ],
)
def test_two_environments_never_share_an_identity(staging: str, where: str) -> None:
    """Safety rule 1: the same script, health host or bucket in two environments is a mistake that names both."""
    text = f"{GOOD}\n[environments.staging]\n{staging}\n"
    if "platform" not in staging:
        text += 'platform = { provider = "cloudflare", script = "fm5-staging", account_id = "a" }\n'
    (mistake,) = config.find_mistakes(text, FILE)
    assert f"environments.staging.{where}: the same " in mistake
    assert "as in environments.production" in mistake


@pytest.mark.parametrize(
    ("production", "staging", "mistakes"),
    [
        ('account_id = "a"', 'account_id = "b"', 0),
        ('account_id = "a"', 'account_id = "a"', 2),
        ('account_id = "a"', "", 2),
        ("", "", 2),
        ('account_id = "a"', 'account_id = "a", api_base_url = "https://api.cloudflare.com/client/v4/"', 2),
        ('account_id = "a"', 'account_id = "a", api_base_url = "http://127.0.0.1:8787/client/v4"', 0),
    ],
)
def test_names_are_compared_within_an_account(production: str, staging: str, mistakes: int) -> None:
    """The same names in two accounts are two things; an account that is not written down may be the same one."""
    text = '[app]\nname = "x"\n'
    for name, platform in (("production", production), ("staging", staging)):
        more = f", {platform}" if platform else ""
        text += f'[environments.{name}]\nplatform = {{ provider = "cloudflare", script = "s"{more} }}\n'
        text += 'storage = { provider = "r2", bucket = "b" }\n'
    found = config.find_mistakes(text, FILE)
    assert len(found) == mistakes
    assert all("the same " in words for words in found)


def test_environments_behind_one_loopback_router_differ_by_their_host_header() -> None:
    """The Host header, not the shared address, is the health host."""
    one = GOOD.replace('"https://fm5.example.com/health"', '"http://127.0.0.1:80/health", headers = { Host = "a" }')
    other = one.replace("production", "staging").replace('bucket = "models"', 'bucket = "m2"').partition("name =")[2]
    assert config.find_mistakes(one + other.partition("\n")[2].replace('Host = "a"', 'Host = "b"'), FILE) == ()
    assert len(config.find_mistakes(one + other.partition("\n")[2], FILE)) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = ", 1), ("[app]\nname = 'x\n", 2), ("[app]\n\n\nname = 1\nname = 2\n", 5), ("[", 1), ("a = [1,\n2,\n", 2)],
)
def test_a_syntax_error_has_its_line(text: str, line: int) -> None:
    """What is no TOML at all is one mistake, with the line where reading stopped."""
    (mistake,) = config.find_mistakes(text, FILE)
    assert mistake.startswith(f"backout.toml:{line}: TOML: ")


@pytest.mark.parametrize(
    ("content", "line"), [(b"[app]\nname = '\xff'\n", 2), (b"#" * (1024 * 1024 + 1), 1), (b"a=" + b"[" * 5000, 1)]
)
def test_unreadable_files_are_configuration_errors(tmp_path: Path, content: bytes, line: int) -> None:
    """Bytes that are no text, a huge file, and absurd nesting end in exit code 78, never in a crash."""
    (tmp_path / "backout.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(config.Environment(), start=tmp_path)
    assert caught.value.mistakes[0].startswith(f"backout.toml:{line}: ")
    assert caught.value.exit_code == 78


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


TEXTS = st.text(alphabet="ab\"'\\#=[]{},. \né", max_size=6)
VALUES = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.floats(-2, 2, allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(bool), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS.filter(bool), VALUES, max_size=4))
def test_every_path_that_the_parser_sees_has_a_line(document: dict[str, object]) -> None:
    """The scanner for positions agrees with the real parser on which keys there are."""
    text = "".join(f"\n# a [comment] = 'x\n{format_literal({k: v})[2:-2]}\n" for k, v in document.items())
    lines = find_lines(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


HARD = """\
a.b = \"\"\"
[x]
# no
\\\"\"\"\"
"c d" . e = 1 # x = 2
[[t]]
k = '''
'''
[[t]]
k = [
[1], { z = 2 },
]
[t.u]
v = 1
"""


def test_lines_of_hard_toml() -> None:
    """Multi-line strings, dotted and quoted keys, CRLF and arrays of tables keep the count."""
    text = HARD.replace("\n", "\r\n")
    lines = find_lines(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    wanted = {
        ("a", "b"): 1,
        ("c d", "e"): 5,
        ("t", 0, "k"): 7,
        ("t", 1): 9,
        ("t", 1, "k"): 10,
        ("t", 1, "k", 1, "z"): 11,
    }
    assert {path: lines[path] for path in wanted} == wanted
    assert lines["t", 1, "u", "v"] == 14


@given(st.data())
def test_the_explainer_finds_something_exactly_when_the_conversion_fails(data: st.DataObject) -> None:
    """Whatever one value of a right document is replaced by, conversion and explanation say the same."""
    document = tomllib.loads(GOOD)
    *parents, last = data.draw(st.sampled_from(sorted(paths(document), key=str)))
    table = document
    for part in parents:
        table = table[part]
    table[last] = data.draw(VALUES | st.sampled_from(["5m", "1 per 2h", "act", "https://a.example", 0.5, 3]))
    found = tuple(explain(Settings, document))
    try:
        msgspec.convert(document, Settings, dec_hook=_make_hook(Path()))
    except msgspec.ValidationError:
        assert found
    else:
        assert not found


@pytest.mark.parametrize(
    ("recorder", "missing"),
    [
        ("", ["sink", "secret"]),
        ("bucket = 'b'", ["credentials", "secret"]),
        ("url = 'https://r.example'", ["secret"]),
        ("url = 'https://r.example', bucket = 'b', credentials_env = 'A', secret_env = 'S'", ["sink"]),
        ("url = 'https://r.example', secret_env = 'S'", []),
    ],
)
def test_a_recorder_needs_its_address_or_its_bucket_and_its_secrets(
    tmp_path: Path, recorder: str, missing: list[str]
) -> None:
    """Each is a mistake of its own, at the line of the source."""
    text = f"""[app]
name = "shop"
[environments.production]
platform = {{ provider = "cloudflare", script = "shop" }}
traffic = {{ provider = "recorder", recorder = {{ {recorder} }} }}
"""
    said = {
        "sink": ": needs url (the recorder's own address, for its object) or bucket, one of them",
        "credentials": ": needs credentials_env (a variable's name) or credentials_file",
        "secret": ": needs secret_env (a variable's name) or secret_file",
    }
    found = config.find_mistakes(text, tmp_path / "backout.toml")
    assert [mistake.partition("traffic.recorder")[2] for mistake in found] == [said[each] for each in missing]


@pytest.mark.parametrize(
    ("ramp", "what"),
    [
        ("[10, 50]", "the last step must be 100"),
        ("[50, 10, 100]", "higher than the one before"),
        ("[10, 10, 100]", "higher than the one before"),
        ("[0, 100]", ""),
        ("[10, 101]", ""),
        ('["10", 100]', ""),
    ],
)
def test_a_ramp_goes_up_to_100(ramp: str, what: str) -> None:
    """Anything else is a mistake with its line."""
    text = '[app]\nname = "a"\n[environments.p]\nplatform = { provider = "cloudflare", script = "s" }\n'
    found = config.find_mistakes(f"{text}[environments.p.guard]\nramp = {ramp}\n", Path("backout.toml"))
    assert found
    assert all(mistake.startswith("backout.toml:6: environments.p.guard.ramp") for mistake in found)
    assert any(what in mistake for mistake in found)
    assert config.find_mistakes(f"{text}[environments.p.guard]\nramp = [10, 50, 100]\n", Path("backout.toml")) == ()


SYNTHETIC = """[app]
name = "a"
[environments.p]
platform = { provider = "cloudflare", script = "s" }
health = { url = "https://a.example.com/health" }
[environments.p.guard]
"""


@pytest.mark.parametrize(
    ("synthetic", "what"),
    [
        ('{ every = "100ms" }', "at most five requests a second: 200ms or more"),
        ("{ every = 0 }", "at most five requests a second"),
        ('{ every = "often" }', "expected a duration"),
        ('{ paths = ["https://b.example.com/"] }', ""),
        ('{ path = "/" }', "unknown key, did you mean 'paths'?"),
    ],
)
def test_synthetic_requests_stay_few_and_on_their_host(synthetic: str, what: str) -> None:
    """Anything else is a mistake with its line; and without the health endpoint no host is known."""
    text = f"{SYNTHETIC}synthetic = {synthetic}\n"
    found = config.find_mistakes(text, FILE)
    assert len(found) == 1, found
    assert found[0].startswith("backout.toml:7: environments.p.guard.synthetic")
    assert what in found[0]
    good = f'{SYNTHETIC}synthetic = {{ every = "200ms", paths = ["/a"] }}\n'
    assert config.find_mistakes(good, FILE) == ()
    (homeless,) = config.find_mistakes(good.replace("health =", "#"), FILE)
    assert "needs health.url" in homeless


CHECKS = SYNTHETIC.replace("[environments.p.guard]\n", "[[environments.p.guard.synthetic.checks]]\n")


@pytest.mark.parametrize(
    ("check", "what"),
    [
        ('path = "/a"\nmethod = "POST"', "expected 'GET' or 'HEAD', got 'POST'"),
        ('path = "https://b.example/"', "expected a text like"),
        ('path = "/a"\nstatus = [99]', "at least 100"),
        ('path = "/a"\nmethod = "HEAD"\nword = "x"', "an answer to HEAD has no body"),
        ('path = "/a"\npreflight = "POST"', "origin is missing"),
        ('path = "/a"\njson = { "a" = [1] }', "expected a text, a number, true or false"),
        ('path = "/a"\nheaders_env = { X = "CLOUDFLARE_API_TOKEN" }', "CLOUDFLARE_API_TOKEN is the platform's token"),
        ('path = "/a"\n[[environments.p.guard.synthetic.checks]]\npath = "/a"\nword = "x"', "/a is asked already"),
    ],
)
def test_a_check_of_an_answer_is_a_safe_request_to_the_health_host(check: str, what: str) -> None:
    """Anything else is a mistake, as is a token that would be sent there."""
    found = config.find_mistakes(f"{CHECKS}{check}\n", FILE)
    assert len(found) == 1, found
    assert what in found[0]
    good = 'path = "/a"\nstatus = [200]\nheader = { A = "" }\njson = { "a.b" = 1 }\norigin = "https://a.example"\n'
    assert config.find_mistakes(f"{CHECKS}{good}", FILE) == ()
    sent = f'{CHECKS}{good}headers_env = {{ X = "KEY" }}'.replace("https://a.example.com/h", "http://a.example.com/h")
    (open_,) = config.find_mistakes(sent, FILE)
    assert "expected https: the credentials of guard.synthetic.checks go there" in open_


@pytest.mark.parametrize(
    ("expected", "what"),
    [
        ('"GET /*" = [410]', "it would excuse every answer"),
        ('"GET /a*" = [410]', "a * stands at the end"),
        ('"GET /health" = [404]', "it would excuse the health endpoint (/health)"),
        ('"GET /old" = [500]', "a server error is never expected"),
        ('"GET /old" = []', "expected the statuses"),
        ('"/old" = [410]', "expected a text like"),
        ('"GETT /old" = [410]', "expected a text like ^(GET|HEAD|"),
        ('"GET /old" = [42]', "at least 100"),
    ],
)
def test_what_may_be_declared_as_intended(expected: str, what: str) -> None:
    """Never everything, never the health endpoint, never a server error, and no method that nobody is counted by."""
    found = config.find_mistakes(f"{SYNTHETIC}expect = {{ {expected} }}\n", FILE)
    assert len(found) == 1, found
    assert what in found[0]
    good = f'{SYNTHETIC}expect = {{ "GET /old/*" = [410, 301] }}\nvital = ["POST /api/orders"]\nholdback = 10\n'
    assert config.find_mistakes(good, FILE) == ()


@pytest.mark.parametrize(
    "said", ["GET /old", "/old=410", "GETT /old=410", "GET /*=410", "GET /health=404", "GET /old=503", "GET /old=4"]
)
def test_expect_on_the_command_line_is_refused_as_in_the_file(said: str) -> None:
    """With what it must look like."""
    with pytest.raises(UsageError) as refused:
        parse_expectation(said, "https://a.example.com/health")
    assert refused.value.hint == "--expect 'GET /old/*=410'"
    assert parse_expectation("GET /old/* = 410,404").statuses == (410, 404)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://a.example.com", "GET /"),
        ("https://a.example.com/", "HEAD /"),
        ("https://a.example.com?full=1", "GET /"),
        ("https://a.example.com/ops/health", "GET /ops/*"),
        ("https://a.example.com/health/4f9a8b7c6d5e", "GET /health/{id}"),
    ],
)
def test_the_health_endpoint_is_never_declared_wherever_it_is(url: str, asked: str) -> None:
    """In the file and on the command line: a URL without a path asks for `/`, and counts may have a name for it."""
    text = SYNTHETIC.replace("https://a.example.com/health", url)
    assert url in text
    (found,) = config.find_mistakes(f'{text}expect = {{ "{asked}" = [404] }}\n', FILE)
    assert "it would excuse the health endpoint" in found
    with pytest.raises(UsageError, match="it would excuse the health endpoint"):
        parse_expectation(f"{asked}=404", url)
    assert parse_expectation("GET /old=404", url).path == "/old"


@pytest.mark.parametrize(
    ("added", "named"),
    [
        ("[environments.p.database.backup]\nwal = 'stream'\n", "environments.p.database stands in line 5 already"),
        ("[environments.p.database]\nmigrations = 'prisma'\n", "environments.p.database stands in line 5 already"),
        ("[environments.p]\nprotected = true\n", "environments.p stands in line 3 already"),
        ("[environments.p.guard]\nmode = 'ask'\nmode = 'act'\n", "environments.p.guard.mode stands in line 7 already"),
    ],
)
def test_what_stands_there_twice_names_the_first_line(tmp_path: Path, added: str, named: str) -> None:
    """A section of the documentation below a table in one line: where the key belongs is said."""
    file = tmp_path / "backout.toml"
    text = (
        '[app]\nname = "a"\n[environments.p]\nplatform = { provider = "cloudflare", script = "s" }\n'
        'database = { provider = "postgres", url_env = "DB" }\n'
    )
    (mistake,) = config.find_mistakes(text + added, file)
    assert mistake.endswith(f"TOML: {named}: write it there")
