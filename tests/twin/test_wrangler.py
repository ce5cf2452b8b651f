"""The real wrangler against a real twin: every command succeeds, and what it promises is what is live afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kept import furnish, furnish_wrangler
from recorder_lab import upload

from backout.config.init import wrangler as wrangler_files
from backout.errors import ProviderRejected
from backout.twin import lifecycle, remote, wrangler

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.lifecycle import TwinStatus
    from backout.twin.wrangler import WranglerRun

ROOT = Path(__file__).resolve().parents[2]
HYPERDRIVE_ID = "0123456789abcdef0123456789abcdef"
HELLO = """export default { async fetch(request, env) {
  if (new URL(request.url).pathname === "/boom") throw new Error("boom of TEXT");
  return Response.json({ said: "TEXT", color: env.COLOR ?? null, secret: env.JWT_SECRET ?? null });
} };
"""
BOUND = """import pg from "pg";
export default { async fetch(request, env) {
  const client = new pg.Client({ connectionString: env.DB.connectionString });
  await client.connect();
  const { rows } = await client.query("SELECT 40 + 2 AS answer");
  await client.end();
  await env.MODELS.put("from/worker.txt", "kept in R2");
  const object = await env.MODELS.get("from/worker.txt");
  return Response.json({
    answer: rows[0].answer, object: await object.text(), color: env.COLOR, secret: env.JWT_SECRET, conf: env.CONF,
  });
} };
"""


@dataclass
class Project:
    """One Worker's folder, and the twin that it is deployed to."""

    name: str
    folder: Path
    twin: TwinStatus
    scratch: Path
    config: dict[str, object] = field(default_factory=dict)

    def write(self, text: str, **config: object) -> None:
        """Write the code and the configuration."""
        (self.folder / "index.js").write_text(text)
        base = {"name": self.name, "main": "index.js", "compatibility_date": "2026-10-01"}
        self.config = {**base, **config}
        (self.folder / "wrangler.jsonc").write_text(json.dumps(self.config))

    def wrangler(self) -> wrangler.Wrangler:
        twin = self.twin
        assert twin.api_base_url is not None
        assert twin.account_id is not None
        token_file = Path(str(twin.api_token_file))
        return wrangler.find(self.folder, twin.api_base_url, twin.account_id, token_file, self.scratch)

    def run(self, *args: str, stdin: str = "") -> WranglerRun:
        """Run a command that has to succeed."""
        done = self.try_run(*args, stdin=stdin)
        assert done.returncode == 0, f"wrangler {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done

    def try_run(self, *args: str, stdin: str = "") -> WranglerRun:
        return self.wrangler().run(*args, stdin=stdin)

    def deploy(self, said: str, *args: str, **config: object) -> str:
        """Deploy the greeting and return the version's id."""
        self.write(HELLO.replace("TEXT", said), **config)
        return str(self.run("deploy", *args).record("deploy")["version_id"])

    def upload(self, said: str, message: str = "") -> str:
        """Deploy the greeting by the API, where wrangler's own deploy is not what is tested: a tenth of its time."""
        self.write(HELLO.replace("TEXT", said))
        return upload(self.twin, self.name, HELLO.replace("TEXT", said), annotations={"workers/message": message})

    def api(self, path: str) -> Any:
        """Read the API's own answer; a path without / is under this script."""
        root = f"{self.twin.api_base_url}/accounts/{self.twin.account_id}"
        url = f"{root}{path}" if path.startswith("/") else f"{root}/workers/scripts/{self.name}/{path}"
        token = Path(str(self.twin.api_token_file)).read_text()
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return json.load(response)["result"]

    def live(self) -> list[tuple[str, float]]:
        newest = self.api("deployments")["deployments"][0]
        return [(v["version_id"], v["percentage"]) for v in newest["versions"]]

    def get(self, path: str = "/", **headers: str) -> bytes:
        """Ask the live Worker."""
        sent = {"Host": f"{self.name}.localhost", **headers}
        request = urllib.request.Request(f"{self.twin.ingress_url}{path}", headers=sent)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return bytes(response.read())

    def says(self, **headers: str) -> Any:
        return json.loads(self.get("/", **headers))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinStatus]:
    directory = tmp_path_factory.mktemp("twin")
    status = lifecycle.start_twin(furnish(directory))
    yield status
    after = lifecycle.read_status(directory)
    lifecycle.stop_twin(directory)
    assert after.running
    assert after.unknown_routes == (), "wrangler asked for something that the twin does not know"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all calls, so that Node's compile cache is warm after the first."""
    return furnish_wrangler(tmp_path_factory.mktemp("wrangler"))


