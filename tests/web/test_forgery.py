"""What other sites make a browser send, and what strangers write: refused, or shown as text, on every page there is."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import pytest
from starlette.routing import Route
from web_lab import PRODUCTION, STAGING, Answer, Lab, Permission, open_lab, read_answer

from backout.model.action_request import Act, Requester, RequestState
from backout.runbook.serve.action_requests import end_request, list_requests, make_request, take_request
from backout.runbook.serve.overviews import save_status
from backout.web.app import make_app
from backout.web.security import HEADERS, MOST_BODY, Guarded

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "other"
"""An environment like `staging` of which only plain words are told: the pages of both are built alike."""
MORE: Final = """
[environments.other]
protected = false
platform = { provider = "cloudflare", script = "shop-other" }
"""
NASTY: Final = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(2)></textarea>{{7*7}}{% raw %}${7*7}"
    "&lt;b&gt;\u202egnp\u2066\u200b\x00\x1b[31m javascript:alert(3)"
)
TAME: Final = "a plain word"
UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]")
"""What a page shows as something else, or not at all."""


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Lend a server on a journal in which strangers wrote what they could into one environment."""
    with open_lab(tmp_path_factory.mktemp("forgery"), more=MORE, told=(PRODUCTION,)) as lab:
        for environment, text in ((STAGING, NASTY), (OTHER, TAME)):
            lab.tell(environment, title=f"title {text}", note=f"note {text}", why=f"why {text}", version=f"v-{text}")
            answers = {
                Act.DIAGNOSE: {
                    "cause": f"cause {text}", "title": f"found {text}", "scenario": text, "confidence": 0.9,
                    "service": text, "evidence": [{"text": f"line {text}", "count": 3}], "next": [f"next {text}"],
                },
                Act.PLAN: {"message": f"message {text}", "why": text, "steps": [{"title": text}]},
            }  # fmt: skip
            for act, answer in answers.items():
                made = make_request(
                    lab.journal,
                    environment,
                    act,
                    key=f"{act}",
                    by=Requester(f"by {text}"),
                    why=f"why {text}",
                    actor="eve",
                )
                assert take_request(lab.journal, made, actor=f"worker {text}")
                end_request(lab.journal, made, RequestState.DONE, actor="a worker", exit_code=0, answer=answer)
            status = {
                "live_version": f"v-{text}", "troubles": [f"trouble {text}"], "unmeasured": [f"unmeasured {text}"],
                "hold": {"why": f"held {text}"}, "health": {"services": {f"service {text}": {"state": "down"}}},
            }  # fmt: skip
            save_status(lab.journal, environment, status, time.time())
        yield lab
        assert "Traceback" not in lab.said


def log_in(lab: Lab, role: Permission = Permission.APPROVER) -> dict[str, str]:
    """Return the headers of a browser in which somebody has just logged in."""
    offer = lab.logins.offer("ada", role)
    answer = lab.ask("POST", "/login", form={"offer": offer, "next": "/"})
    assert answer.status == 303
    (cookie,) = answer.cookies
    return {"Cookie": cookie.partition(";")[0]}


def list_routes(lab: Lab) -> list[tuple[str, str]]:
    """Return (method, path) of every route of the real application, of an environment that has a night."""
    guarded = make_app(lab.site, {"127.0.0.1"})
    assert isinstance(guarded, Guarded)
    found = [("GET", "/static/backout.css"), ("GET", "/static/vendor/htmx.min.js")]
    for each in guarded._app.routes:  # type: ignore[attr-defined]
        if isinstance(each, Route):
            found += [(method, fill(lab, each.path)) for method in sorted((each.methods or set()) - {"HEAD"})]
    return found


def fill(lab: Lab, path: str, environment: str = PRODUCTION) -> str:
    """Return the address of a route, with what there is in an environment."""
    night = lab.night
    return path.replace("{place:path}", "environments").format(
        environment=environment,
        run=night.runs[environment],
        incident=night.incidents[environment],
        number=night.requests[environment],
    )


def ask_as_other_site(lab: Lab, method: str, path: str, headers: dict[str, str]) -> Answer:
    """Send what a form or a script sends; JSON to the API, so that nothing else is wrong with it."""
    if path.startswith("/api/"):
        return lab.ask(method, path, body={"act": "plan", "what": "abort", "why": "x"}, headers=headers)
    return lab.ask(method, path, form={"act": "plan", "what": "abort", "why": "x"}, headers=headers)


