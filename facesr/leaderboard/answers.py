"""How answers are made: pages in the board's frame, kept pages, and refusals for people and for programs."""

import hashlib
import secrets
from collections.abc import Callable, Hashable

from fastapi import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Scope

from facesr.leaderboard.access import NOBODY, Viewer
from facesr.leaderboard.board import Asked, Board
from facesr.leaderboard.static import ICON, SCRIPT, STYLE
from facesr.web.forms import set_cookie
from facesr.web.page import render
from facesr.web.security import Refusal
from facesr.web.sessions import MAX_AGE_SECONDS

# Where the script of a team's page sends the pieces of an archive.
TEAM_PIECES = "/team/pieces/"
_TITLES = {400: "Not understood", 401: "Sign in", 403: "Refused", 404: "Not found", 409: "Not now", 413: "Too large"}
_MAX_VISITOR_SECONDS = 24 * 3600


def page_text(board: Board, viewer: Viewer, template: str, title: str, **data: object) -> str:
    """Returns a page of facesr/web/templates/board/ in the board's frame."""
    return render(
        f"board/{template}",
        title=title,
        competition=board.competition.title,
        viewer=viewer,
        style=STYLE.address,
        script=SCRIPT.address,
        icon=ICON.address,
        **data,
    )


def page(asked: Asked, template: str, title: str, *, status: int = 200, **data: object) -> HTMLResponse:
    """Returns an answer that nobody keeps: a page for somebody who is signed in, or with a form."""
    return HTMLResponse(page_text(asked.board, asked.viewer, template, title, **data), status)


def kept(
    asked: Asked, request: Request, mark: Hashable, make: Callable[[], str | bytes], kind: str = "text/html"
) -> Response:
    """Returns a page that is made once for all who may see the same of it.

    Args:
        asked: who asks; what was made for one scope is not shown to another.
        request: its If-None-Match saves sending what the client has.
        mark: all that the page is made of beside its path, with the checked values of the query that it takes.
        make: makes the page.
        kind: its type.
    """
    # Questions that a page does not ask change nothing, so they are no way to have it made anew.
    key = (asked.path, asked.viewer.scope, mark)
    name = f'"{hash_of(key)}"'
    headers = {"vary": "Cookie", "cache-control": "no-store" if asked.viewer.scope else "no-cache"}
    if not asked.viewer.scope:
        headers["etag"] = name
        if name in request.headers.get("if-none-match", "").replace("W/", "").replace(" ", "").split(","):
            return Response(status_code=304, headers=headers)

    def in_bytes() -> bytes:
        made = make()
        return made if isinstance(made, bytes) else made.encode()

    found = asked.board.rendered.made(key, in_bytes)
    return Response(found, headers=headers, media_type=kind)


def hash_of(key: Hashable) -> str:
    """Returns a short digest of a key that is the same in every process of this version."""
    return hashlib.sha256(f"{STYLE.name}{key!r}".encode()).hexdigest()[:32]


def see_other(address: str) -> RedirectResponse:
    """Returns the answer to a form that was dealt with; `address` is always one of the board's own."""
    return RedirectResponse(address, 303)


def with_visitor(asked: Asked, make: Callable[[Asked], Response]) -> Response:
    """Returns a page with a form for who is not signed in: a cookie ties the form to this browser."""
    if asked.cookie:
        return make(asked)
    cookie = secrets.token_hex(16)
    response = make(Asked(asked.board, asked.viewer, asked.visit, cookie, asked.path))
    set_cookie(asked.visit, response, "visitor", cookie, _MAX_VISITOR_SECONDS)
    return response


def set_session(asked: Asked, response: Response, cookie: str) -> None:
    """Signs in; with "" signs out."""
    set_cookie(asked.visit, response, "session", cookie, MAX_AGE_SECONDS if cookie else 0)


def is_for_programs(path: str) -> bool:
    """Returns whether an address is answered with JSON."""
    return path.startswith(("/api/", TEAM_PIECES))


def refused(board: Board, scope: Scope, refusal: Refusal) -> Response:
    """Returns a refusal as a page, or as JSON where a program asks."""
    headers = {} if refusal.retry_after is None else {"retry-after": str(max(1, int(refusal.retry_after)))}
    if is_for_programs(scope["path"]):
        if refusal.status == 401 and not scope["path"].startswith(TEAM_PIECES):
            headers["www-authenticate"] = "Bearer"
        body: dict[str, object] = {"error": str(refusal), "kind": refusal.kind}
        if refusal.retry_after is not None:
            body["retry_after"] = max(1, int(refusal.retry_after))
        return JSONResponse(body, refusal.status, headers)
    title = _TITLES.get(refusal.status, "Not possible")
    text = page_text(board, NOBODY, "problem.html", title, sentence=str(refusal), status=refusal.status)
    return HTMLResponse(text, refusal.status, headers)
