"""`backout init`: a right configuration from what lies in a folder, and never a file overwritten unasked."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from cli_shell import backout
from hypothesis import given
from hypothesis import strategies as st

from backout.config import jsonc
from backout.config.scalars import API_BASE_URL

from scripted_server import answer, scripted_server

SAMPLE = Path(__file__).parents[2] / "examples" / "fm5"

WRANGLER = """{
  // the Worker
  "name": "shop",
  "account_id": "0123", /* shared */
  "routes": [{ "pattern": "shop.example.com", "custom_domain": true }, "*.example.com/*"],
  "r2_buckets": [{ "binding": "B", "bucket_name": "shop-files" },],
  "env": {
    "staging": {
      "vars": { "APP_URL": "https://staging.shop.example.com/", "MAIL_URL": "https://mail.example.com" },
      "hyperdrive": [{ "binding": "DB", "id": "1" }],
      "r2_buckets": [{ "binding": "B", "bucket_name": "shop-files-staging" }, { "binding": "C", "bucket_name": "c" }],
    },
  },
}
"""


def configuration(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "backout.toml").read_text())["environments"]


def test_environments_are_named_as_wrangler_composes_them(tmp_path: Path) -> None:
    """The top level is production when no environment is; NAME-ENV otherwise; bindings are not inherited."""
    (tmp_path / "wrangler.jsonc").write_text(WRANGLER)
    assert backout(tmp_path, "init").code == 0
    found = configuration(tmp_path)
    assert found["production"]["platform"] == {"provider": "cloudflare", "script": "shop", "account_id": "0123"}
    assert found["production"]["health"] == {"url": "https://shop.example.com/health"}
    assert found["production"]["storage"] == {"provider": "r2", "bucket": "shop-files"}
    assert "database" not in found["production"]
    assert found["staging"]["platform"]["script"] == "shop-staging"
    assert found["staging"]["storage"] == {"provider": "r2", "bucket": "shop-files-staging"}
    assert found["staging"]["database"]["url_env"] == "DATABASE_URL"
    assert found["staging"]["services"] == {"database": "critical", "storage": "critical"}


def test_a_route_that_is_inherited_is_a_shared_health_host_and_said(tmp_path: Path) -> None:
    """Without a host of its own, an environment would be judged by another one's health: a mistake, with its line."""
    (tmp_path / "wrangler.jsonc").write_text(WRANGLER.replace("APP_URL", "OTHER"))
    answer = backout(tmp_path, "init")
    assert answer.code == 78
    assert "environments.staging.health.url: the same health host as in environments.production" in answer.err
    assert (tmp_path / "backout.toml").exists()


def test_the_sample_application(tmp_path: Path) -> None:
    """fm5 without its backout.toml: both environments, names of secrets, migrations, commands; and it checks."""
    shutil.copytree(SAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "backout.toml").unlink()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text('[remote "origin"]\n\turl = git@github.com:solsystemlabs/fm5.git\n')
    answer = backout(tmp_path, "init", "--json")
    assert answer.code == 0
    assert answer.json["schema"] == "backout.init/1"
    assert answer.json["environments"] == ["staging", "production"]
    production = configuration(tmp_path)["production"]
    assert production["platform"]["script"] == "fm5-production"
    assert production["services"] == {"database": "critical", "storage": "critical", "email": "degradable"}
    assert production["database"] == {"provider": "postgres", "url_env": "DATABASE_URL", "migrations": "prisma"}
    assert production["storage"] == {"provider": "r2", "bucket": "fm5-models"}
    assert production["secrets"] == {"example": ".env.example", "required": ["JWT_SECRET", "EMAIL_API_KEY"]}
    assert production["ci"] == {"provider": "github", "repository": "solsystemlabs/fm5"}
    assert production["deploy"] == {"command": "npm run deploy:production"}
    assert backout(tmp_path, "config", "check").code == 0


def test_the_api_that_the_twin_told_one_to_export_is_in_the_file(tmp_path: Path) -> None:
    """`twin up` prints the variable; a URL to which no token may go is refused, and nothing is written."""
    (tmp_path / "wrangler.toml").write_text('name = "w"\n')
    url = "http://127.0.0.1:8787/client/v4"
    refused = backout(tmp_path, "init", variables={"CLOUDFLARE_API_BASE_URL": "http://api.example.com"})
    assert (refused.code, (tmp_path / "backout.toml").exists()) == (2, False)
    assert "CLOUDFLARE_API_BASE_URL" in refused.err
    usual = backout(tmp_path, "init", "--dry-run", variables={"CLOUDFLARE_API_BASE_URL": API_BASE_URL})
    assert "api_base_url" not in usual.out
    assert backout(tmp_path, "init", variables={"CLOUDFLARE_API_BASE_URL": url}).code == 0
    assert configuration(tmp_path)["production"]["platform"]["api_base_url"] == url
    assert backout(tmp_path, "config", "check").code == 0