def test_what_another_site_sends_changes_nothing(strange: Lab) -> None:
    """By what the browser says of where it comes from, or of its page's origin: on each route that takes a POST."""
    port, session = strange.port, log_in(strange)
    foreign = [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "SAME-ORIGIN, cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": strange.url},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": f"http://127.0.0.1:{port + 1 if port < 65_535 else port - 1}"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Origin": f"http://127.0.0.1:{port}.evil.example.com"},
        {"Origin": f"http://evil@127.0.0.1:{port}"},
        {"Origin": f"ftp://127.0.0.1:{port}"},
        {"Origin": "http://["},
    ]
    changing = [path for method, path in list_routes(strange) if method == "POST" and not path.startswith("/hooks/")]
    assert len(changing) >= 8
    before, wrong = strange.journal.find_newest(), []
    for path in changing:
        for headers in foreign:
            status = ask_as_other_site(strange, "POST", path, {**session, **headers}).status
            if status != 403:
                wrong.append(f"{path} {headers}: {status}")
    assert wrong == []
    assert [event.kind for event in strange.journal.events(after=before)] == []
    assert strange.ask("GET", "/", headers=session).status == 200, "the session was ended by another site"


def test_our_own_forms_and_programs_are_taken(strange: Lab) -> None:
    """A browser that says it is our page, an old one that names its origin, and a program that names nothing."""
    session = log_in(strange)
    path = f"/env/{PRODUCTION}/requests"
    for headers in (
        {"Sec-Fetch-Site": "same-origin", "Origin": strange.url},
        {"Sec-Fetch-Site": "none"},
        {"Origin": strange.url},
        {"Origin": f"http://localhost:{strange.port}"},
        {},
    ):
        answer = strange.ask("POST", path, form={"act": "plan"}, headers={**session, **headers})
        assert answer.status == 303, headers
        assert answer.headers["location"].startswith(f"{path}/")


def test_no_page_is_reached_by_a_name_that_is_not_ours(strange: Lab) -> None:
    """Whoever points a name of theirs at our address reads nothing by it, on no route."""
    token, port = strange.issue(Permission.APPROVER), strange.port
    foreign = (
        "evil.example.com", f"evil.example.com:{port}", "127.0.0.1", "localhost", f"127.0.0.1:{port + 1}",
        f"127.0.0.1:{port}.evil.example.com", f"ada@127.0.0.1:{port}", f"127.0.0.1.:{port}", f"127.0.0.1:0{port}", "",
    )  # fmt: skip
    routes = list_routes(strange)
    before, wrong = strange.journal.find_newest(), []
    for method, path in routes:
        for host in foreign if path in ("/", "/login") else foreign[:1]:
            answer = strange.ask(method, path, token=token, headers={"Host": host, "X-Forwarded-Host": strange.url})
            if answer.status != 421 or strange.night.runs[PRODUCTION] in answer.text:
                wrong.append(f"{method} {path} at {host!r}: {answer.status}")
    assert wrong == []
    assert strange.journal.find_newest() == before
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert strange.ask("GET", "/", token=token, headers={"Host": host}).status == 200, host


