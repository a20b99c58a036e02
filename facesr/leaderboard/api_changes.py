"""The part of the API that changes something: sending archives, withdrawing, choosing, registering."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from facesr.leaderboard import entries, teams
from facesr.leaderboard.access import Viewer, team_of
from facesr.leaderboard.api import TOKEN_NEEDED, Code, Name, Sending, This, json_body, submission_shape, team_viewer
from facesr.leaderboard.board import Board, board_of
from facesr.leaderboard.faults import BoardError, NotAllowed, OverLimit
from facesr.leaderboard.scores import visible
from facesr.leaderboard.shapes import RegistrationShape, SubmissionShape, problems
from facesr.leaderboard.uploads import expected_digest, known_code, receive_archive, require_may_send
from facesr.web.security import Refusal, visit_of

router = APIRouter(prefix="/api/v1")
_ARCHIVES = ("application/zip", "application/octet-stream", "application/x-zip-compressed")


async def json_of(request: Request) -> Any:
    """Returns the JSON of a body, None where there is none.

    Raises:
        BoardError: it is no JSON.
    """
    body = await request.body()
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BoardError("the body is no JSON.") from error


Body = Annotated[Any, Depends(json_of)]
_ARCHIVE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {
            "name": "X-Content-SHA256",
            "in": "header",
            "required": False,
            "description": "sha256 of the archive; what comes is compared with it",
            "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
        }
    ],
    "security": [{"token": []}],
}


@router.post(
    "/phases/{name}/submissions",
    status_code=201,
    openapi_extra=_ARCHIVE_BODY,
    response_model=SubmissionShape,
    responses={200: {"model": SubmissionShape}, **problems(400, 401, 404, 408, 409, 413, 415, 503)},
)
async def send(request: Request, name: Name) -> Response:
    """Sends an archive as the body. The same archive again is the same submission: 200 instead of 201."""
    board = board_of(request)
    viewer = await run_in_threadpool(team_viewer, request)
    phase = board.phase(name)
    digest = expected_digest(request.headers.get("x-content-sha256"))
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _ARCHIVES:
        raise Refusal(415, "bad_type", "send the archive as the body, with Content-Type: application/zip.")
    known = None if digest is None else await run_in_threadpool(known_code, board, viewer, phase, digest)
    if known is not None:
        # Read, so that a client that sends before it listens gets the answer; Guard bounds how much.
        async for _ in request.stream():
            pass
        return await run_in_threadpool(_sent, board, viewer, known, 200)
    length = int(request.headers.get("content-length", "1"))
    await run_in_threadpool(_require_may_send, board, viewer, name, length)
    receipt = await receive_archive(board, viewer, phase, request.stream(), digest)
    return await run_in_threadpool(_sent, board, viewer, receipt.code, 201 if receipt.is_new else 200)


def _require_may_send(board: Board, viewer: Viewer, name: str, num_bytes: int) -> None:
    phase = board.phase(name)
    try:
        require_may_send(board, viewer, phase, num_bytes)
    except OverLimit as error:
        with board.database.read() as session:
            left = entries.allowance(board.database, session, team_of(session, viewer), phase)
            seconds = (left.resets - board.database.now(session)).total_seconds()
        is_day = min(left.scored_left, left.refused_left) == 0
        # In all: waiting does not help. Those that wait: one of them will be scored soon.
        retry = None if left.in_all_left == 0 else seconds if is_day else 30.0
        raise Refusal(error.status, error.kind, str(error), retry) from error


def _sent(board: Board, viewer: Viewer, code: str, status: int) -> Response:
    with board.database.read() as session:
        shape = submission_shape(board, session, viewer, *visible(session, code, viewer))
    headers = {"location": f"/api/v1/submissions/{code}"}
    return Response(shape.model_dump_json(), status, headers, media_type="application/json")


@router.delete("/submissions/{code}", openapi_extra=TOKEN_NEEDED, responses=problems(401, 404, 409))
def withdraw(board: This, viewer: Sending, code: Code) -> SubmissionShape:
    """Withdraws a submission of the team's."""
    with board.database.write() as session:
        team = team_of(session, viewer)
        row = entries.submission_of(session, code, team)
        entries.withdraw(board.database, session, row, f"team {team.name}")
        return submission_shape(board, session, viewer, row, team)


@router.put(
    "/submissions/{code}/chosen",
    openapi_extra={
        **TOKEN_NEEDED,
        "requestBody": {"content": {"application/json": {"schema": {"type": "boolean"}}}},
    },
    responses=problems(400, 401, 404, 409),
)
def choose(board: This, viewer: Sending, code: Code, body: Body) -> SubmissionShape:
    """Chooses a submission as final (body `true`, or none), or takes that back (`false`)."""
    if body not in (None, True, False):
        raise BoardError("the body has to be true or false.")
    with board.database.write() as session:
        team = team_of(session, viewer)
        row = entries.submission_of(session, code, team)
        entries.choose(board.database, session, row, board.phase(row.phase), chosen=body is not False)
        return submission_shape(board, session, viewer, row, team)


@router.post(
    "/teams",
    status_code=201,
    openapi_extra=json_body(
        {
            "type": "object",
            "required": ["code", "team"],
            "properties": {
                "code": {"type": "string"},
                "team": {"type": "string"},
                "members": {"type": "array", "items": {"type": "string"}},
            },
        }
    ),
    responses=problems(400, 401, 409),
)
def register(request: Request, board: This, body: Body) -> RegistrationShape:
    """Registers a team by an invitation code; the token is shown this once."""
    client = visit_of(request.scope).client
    board.door.require_calm(client)
    code, name, members = (
        (body.get(key) for key in ("code", "team", "members")) if isinstance(body, dict) else [None] * 3
    )
    listed = [] if members is None else members
    is_list = isinstance(listed, list) and all(isinstance(member, str) for member in listed)
    if not isinstance(code, str) or not isinstance(name, str) or not is_list:
        raise BoardError('the body has to be {"code": TEXT, "team": TEXT, "members": [TEXT, ...]}.')
    try:
        with board.database.write() as session:
            team, token = teams.register(board.database, session, code.strip(), name, listed)
            return RegistrationShape(team=team.name, token=token)
    except NotAllowed:
        board.door.failed(client)
        raise