def test_the_folder_of_the_journal_is_proposed_for_gitignore(tmp_path: Path) -> None:
    """In a repository that does not ignore it yet; nothing of the repository is written."""
    (tmp_path / "wrangler.toml").write_text('name = "w"\n')
    line = "echo .backout/ >> .gitignore"
    assert line not in backout(tmp_path, "init", "--dry-run").err
    (tmp_path / ".git").mkdir()
    assert line in backout(tmp_path, "init", "--dry-run").err
    (tmp_path / ".gitignore").write_text("node_modules\n/.backout/\n")
    assert line not in backout(tmp_path, "init").err
    assert (tmp_path / ".gitignore").read_text() == "node_modules\n/.backout/\n"


def test_what_is_added_below_the_database_is_a_table_of_its_own(tmp_path: Path) -> None:
    """A section of the documentation is pasted at the end of the file, and the file is right."""
    (tmp_path / "wrangler.jsonc").write_text(WRANGLER)
    assert backout(tmp_path, "init").code == 0
    with (tmp_path / "backout.toml").open("a") as file:
        file.write('\n[environments.staging.database.backup]\nwal = "stream"\n')
    assert backout(tmp_path, "config", "check").code == 0


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path) -> None:
    """Exit 3 names --force; --dry-run prints and writes nothing."""
    (tmp_path / "wrangler.toml").write_text('name = "w"\n')
    shown = backout(tmp_path, "init", "--dry-run")
    assert (shown.code, (tmp_path / "backout.toml").exists()) == (0, False)
    (tmp_path / "backout.toml").write_text("mine")
    refused = backout(tmp_path, "init")
    assert (refused.code, (tmp_path / "backout.toml").read_text()) == (3, "mine")
    assert "--force" in refused.err
    assert backout(tmp_path, "init", "--yes").code == 3
    assert backout(tmp_path, "init", "--force").code == 0
    assert (tmp_path / "backout.toml").read_text() == shown.out


@pytest.mark.parametrize(
    ("name", "text", "code", "what"),
    [
        ("other.txt", "", 2, "no wrangler.json, wrangler.jsonc or wrangler.toml here"),
        ("wrangler.jsonc", '{\n "name": "x",\n oops }', 78, "wrangler.jsonc:3: JSON: "),
        ("wrangler.json", "[" * 100_000, 78, "wrangler.json:1: nested too deeply"),
        ("wrangler.json", "[]", 78, "wrangler.json:1: expected an object"),
        ("wrangler.json", "{}", 78, "wrangler.json:1: name: required, but not there"),
        ("wrangler.toml", "a = 1\nb = \n", 78, "wrangler.toml:2: "),
        ("wrangler.toml", 'name = "x"\npages_build_output_dir = "dist"\n', 78, "this is a Pages project"),
        ("wrangler.json", '{"name": "x", "env": 3, "routes": [1, {}], "r2_buckets": {}, "vars": []}', 0, "wrote"),
    ],
)
def test_a_folder_that_tells_nothing_or_nonsense_is_answered(
    tmp_path: Path, name: str, text: str, code: int, what: str
) -> None:
    """A missing or broken wrangler file has its exit code and its line; unexpected shapes are passed over."""
    (tmp_path / name).write_text(text)
    answer = backout(tmp_path, "init")
    assert answer.code == code
    assert what in answer.out + answer.err


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ('export default { schema: "p.prisma", migrations: { seed: "x", path: "db/migrations" } };', "db/migrations"),
        ('export default defineConfig({ migrations: {\n  path: "./prisma/migrations",\n} })', None),
        ("export default {}", None),
    ],
)
def test_prisma_7_names_its_folder_of_migrations(tmp_path: Path, config: str, path: str | None) -> None:
    """In prisma.config.ts, which says as well that the migrations are Prisma's."""
    (tmp_path / "wrangler.json").write_text('{"name": "shop", "account_id": "0123", "hyperdrive": [{"id": "1"}]}')
    (tmp_path / "prisma.config.ts").write_text(config)
    assert backout(tmp_path, "init").code == 0
    production = configuration(tmp_path)["production"]
    assert isinstance(production, dict)
    assert production["database"]["migrations"] == "prisma"
    assert production["database"].get("migrations_path") == path


