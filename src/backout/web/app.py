"""The application: its routes, and what each of them needs of whoever asks.

The rule: every route but those of logging in and of static files finds the login first, and says by name which rights
it needs in which environment; a test walks over all of them with every role.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backout.web.api import Api
from backout.web.forms import Forms
from backout.web.hooks import Hooks, HookSecrets
from backout.web.pages import Pages
from backout.web.security import Guarded
from backout.web.sessions import Sessions, Tries
from backout.web.stream import Stream
from backout.web.templates import make_templates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from backout.model.login import Login
    from backout.web.sessions import Proxy
    from backout.wiring.serve import Site

STATIC: Final = Path(__file__).parent / "static"


def make_app(
    site: Site,
    hosts: Collection[str],
    *,
    secure: bool = False,
    proxy: Proxy | None = None,
    hooks: HookSecrets | None = None,
    check_oidc: Callable[[str], Login | None] | None = None,
) -> ASGIApp:
    """Return the application; while it is served it reads and draws what people look at.

    Args:
        hosts: what the Host header may be.
        secure: whether people reach it by https.
        proxy: the one in front whose word counts.
        hooks: the secrets of those who may send webhooks.
        check_oidc: returns the login of a pipeline's job by its token, None: none that counts; None: no job has one.
    """
    sessions = Sessions(site.logins, secure=secure, proxy=proxy, check_oidc=check_oidc)
    templates = make_templates(site)
    pages = Pages(site, sessions, templates)
    forms = Forms(site, sessions, pages, Tries())
    stream = Stream(site, sessions, pages)
    api = Api(site, pages, stream)

    def answer_alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes = [
        Route("/", pages.environments),
        Route("/login", forms.show_login, methods=["GET"]),
        Route("/login", forms.login, methods=["POST"]),
        Route("/logout", forms.logout, methods=["POST"]),
        Route("/env/{environment}", pages.environment),
        Route("/env/{environment}/hold", pages.hold),
        Route("/env/{environment}/requests", forms.make_request, methods=["POST"]),
        Route("/env/{environment}/requests/{number}", pages.request),
        Route("/env/{environment}/run/{run}", pages.run),
        Route("/env/{environment}/run/{run}/picture.svg", pages.picture),
        Route("/env/{environment}/run/{run}/ask", forms.ask, methods=["POST"]),
        Route("/env/{environment}/incident/{incident}", pages.incident),
        Route("/env/{environment}/incident/{incident}/remarks", forms.add_remark, methods=["POST"]),
        Route("/stream/{place:path}", stream.answer),
        *api.routes,
        *Hooks(site, hooks or HookSecrets()).routes,
        Route("/healthz", answer_alive),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]

    @asynccontextmanager
    async def keep_drawing(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(stream.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    app = Starlette(routes=routes, exception_handlers=pages.handlers, lifespan=keep_drawing)
    return Guarded(app, hosts, secure=secure)