class Page(HTMLParser):
    """What a page is built of: its elements with the names of their attributes, and what could run in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.runs: list[str] = []
        self.values: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag if tag in ("script", "style") else ""
        self.elements.append(f"{tag} {sorted(name for name, _ in attrs)}")
        for name, value in attrs:
            self.values.append(value or "")
            place = urlsplit((value or "").strip())
            if name.startswith("on") or name in ("style", "srcdoc", "hx-on", "hx-vals", "background"):
                self.runs.append(f"{tag} {name}={value}")
            is_ours = not place.scheme and not place.netloc and (value or "").startswith(("/", "#"))
            if name in ("href", "src", "action", "formaction", "hx-get", "hx-post", "hx-sse:connect") and not is_ours:
                self.runs.append(f"{tag} {name}={value}")
        if tag == "script" and not (dict(attrs).get("src") or "").startswith("/static/"):
            self.runs.append("a script that is none of our files")
        if tag in ("style", "iframe", "object", "embed", "base", "svg"):
            self.runs.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in = ""
        self.elements.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.elements.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in and data.strip():
            self.runs.append(f"{self._in}: {data[:80]}")


def list_answers(lab: Lab) -> Iterator[tuple[str, Answer]]:
    """Yield an answer of every kind: each route, as somebody and as nobody, and everything that is refused."""
    token = lab.issue(Permission.APPROVER)
    for method, path in list_routes(lab):
        for who in (token, ""):
            yield f"{method} {path} as {'somebody' if who else 'nobody'}", lab.ask(method, path, token=who)
        yield f"PUT {path}", lab.ask("PUT", path, token=token)
    for path in ("/none", "/env/none", "/api/v1/none", "/api", "/static/none.css", "/static/../app.py", "/static/%00"):
        yield f"GET {path}", lab.ask("GET", path, token=token)
        yield f"HEAD {path}", lab.ask("HEAD", path, token=token)
    for where in ("/", "/api/v1/environments", "/static/backout.css"):
        yield f"foreign {where}", lab.ask("GET", where, token=token, headers={"Host": "evil.example.com"})
        long = {"Content-Length": str(MOST_BODY + 1)}
        yield f"too long {where}", lab.ask("GET", where, token=token, headers=long)
        yield f"forged {where}", lab.ask("POST", where, token=token, headers={"Origin": "https://evil.example.com"})
    form = f"/env/{PRODUCTION}/requests"
    yield "no form", lab.ask("POST", form, token=token, body=b"{}")
    yield "an odd form", lab.ask("POST", form, token=token, form={"act": "odd"})
    yield (
        "an odd charset",
        lab.ask(
            "POST", form, token=token, body=b"act=%ff", headers={"Content-Type": "application/x-www-form-urlencoded"}
        ),
    )
    cached = lab.ask("GET", "/static/backout.css")
    yield "not modified", lab.ask("GET", "/static/backout.css", headers={"If-None-Match": cached.headers["etag"]})


def test_every_answer_carries_the_policy(strange: Lab) -> None:
    """Pages, problems, redirects, static files, streams and refusals: the headers, and nothing inline that runs."""
    wrong, seen = [], set()
    for what, answer in list_answers(strange):
        seen.add(answer.status)
        missing = [name for name, value in HEADERS.items() if answer.headers.get(name.lower()) != value]
        kept = answer.headers.get("cache-control", "")
        is_static = "/static/backout.css" in what or "/static/vendor" in what or what == "not modified"
        is_kept = is_static and answer.status in (200, 304)
        if missing or ("immutable" in kept) != is_kept or ("no-store" in kept) == is_kept:
            wrong.append(f"{what} ({answer.status}): {missing} {kept}")
        if "server" in answer.headers or answer.status >= 500:
            wrong.append(f"{what} ({answer.status}): {answer.headers}")
        if answer.headers.get("content-type", "").startswith("text/html"):
            wrong += [f"{what}: {each}" for each in Page(answer.text).runs]
    assert wrong == []
    assert seen >= {200, 303, 304, 401, 403, 404, 405, 413, 415, 421}


def test_the_policy_lets_nothing_run_but_our_own_files() -> None:
    """Whatever gets onto a page: nothing inline, nothing from elsewhere, in no frame, no form to elsewhere."""
    policy = dict(each.strip().partition(" ")[::2] for each in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    for name in ("script-src", "style-src", "connect-src", "form-action"):
        assert policy[name] == "'self'", name
    for name in ("frame-ancestors", "base-uri", "object-src"):
        assert policy[name] == "'none'", name
    assert "unsafe" not in " ".join(policy.values())


def read_stream(lab: Lab, token: str, place: str) -> str:
    """Return the first message of a page's stream."""
    with lab.listen(f"/stream/{place}", token=token) as stream:
        message = stream.read()
        assert message is not None
        return message["data"]


def list_pages(lab: Lab, environment: str) -> list[str]:
    """Return the addresses of all pages of an environment."""
    numbers = [each.id for each in list_requests(lab.journal, environment)]
    paths = ["", "/hold", "/run/{run}", "/incident/{incident}"]
    return [fill(lab, f"/env/{{environment}}{path}", environment) for path in paths] + [
        f"/env/{environment}/requests/{number}" for number in numbers
    ]


def list_streams(lab: Lab, environment: str) -> list[str]:
    places = [fill(lab, each, environment) for each in ("run/{environment}/{run}", "incident/{environment}/{incident}")]
    numbers = [each.id for each in list_requests(lab.journal, environment)]
    return [f"environment/{environment}", *places, *(f"request/{environment}/{number}" for number in numbers)]


def check_shown(shown: str, plain: str, where: str) -> None:
    """Fail where what strangers wrote changed what a page is built of, or is not seen as what it is."""
    page = Page(shown)
    assert page.elements == Page(plain).elements, where
    assert page.runs == [], where
    found = UNSEEN.findall(shown)
    assert found == [], (where, found)