@pytest.mark.parametrize(
    ("config", "tool", "path"),
    [
        ('export default defineConfig({ dialect: "postgresql", out: "./db/out" });', "drizzle", "db/out"),
        ("export default { out: './drizzle', dialect: 'postgresql' } satisfies Config;", "drizzle", None),
        ('export default defineConfig({ dialect: "postgresql" });', "drizzle", None),
        ('export default defineConfig({ dialect: "sqlite", out: "./drizzle" });', "none", None),
        ('export default { dialect: "postgresql", migrations: { prefix: "x", table: "mine" } };', "none", None),
    ],
)
def test_drizzle_names_its_folder_of_migrations(tmp_path: Path, config: str, tool: str, path: str | None) -> None:
    """In drizzle.config.ts; one of another dialect, or with a history table of another name, is left out."""
    (tmp_path / "wrangler.json").write_text('{"name": "shop", "account_id": "0123", "hyperdrive": [{"id": "1"}]}')
    (tmp_path / "drizzle.config.ts").write_text(config)
    assert backout(tmp_path, "init").code == 0
    production = configuration(tmp_path)["production"]
    assert isinstance(production, dict)
    assert (production["database"]["migrations"], production["database"].get("migrations_path")) == (tool, path)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("shop.example.com/*", "https://shop.example.com/health"),
        ("shop.example.com/api/*", "https://shop.example.com/api/health"),
        ("https://shop.example.com/api/v2*", "https://shop.example.com/api/v2/health"),
        ("*.example.com/*", None),
    ],
)
def test_a_route_with_a_path_leads_to_the_health_endpoint_below_it(
    tmp_path: Path, pattern: str, url: str | None
) -> None:
    """Beside it another application answers, or nobody."""
    (tmp_path / "wrangler.json").write_text(json.dumps({"name": "shop", "account_id": "0123", "routes": [pattern]}))
    assert backout(tmp_path, "init").code == 0
    production = configuration(tmp_path)["production"]
    assert isinstance(production, dict)
    assert production.get("health", {}).get("url") == url


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(alphabet='/*"\\,]}\n a'),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='/*,"}'), inner, max_size=3),
    )
)
def test_plain_json_means_the_same_with_comments_and_trailing_commas(value: object) -> None:
    """Comments and commas go; what looks like them inside a string stays."""
    import json  # noqa: PLC0415 - the peer of this one test

    text = json.dumps(value, indent=1)
    assert jsonc.loads(text) == value
    lines = text.split("\n")
    closing = [i for i in range(1, len(lines)) if lines[i].strip().rstrip(",") in {"]", "}"}]
    for index in closing:
        if not lines[index - 1].rstrip().endswith(("[", "{", ",")):
            lines[index - 1] += ", // no more"
    assert jsonc.loads("/* a\n*/" + "\n".join(lines)) == value


# --- the flight recorder --------------------------------------------------------------------------------------------


def test_the_recorder_comes_beside_the_application(tmp_path: Path) -> None:
    """A folder with a Worker of its own; the lines to add are said, and the application's files stay as they are."""
    (tmp_path / "wrangler.jsonc").write_text(WRANGLER)
    answer = backout(tmp_path, "init")
    assert answer.code == 0
    folder = tmp_path / "backout-recorder"
    assert {file.name for file in folder.iterdir()} == {"object.js", "recorder.js", "wrangler.jsonc"}
    settings = jsonc.loads((folder / "wrangler.jsonc").read_text())
    assert isinstance(settings, dict)
    assert (settings["name"], settings["main"]) == ("shop-recorder", "object.js")
    assert settings["durable_objects"] == {"bindings": [{"name": "OBJECT", "class_name": "Counts"}]}
    assert settings["migrations"] == [{"tag": "v1", "new_sqlite_classes": ["Counts"]}]
    assert settings["account_id"] == "0123"
    assert '"tail_consumers": [{"service": "shop-recorder"}]' in answer.err
    assert (tmp_path / "wrangler.jsonc").read_text() == WRANGLER


@pytest.mark.parametrize("sink", ["object", "r2"])
def test_the_line_for_backout_toml_is_a_right_one(tmp_path: Path, sink: str) -> None:
    """Uncommented, the draft's own line is a source that needs nothing more in the file."""
    (tmp_path / "wrangler.toml").write_text('name = "Shop_2"\naccount_id = "0123"\n')
    backout(tmp_path, "init", f"--recorder={sink}")
    shown = backout(tmp_path, "init", "--json").json["recorder"]
    assert shown["tail_consumers"] == 'tail_consumers = [{ service = "shop-2-recorder" }]'
    assert shown["sink"] == sink
    file = tmp_path / "backout.toml"
    file.write_text(
        file.read_text().replace('# traffic = { provider = "recorder"', 'traffic = { provider = "recorder"')
    )
    recorder = configuration(tmp_path)["production"]["traffic"]["recorder"]
    assert recorder.get("bucket") == ("shop-2-backout-counts" if sink == "r2" else None)
    assert recorder.get("url") == (None if sink == "r2" else "https://shop-2-recorder.YOUR-SUBDOMAIN.workers.dev")
    assert backout(tmp_path, "config", "check").code == 0
    assert '"account_id": "0123"' in (tmp_path / "backout-recorder" / "wrangler.jsonc").read_text()


