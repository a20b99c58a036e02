"""The board as a web application: its routes behind `facesr.web.security.Guard`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from facesr.errors import FaceSRError
from facesr.leaderboard import (
    api,
    api_changes,
    api_uploads,
    api_workers,
    feeds,
    organiser_pages,
    pages,
    submission_pages,
    team_pages,
    team_report,
    team_uploads,
)
from facesr.leaderboard.answers import TEAM_PIECES, page, refused
from facesr.leaderboard.board import AskedNow, Board
from facesr.leaderboard.competition import Place
from facesr.leaderboard.faults import BoardError
from facesr.leaderboard.pieces import MAX_PIECE_BYTES
from facesr.leaderboard.reports import REPORT_BYTES
from facesr.leaderboard.uploads import FORM_BYTES
from facesr.web.database import Database
from facesr.web.faults import add_faults
from facesr.web.security import SMALL_BODY_BYTES, Guard, Rates, Refusal, log_requests_to_stderr

OPENAPI = "/api/v1/openapi.json"


def create_app(place: Place, database: Database, *, trusted_proxy: bool = False, rates: Rates | None = None) -> FastAPI:
    """Returns the web application of a competition.

    Args:
        place: the competition's folder.
        database: of the board; its tables are up to date. The caller closes it.
        trusted_proxy: whether a proxy before the board says who asks (the last X-Forwarded-For) and how
            (X-Forwarded-Proto).
        rates: how much visitors may ask.

    Raises:
        DataError: the competition's secret is missing.
    """
    limits = rates or Rates()
    board = Board(place, database, limits)
    log_requests_to_stderr()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        board.standings.close()

    app = FastAPI(
        title=place.competition.title,
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.board = board
    for part in (
        pages,
        submission_pages,
        team_report,
        team_pages,
        team_uploads,
        organiser_pages,
        api,
        api_changes,
        api_uploads,
        api_workers,
        feeds,
    ):
        app.include_router(part.router)
    _add_description(app)
    add_faults(app, lambda scope, refusal: refused(board, scope, refusal), _refusal_of)

    def body_limit(scope: Scope) -> int:
        path: str = scope["path"]
        if scope["method"] == "PATCH" and path.startswith(("/api/v1/uploads/", TEAM_PIECES)):
            return MAX_PIECE_BYTES
        if scope["method"] != "POST":
            return SMALL_BODY_BYTES
        if path.startswith("/api/v1/worker/jobs/") and path.endswith("/report"):
            return REPORT_BYTES
        if team_uploads.is_upload(path):
            return board.max_archive_bytes + FORM_BYTES
        is_sent = path.startswith("/api/v1/phases/") and path.endswith("/submissions")
        return board.max_archive_bytes if is_sent else SMALL_BODY_BYTES

    app.add_middleware(
        Guard,
        answer=lambda scope, refusal: refused(board, scope, refusal),
        body_limit=body_limit,
        metrics=board.metrics,
        rates=limits,
        trusted_proxy=trusted_proxy,
        shared_changes=board.limits.limit("changes", limits.changes),
    )
    return app


def _add_description(app: FastAPI) -> None:
    """Adds OpenAPI's description, and a page with its operations that loads nothing from elsewhere."""

    def described() -> dict[str, Any]:
        found = app.openapi()
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        refusal = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for operation in (one for methods in found["paths"].values() for one in methods.values()):
            # FastAPI's own answer to wrong values, which `add_faults` replaces.
            operation["responses"].pop("422", None)
            for status in (400, 401, 429, 503):
                operation["responses"].setdefault(str(status), {"description": HTTPStatus(status).phrase, **refusal})
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        return found

    @app.get(OPENAPI, include_in_schema=False)
    def openapi() -> Response:
        return JSONResponse(described())

    @app.api_route("/api", methods=["GET", "HEAD"], include_in_schema=False)
    def operations(asked: AskedNow) -> Response:
        listed = [
            (method.upper(), path, operation.get("summary", ""), operation.get("description", ""))
            for path, methods in described()["paths"].items()
            for method, operation in methods.items()
        ]
        return page(asked, "api.html", "API", operations=listed, openapi=OPENAPI)


def _refusal_of(error: FaceSRError) -> Refusal | None:
    return Refusal(error.status, error.kind, str(error)) if isinstance(error, BoardError) else None
