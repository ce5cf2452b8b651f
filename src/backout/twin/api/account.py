"""Who am I: the user, the token, the one account and its membership."""

from __future__ import annotations

from aiohttp import web

from backout.twin.api.answers import ApiError, make_page_info, render_result
from backout.twin.api.context import ACCOUNT_NAME, USER_EMAIL, USER_ID, get_context

TOKEN_EXPIRES = "2099-12-31T00:00:00Z"  # noqa: S105 - a time
TOKEN_PERMISSIONS = (
    *("Workers Scripts Write", "Workers R2 Storage Write", "Workers Tail Read", "Workers Routes Read"),
    *("Workers Observability Write", "Account Analytics Read", "Workers Containers Read", "Workers CI Read"),
    *("D1 Write", "API Tokens Read"),
)


def make_routes(base: str) -> list[web.RouteDef]:
    """Return the routes under the API's root."""
    return [
        web.get(base + "/user", get_user),
        web.get(base + "/user/tokens/verify", verify_token),
        web.get(base + "/user/tokens/{token}", get_token),
        web.get(base + "/accounts", list_accounts),
        web.get(base + "/accounts/{account}", get_account),
        web.get(base + "/accounts/{account}/tokens/verify", verify_token),
        web.get(base + "/memberships", list_memberships),
    ]


async def get_user(_request: web.Request) -> web.Response:
    """Show the user."""
    return render_result({"id": USER_ID, "email": USER_EMAIL, "first_name": None, "last_name": None})


async def verify_token(_request: web.Request) -> web.Response:
    """Confirm the token, which the middleware has checked."""
    return render_result({"id": USER_ID[::-1], "status": "active", "expires_on": TOKEN_EXPIRES})


async def get_token(request: web.Request) -> web.Response:
    """Show what the token may do: all that the twin has.

    Raises:
        ApiError: 404 for another token.
    """
    if request.match_info["token"] != USER_ID[::-1]:
        raise ApiError(404, 1003, "Token not found")
    groups = [{"id": USER_ID, "name": name} for name in TOKEN_PERMISSIONS]
    policy = {"id": USER_ID, "effect": "allow", "permission_groups": groups, "resources": {}}
    return render_result({"id": USER_ID[::-1], "status": "active", "expires_on": TOKEN_EXPIRES, "policies": [policy]})


async def list_accounts(request: web.Request) -> web.Response:
    """List the one account."""
    return render_result([_get_account(request)], info=make_page_info(1, 1))


async def get_account(request: web.Request) -> web.Response:
    """Show the one account."""
    return render_result(_get_account(request))


async def list_memberships(request: web.Request) -> web.Response:
    """List the one membership."""
    membership = {"id": USER_ID, "status": "accepted", "roles": ["Administrator"], "account": _get_account(request)}
    return render_result([membership], info=make_page_info(1, 1))


def _get_account(request: web.Request) -> dict[str, object]:
    return {"id": get_context(request).account_id, "name": ACCOUNT_NAME, "type": "standard"}