def test_the_recorder_alone_and_again(tmp_path: Path) -> None:
    """For a project with a backout.toml; what is there stays, and --force renews our code, never its settings."""
    (tmp_path / "wrangler.toml").write_text('name = "shop"\n')
    (tmp_path / "backout.toml").write_text("mine")
    shown = backout(tmp_path, "init", "--recorder", "--dry-run")
    assert shown.code == 0
    assert "export default" in shown.out
    folder = tmp_path / "backout-recorder"
    assert not folder.exists()
    assert "wrote backout-recorder/: recorder.js, wrangler.jsonc" in backout(tmp_path, "init", "--recorder=r2").out
    settings = (folder / "wrangler.jsonc").read_text()
    assert '"r2_buckets"' in settings
    for file in folder.iterdir():
        file.write_text(f"{file.read_text()} // changed")
    assert "backout-recorder/ is as it was" in backout(tmp_path, "init", "--recorder").out
    forced = backout(tmp_path, "init", "--recorder", "--force")
    assert "wrote backout-recorder/: recorder.js; left alone: wrangler.jsonc" in forced.out
    assert "has an R2 bucket; for a Durable Object, remove that file and run this again" in forced.err
    assert (folder / "wrangler.jsonc").read_text() == f"{settings} // changed"
    assert (tmp_path / "backout.toml").read_text() == "mine"


def test_the_recorder_says_first_that_it_needs_a_paid_plan_and_what_it_costs(tmp_path: Path) -> None:
    """Of both sinks, at three rates; by make_bill, whose figures are checked by hand elsewhere."""
    (tmp_path / "wrangler.toml").write_text('name = "shop"\n')
    answer = backout(tmp_path, "init", "--recorder", "--json")
    said = answer.err.splitlines()
    assert said[0] == "the flight recorder needs a paid plan: Tail Workers are part of Workers Paid, $5 a month"
    assert said[-3:] == [
        "  requests a second        10       100     1,000",
        "  a Durable Object      $5.15     $6.04    $17.02",
        "  an R2 bucket          $9.50    $32.44   $100.27",
    ]
    assert answer.json["bill"][2] == {"requests_per_s": 1000, "isolates": 200, "object_usd": 17.02, "r2_usd": 100.27}


SOURCE = """
import { home } from "./pages.js";
const routes = { "GET /": home, "GET /api/models": list, "GET /api/models/:id": one, "POST /api/orders": order };
app.get("/api/session", session);
app.get("/logout", leave); app.get("/health", health);
"""


def test_routes_of_the_source_are_proposed_and_asked_with_consent_alone(tmp_path: Path) -> None:
    """As a comment at first, and nothing is sent; with --ask-routes those that answer 2xx are what guard asks."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.js").write_text(SOURCE)
    (tmp_path / "wrangler.jsonc").write_text('{"name": "shop", "vars": {"APP_URL": "https://shop.example.com"}}')
    file = tmp_path / "backout.toml"
    with scripted_server() as server:
        assert backout(tmp_path, "init").code == 0
        assert '# paths = ["/", "/api/models", "/api/session"] # not asked' in file.read_text()
        assert configuration(tmp_path)["production"]["guard"]["synthetic"] == {}
        file.write_text(file.read_text().replace("https://shop.example.com", server.url))
        assert server.asked == []
        server.will(answer(b"x", 200), answer(b"x", 200), answer(b"x", 401))
        asked = backout(tmp_path, "init", "--ask-routes", "--json")
        assert asked.code == 0, asked.err
        assert asked.json["routes"] == ["/", "/api/models"]
        assert configuration(tmp_path)["production"]["guard"]["synthetic"] == {"paths": ["/", "/api/models"]}
        assert [each.target for each in server.asked] == ["/", "/api/models", "/api/session"]
        assert "production: 2 of 3 routes answer 2xx: /, /api/models" in asked.err
        assert backout(tmp_path, "init", "--ask-routes").code == 7  # accepted already: nothing is proposed any more
    assert backout(tmp_path, "config", "check").code == 0
