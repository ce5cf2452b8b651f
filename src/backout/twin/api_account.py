"""Who am I: the user, the token, the one account and its membership."""

from __future__ import annotations

from aiohttp import web

from backout.twin.answers import ok, page_info
from backout.twin.api_context import ACCOUNT_NAME, USER_EMAIL, USER_ID, context


def routes(base: str) -> list[web.RouteDef]:
    """Return the routes under the API's root."""
    return [
        web.get(base + "/user", get_user),
        web.get(base + "/user/tokens/verify", verify_token),
        web.get(base + "/accounts", list_accounts),
        web.get(base + "/accounts/{account}", get_account),
        web.get(base + "/accounts/{account}/tokens/verify", verify_token),
        web.get(base + "/memberships", list_memberships),
    ]


async def get_user(_request: web.Request) -> web.Response:
    """Show the user."""
    return ok({"id": USER_ID, "email": USER_EMAIL, "first_name": None, "last_name": None})


async def verify_token(_request: web.Request) -> web.Response:
    """Confirm the token, which the middleware has checked."""
    return ok({"id": USER_ID[::-1], "status": "active"})


async def list_accounts(request: web.Request) -> web.Response:
    """List the one account."""
    return ok([_account(request)], info=page_info(1, 1))


async def get_account(request: web.Request) -> web.Response:
    """Show the one account."""
    return ok(_account(request))


async def list_memberships(request: web.Request) -> web.Response:
    """List the one membership."""
    membership = {"id": USER_ID, "status": "accepted", "roles": ["Administrator"], "account": _account(request)}
    return ok([membership], info=page_info(1, 1))


def _account(request: web.Request) -> dict[str, object]:
    return {"id": context(request).account_id, "name": ACCOUNT_NAME, "type": "standard"}
