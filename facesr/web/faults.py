"""What goes wrong inside a site, answered in one sentence for the visitor."""

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from facesr.errors import FaceSRError
from facesr.web.security import Refusal
from facesr.web.store import TooLarge

_log = logging.getLogger("facesr.web")
_WORDS = {
    404: ("not_found", "there is no such page."),
    405: ("bad_method", "this address does not take this method."),
}


def add_faults(
    app: FastAPI,
    answer: Callable[[Scope, Refusal], Response],
    refusal_of: Callable[[FaceSRError], Refusal | None] = lambda error: None,
) -> None:
    """Has every exception that is somebody's mistake answered in one sentence.

    Args:
        app: the site.
        answer: makes a refusal into a page, or into what programs read.
        refusal_of: the refusal for an error of the site's own, None for any other.
    """

    @app.exception_handler(FaceSRError)
    async def fault(request: Request, error: FaceSRError) -> Response:
        return answer(request.scope, refusal_of(error) or _refusal_of(error))

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:
        kind, sentence = _WORDS.get(error.status_code, ("bad_request", "this request is not understood."))
        response = answer(request.scope, Refusal(error.status_code, kind, sentence))
        for key, value in (error.headers or {}).items():
            response.headers[key] = value
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return answer(request.scope, Refusal(404, "not_found", "there is no such page."))
        sentence = f"{'.'.join(str(part) for part in first['loc'][1:])[:60]} has a value that is not taken here."
        return answer(request.scope, Refusal(400, "bad_request", sentence))

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeoutError)
    async def away(request: Request, error: Exception) -> Response:
        return answer(request.scope, database_away(error))


def database_away(error: Exception) -> Refusal:
    """Returns the refusal of what needs a database that does not answer; the log says why."""
    _log.error("the database failed: %s", getattr(error, "orig", error))
    return Refusal(503, "fault", "the database cannot be reached now; try again in a minute.", 60)


def _refusal_of(error: FaceSRError) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TooLarge):
        return Refusal(413, "too_large", str(error))
    # About the organiser's machine; its paths are not for visitors.
    _log.error("%s", error)
    return Refusal(503, "fault", "something on the organiser's side is not in order; try again later.", 60)