def test_what_strangers_write_is_text_on_every_page(strange: Lab) -> None:
    """A page with it is built of the same elements as one with a plain word, and what is unseen is named."""
    token, said = strange.issue(Permission.APPROVER), ""
    pairs = zip(list_pages(strange, STAGING), list_pages(strange, OTHER), strict=True)
    for path, tame in pairs:
        shown, plain = (strange.ask("GET", each, token=token) for each in (path, tame))
        assert (shown.status, plain.status) == (200, 200), path
        check_shown(shown.text, plain.text, path)
        said += Page(shown.text).text + " ".join(Page(shown.text).values)
    for word in ("title", "note", "why", "trouble", "held", "line", "found", "next", "by", "service"):
        assert f"{word} \"'><script>alert(1)</script>" in said.lower(), f"{word} is shown nowhere"
    assert "{{7*7}}{% raw %}${7*7}&lt;b&gt;<U+202E>gnp<U+2066><U+200B>??[31m" in said
    assert UNSEEN.findall(strange.ask("GET", "/", token=token).text) == []
    assert Page(strange.ask("GET", "/", token=token).text).runs == []


def test_what_strangers_write_is_text_in_streams(strange: Lab) -> None:
    """A line end of theirs begins no message and no field."""
    token = strange.issue(Permission.APPROVER)
    for place, tame in zip(list_streams(strange, STAGING), list_streams(strange, OTHER), strict=True):
        shown, plain = (read_stream(strange, token, each) for each in (place, tame))
        check_shown(shown, plain, place)
    shown = read_stream(strange, token, "environments")
    assert "Trouble &#34;&#39;&gt;&lt;script&gt;" in shown
    assert UNSEEN.findall(shown) == []


def test_what_stands_in_an_address_is_text(strange: Lab) -> None:
    """Names, numbers and words after the question mark: said again nowhere, or as a value of a field."""
    token, written = strange.issue(Permission.APPROVER), quote(NASTY.replace("/", ""), safe="")
    for path in (
        f"/env/{written}", f"/env/{STAGING}/run/{written}", f"/env/{STAGING}/incident/{written}",
        f"/env/{STAGING}/requests/{written}", f"/env/{STAGING}/run/{written}/picture.svg", f"/stream/{written}",
        f"/stream/run/{STAGING}/{written}", f"/{written}", f"/static/{written}",
    ):  # fmt: skip
        answer = strange.ask("GET", path, token=token)
        assert answer.status == 404, path
        if answer.headers["content-type"].startswith("text/html"):
            assert Page(answer.text).runs == [], path
        assert "<script>alert" not in answer.text, path
        assert UNSEEN.findall(answer.text) == [], path
    shown = strange.ask("GET", f"/login?offer={written}&next=/{written}")
    check_shown(shown.text, strange.ask("GET", "/login?offer=a&next=/a").text, "/login")
    led = strange.ask("GET", f"/env/{written}")
    assert (led.status, led.headers["location"][:12]) == (303, "/login?next=")
    assert led.headers["location"].isascii()
    told = strange.ask("GET", f"/env/{STAGING}/run/{written}", token=token)
    assert "there is no run" in Page(told.text).text
    assert "<script>alert(1)<script>" in Page(told.text).text


ELSEWHERE: Final = (
    "https://evil.example.com", "//evil.example.com", "/\\evil.example.com", "\\\\evil.example.com",
    "/\t/evil.example.com", "/\n/evil.example.com", "javascript:alert(1)", "http:evil.example.com", " //evil",
    "\t//evil.example.com", "//[", "///evil.example.com",
)  # fmt: skip


@pytest.mark.parametrize("address", ELSEWHERE, ids=range(len(ELSEWHERE)))
def test_a_login_offers_no_way_to_another_site(strange: Lab, address: str) -> None:
    """The form leads to the first page then."""
    offer = strange.logins.offer("ada", Permission.VIEWER)
    page = Page(strange.ask("GET", f"/login?offer={offer}&next={quote(address, safe='')}").text)
    assert page.values[page.values.index("next") + 1] == "/"


@pytest.mark.parametrize("address", ["//evil.example.com", "/\t/evil.example.com", "/\r\nSet-Cookie: a=b"])
def test_a_login_leads_to_no_other_site(strange: Lab, address: str) -> None:
    """Whatever the form says, which may be one that somebody else wrote; nor does it write a header of theirs."""
    form = {"offer": strange.logins.offer("ada", Permission.VIEWER), "next": address}
    answer = strange.ask("POST", "/login", form=form)
    assert (answer.status, len(answer.cookies)) == (303, 1)
    led = answer.headers["location"]
    assert re.match(r"/(?![\\/\s])", led)
    assert urlsplit(led).netloc == ""


def test_two_hosts_in_one_request_are_nobody(strange: Lab) -> None:
    """The first one does not let the second one in."""
    connection = http.client.HTTPConnection("127.0.0.1", strange.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.putrequest("GET", "/", skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{strange.port}")
        connection.putheader("Host", "evil.example.com")
        connection.endheaders()
        assert read_answer(connection).status in (400, 421)