@pytest.fixture
def project(twin: TwinStatus, scratch: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    """A folder whose Worker has a name of its own, so that the tests can run in any order."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    return Project(name, folder, twin, scratch)


def test_what_it_says_has_no_colours_and_no_log_that_is_thrown_away(tmp_path: Path) -> None:
    """Esbuild colours its errors whatever is set."""
    node, token = tmp_path / "node", tmp_path / "token"
    said = "\\033[31mX \\033[41;97mERROR\\033[0m\\n\\nLogs were written to x\\n"
    node.write_text(f"#!/bin/sh\nprintf '{said}' >&2\n", encoding="utf-8")
    node.chmod(0o755)
    token.write_text("secret", encoding="utf-8")
    program = wrangler.Wrangler("http://127.0.0.1:1", "a", token, tmp_path, tmp_path / "cli.js", node, tmp_path)
    run = program.run("deploy")
    assert run.stderr.startswith("X ERROR\n")
    assert run.said == "X ERROR"


def test_whoami(project: Project) -> None:
    """The token, the user and the account are known."""
    done = project.run("whoami")
    assert project.twin.account_id is not None
    assert project.twin.account_id in done.stdout
    assert "dev@example.com" in done.stdout
    token = Path(str(project.twin.api_token_file)).read_text()
    tool = project.wrangler()
    assert token not in " ".join(tool.argv("whoami"))
    written = [path.read_bytes() for path in tool.scratch.rglob("*") if path.is_file()]
    assert written
    assert not any(token.encode() in data for data in written)


def test_deploy_first_and_again(project: Project) -> None:
    """Each deploy is one version and one deployment, with message and tag, and answers at once."""
    first = project.deploy("one", "--message", "the first", "--tag", "v1")
    assert project.live() == [(first, 100)]
    assert project.says()["said"] == "one"
    second = project.deploy("two", "--message", "the second", "--tag", "v2", vars={"COLOR": "blue"})
    assert project.live() == [(second, 100)]
    assert project.says() == {"said": "two", "color": "blue", "secret": None}
    deployments = project.api("deployments")["deployments"]
    assert [d["annotations"]["workers/message"] for d in deployments] == ["the second", "the first"]
    assert [d["source"] for d in deployments] == ["wrangler", "wrangler"]
    shown = [v["annotations"]["workers/tag"] for v in project.api("versions?deployable=true")["items"]]
    assert shown == ["v2", "v1"]


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_deploy_code_that_throws_at_start(project: Project) -> None:
    """Wrangler fails with the runtime's own words, and the old version stays live."""
    good = project.upload("one")
    project.write('throw new Error("bad at start");\nexport default { fetch() { return new Response("x") } };')
    done = project.try_run("deploy")
    assert done.returncode != 0
    assert "bad at start" in done.stdout + done.stderr
    assert "10021" in done.stdout + done.stderr
    assert project.live() == [(good, 100)]
    assert project.says()["said"] == "one"


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_deploy_with_assets(project: Project) -> None:
    """Static files are served with their types, everything else reaches the Worker; the next deploy uploads less."""
    public = project.folder / "public"
    public.mkdir()
    (public / "style.css").write_text("body { color: red }")
    (public / "page.html").write_text("<h1>static</h1>")
    project.deploy("worker", assets={"directory": "public"})
    request = urllib.request.Request(
        f"{project.twin.ingress_url}/style.css", headers={"Host": f"{project.name}.localhost"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        assert response.headers["Content-Type"].startswith("text/css")
        assert response.read() == b"body { color: red }"
    assert project.says()["said"] == "worker"
    (public / "style.css").write_text("body { color: blue }")
    project.deploy("worker", assets={"directory": "public"})
    assert project.get("/style.css") == b"body { color: blue }"
    assert project.get("/page") == b"<h1>static</h1>"


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_deploy_with_everything_bound(project: Project) -> None:
    """R2, Hyperdrive, a secret, variables and a schedule in one deploy; the Worker really uses all of them."""
    secrets = project.folder / "secrets.json"
    secrets.write_text(json.dumps({"JWT_SECRET": "from the file"}))
    project.write(
        BOUND,
        compatibility_flags=["nodejs_compat"],
        vars={"COLOR": "green", "CONF": {"deep": [1, 2]}},
        r2_buckets=[{"binding": "MODELS", "bucket_name": "everything-models"}],
        hyperdrive=[{"binding": "DB", "id": HYPERDRIVE_ID}],
        triggers={"crons": ["*/5 * * * *"]},
    )
    project.run("r2", "bucket", "create", "everything-models")
    project.run("deploy", "--secrets-file", str(secrets))
    assert json.loads(project.get()) == {
        "answer": 42,
        "object": "kept in R2",
        "color": "green",
        "secret": "from the file",
        "conf": {"deep": [1, 2]},
    }
    assert [s["cron"] for s in project.api("schedules")["schedules"]] == ["*/5 * * * *"]
    bindings = {b["name"]: b["type"] for b in project.api("settings")["bindings"]}
    assert bindings == {
        "COLOR": "plain_text",
        "CONF": "json",
        "MODELS": "r2_bucket",
        "DB": "hyperdrive",
        "JWT_SECRET": "secret_text",
    }
    project.run("r2", "object", "get", "everything-models/from/worker.txt", "--remote", "--file", "got.txt")
    assert (project.folder / "got.txt").read_text() == "kept in R2"


CRON = """export default {
  async fetch() { return Response.json({ runs: globalThis.runs ?? 0, at: globalThis.at }); },
  async scheduled(controller) {
    if (controller.cron === "0 0 1 1 *") throw new Error("a year is over");
    globalThis.runs = (globalThis.runs ?? 0) + 1;
    globalThis.at = controller.scheduledTime;
  },
};
"""


def test_the_schedules_of_the_configuration_run_on_demand(project: Project) -> None:
    """What wrangler deployed is run by the twin's own call; the outcome is told, and a failure is not hidden."""
    project.write(CRON, triggers={"crons": ["* * * * *", "0 0 1 1 *"]})
    version = project.run("deploy").record("deploy")["version_id"]
    run = remote.run_schedule(project.twin, project.name, "* * * * *")
    assert (run.cron, run.version, run.outcome) == ("* * * * *", version, "ok")
    assert project.says()["runs"] > 0
    assert remote.run_schedule(project.twin, project.name, "0 0 1 1 *").outcome == "exception"
    with pytest.raises(ProviderRejected, match=r"\* \* \* \* \*, 0 0 1 1 \*"):
        remote.run_schedule(project.twin, project.name)


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_a_schedule_runs_at_its_minute(project: Project) -> None:
    """Nobody asks for it: within two minutes it has run, for a whole minute."""
    project.write(CRON, triggers={"crons": ["* * * * *"]})
    project.run("deploy")
    until(lambda: project.says()["runs"] > 0, 120, "the minute", every_s=0.5)
    assert project.says()["at"] % 60_000 == 0


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_hyperdrive_create_list_and_delete(project: Project) -> None:
    """The id that wrangler prints is one that a Worker can be bound to: it reaches the twin's database."""
    origin = "postgres://app:canary-of-the-origin@db.example.com:5432/app"
    made = project.run("hyperdrive", "create", "app", f"--connection-string={origin}", "--caching-disabled")
    found = re.search(r"config: ([0-9a-f]{32})", made.stdout)
    assert found is not None
    assert found[1] in project.run("hyperdrive", "list").stdout
    assert "db.example.com" in project.run("hyperdrive", "get", found[1]).stdout
    code = """import pg from "pg";
export default { async fetch(request, env) {
  const client = new pg.Client({ connectionString: env.DB.connectionString });
  await client.connect();
  const { rows } = await client.query("SELECT 40 + 2 AS answer");
  await client.end();
  return Response.json(rows[0]);
} };
"""
    bound = [{"binding": "DB", "id": found[1]}]
    project.write(code, compatibility_flags=["nodejs_compat"], hyperdrive=bound)
    project.run("deploy")
    assert json.loads(project.get()) == {"answer": 42}
    project.run("hyperdrive", "delete", found[1])
    assert found[1] not in project.run("hyperdrive", "list").stdout


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_versions_upload_list_view_and_a_split(project: Project) -> None:
    """An uploaded version serves nobody until it is deployed; then overrides reach both sides of the split."""
    old = project.upload("old")
    project.write(HELLO.replace("TEXT", "new"))
    done = project.run("versions", "upload", "--message", "to be split", "--tag", "v2")
    new = str(done.record("version-upload")["version_id"])
    assert project.live() == [(old, 100)]
    assert project.says()["said"] == "old"
    assert [v["id"] for v in json.loads(project.run("versions", "list", "--json").stdout)] == [old, new]
    view = project.run("versions", "view", new).stdout
    assert new in view
    assert "to be split" in view
    project.run("versions", "deploy", f"{old}@90", f"{new}@10", "-y", "--message", "canary")
    assert sorted(project.live()) == sorted([(old, 90), (new, 10)])
    override = "Cloudflare-Workers-Version-Overrides"
    assert [project.says(**{override: f'{project.name}="{v}"'})["said"] for v in (old, new)] == ["old", "new"]
    said = {project.says(**{"Cloudflare-Workers-Version-Key": f"user-{n}"})["said"] for n in range(100)}
    assert said == {"old", "new"}


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_deployments_list_and_status(project: Project) -> None:
    """Both show the live version; --json is the API's own list."""
    first = project.upload("one", "number one")
    second = project.upload("two", "number two")
    text = project.run("deployments", "list").stdout
    assert text.index(first) < text.index(second)
    assert "number one" in text
    listed = json.loads(project.run("deployments", "list", "--json").stdout)
    assert [d["versions"][0]["version_id"] for d in listed] == [first, second]
    status = json.loads(project.run("deployments", "status", "--json").stdout)
    assert status["versions"] == [{"version_id": second, "percentage": 100}]


@pytest.mark.long
def test_rollback_with_id_and_message(project: Project) -> None:
    """The named version is live again, as a new deployment that carries the message."""
    first = project.upload("one")
    project.upload("two")
    project.upload("three")
    project.run("rollback", first, "--message", "three is bad", "--yes")
    assert project.live() == [(first, 100)]
    assert project.says()["said"] == "one"
    deployments = project.api("deployments")["deployments"]
    assert len(deployments) == 4
    assert deployments[0]["annotations"]["workers/message"] == "three is bad"


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_rollback_without_id_goes_to_the_previous_deployment(project: Project) -> None:
    """Wrangler's own choice; done twice it is back on the version that was left (why backout has its own)."""
    first = project.upload("one")
    second = project.upload("two")
    project.run("rollback", "--yes")
    assert project.live() == [(first, 100)]
    assert project.says()["said"] == "one"
    project.run("rollback", "--yes")
    assert project.live() == [(second, 100)]


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_rollback_over_a_changed_secret_is_forced_by_wrangler(project: Project) -> None:
    """The API answers 10220 first; wrangler without a terminal answers it with force, and the old secret is live."""
    project.upload("one")
    project.run("secret", "put", "JWT_SECRET", stdin="old")
    target = project.live()[0][0]
    project.run("secret", "put", "JWT_SECRET", stdin="new")
    assert project.says()["secret"] == "new"
    done = project.run("rollback", target, "--message", "back")
    assert "JWT_SECRET" in done.stdout + done.stderr
    assert project.live() == [(target, 100)]
    assert project.says()["secret"] == "old"


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_secret_put_list_delete_and_bulk(project: Project) -> None:
    """Each change is a new live version of the same code; the Worker sees it; no answer shows a value."""
    project.upload("one")
    project.run("secret", "put", "JWT_SECRET", stdin="first-value")
    assert project.says()["secret"] == "first-value"
    listed = project.run("secret", "list").stdout
    assert [s["name"] for s in json.loads(listed)] == ["JWT_SECRET"]
    assert "first-value" not in listed
    bulk = json.dumps({"JWT_SECRET": "second-value", "OTHER": "x"})
    (project.folder / "bulk.json").write_text(bulk)
    project.run("secret", "bulk", "bulk.json")
    assert project.says()["secret"] == "second-value"
    assert sorted(s["name"] for s in project.api("secrets")) == ["JWT_SECRET", "OTHER"]
    project.run("secret", "delete", "JWT_SECRET")
    assert project.says()["secret"] is None
    assert [s["name"] for s in project.api("secrets")] == ["OTHER"]
    versions = project.api("versions?deployable=true")["items"]
    assert [v["annotations"]["workers/triggered_by"] for v in versions] == ["secret", "secret", "secret", "upload"]
    assert len({v["resources"]["script"]["etag"] for v in versions}) == 1
    assert project.live() == [(versions[0]["id"], 100)]
    project.deploy("two")
    assert [s["name"] for s in project.api("secrets")] == ["OTHER"], "a deploy keeps the secrets"


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_versions_secret_put_is_not_deployed(project: Project) -> None:
    """It makes a version only; deploying that version brings the secret."""
    first = project.upload("one")
    project.run("versions", "secret", "put", "JWT_SECRET", stdin="waiting")
    assert project.live() == [(first, 100)]
    assert project.says()["secret"] is None
    newest = project.api("versions?deployable=true")["items"][0]["id"]
    refused = project.try_run("secret", "put", "OTHER", stdin="x")
    assert refused.returncode != 0, "10215: the latest version is not deployed"
    project.run("versions", "deploy", f"{newest}@100", "-y")
    assert project.says()["secret"] == "waiting"


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_tail_shows_a_real_exception(project: Project) -> None:
    """Tail --format json prints the exception with version, outcome and stack; it ends cleanly."""
    version = project.upload("one")
    tool = project.wrangler()
    process = subprocess.Popen(
        tool.argv("tail", project.name, "--format", "json"),
        cwd=project.folder,
        env=tool.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
    reader.start()

    def boom_is_shown() -> bool:
        with pytest.raises(urllib.error.HTTPError) as error:
            project.get("/boom")
        error.value.close()
        return "boom of one" in "".join(lines)

    try:
        until(boom_is_shown, 30.0, "the exception in the tail", every_s=0.3)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        reader.join(PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()
    event, _ = json.JSONDecoder().raw_decode("".join(lines)[("".join(lines)).index("{") :])
    assert event["outcome"] == "exception"
    assert event["exceptions"][0]["message"] == "boom of one"
    assert event["scriptVersion"] == {"id": version}
    assert event["event"]["request"]["url"].endswith("/boom")


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_r2_buckets_and_objects(project: Project) -> None:
    """A bucket is created and listed; an object comes back byte for byte and is gone after delete."""
    bucket = "models-of-the-suite"
    project.run("r2", "bucket", "create", bucket)
    assert bucket in project.run("r2", "bucket", "list").stdout
    assert bucket in lifecycle.read_status(Path(project.twin.directory)).buckets
    data = bytes(range(256)) * 4000
    (project.folder / "model.stl").write_bytes(data)
    place = f"{bucket}/a folder/model.stl"
    project.run("r2", "object", "put", place, "--remote", "--file", "model.stl")
    project.run("r2", "object", "get", place, "--remote", "--file", "back.stl")
    assert (project.folder / "back.stl").read_bytes() == data
    project.run("r2", "object", "delete", place, "--remote")
    assert project.try_run("r2", "object", "get", place, "--remote", "--file", "x").returncode != 0
    project.run("r2", "bucket", "delete", bucket)
    assert bucket not in lifecycle.read_status(Path(project.twin.directory)).buckets


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_delete(project: Project) -> None:
    """The Worker is gone from the API and from the ingress."""
    project.upload("one")
    assert project.name in lifecycle.read_status(Path(project.twin.directory)).workers
    project.run("delete", project.name)
    assert project.name not in lifecycle.read_status(Path(project.twin.directory)).workers
    with pytest.raises(urllib.error.HTTPError) as error:
        project.get()
    error.value.close()
    assert error.value.code == 404


@pytest.mark.rotating("wrangler", 4)
@pytest.mark.long
def test_what_init_reads_of_a_build_is_what_wrangler_deploys(project: Project) -> None:
    """A redirected configuration: the name, the bindings and the environment of the build, without --env."""
    name = f"{project.name}-live"
    project.write(HELLO.replace("TEXT", "not built"), env={"production": {"vars": {"COLOR": "red"}}})
    built = {**project.config, "name": name, "vars": {"COLOR": "blue"}, "targetEnvironment": "production"}
    del built["env"]
    (project.folder / "dist").mkdir()
    (project.folder / "dist" / "index.js").write_text(HELLO.replace("TEXT", "built"))
    (project.folder / "dist" / "wrangler.json").write_text(json.dumps(built))
    redirect = project.folder / wrangler_files.REDIRECT
    redirect.parent.mkdir(parents=True)
    redirect.write_text('{"configPath": "../../dist/wrangler.json"}')
    project.run("deploy")
    found = wrangler_files.read(wrangler_files.find(project.folder))
    assert [(worker.environment, worker.script) for worker in found.workers] == [("production", name)]
    assert replace(project, name=name).says() == {"said": "built", "color": "blue", "secret": None}
    refused = project.try_run("deploy", "--env", "staging")
    assert refused.returncode != 0
    redirect.write_text("{}")
    assert project.try_run("deploy").returncode != 0  # as `backout init` refuses it
