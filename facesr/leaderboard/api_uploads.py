"""The part of the API that takes archives in pieces: announce, ask how far it is, send the next piece, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from facesr.leaderboard import pieces
from facesr.leaderboard.access import Viewer
from facesr.leaderboard.api import TOKEN_NEEDED, Name, Sending, This, json_body, submission_shape, team_viewer
from facesr.leaderboard.api_changes import Body
from facesr.leaderboard.board import Board, board_of
from facesr.leaderboard.faults import BoardError
from facesr.leaderboard.scores import visible
from facesr.leaderboard.shapes import UploadShape, problems
from facesr.leaderboard.tables import Upload
from facesr.leaderboard.uploads import expected_digest, known_code
from facesr.web.security import Refusal

router = APIRouter(prefix="/api/v1")
PIECE_TYPE = "application/offset+octet-stream"
_MAX_BYTES = 1 << 53

Code = Annotated[str, InPath(pattern="^[A-Za-z0-9_-]{1,64}$", description="code of the upload")]
_OFFSET: dict[str, Any] = {
    "name": "Upload-Offset",
    "in": "header",
    "required": True,
    "description": "where the bytes belong",
    "schema": {"type": "integer", "minimum": 0},
}


@router.post(
    "/phases/{name}/uploads",
    status_code=201,
    openapi_extra={
        **TOKEN_NEEDED,
        **json_body(
            {
                "type": "object",
                "required": ["sha256", "num_bytes"],
                "properties": {
                    "sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
                    "num_bytes": {"type": "integer", "minimum": 1},
                },
            }
        ),
    },
    responses={200: {"model": UploadShape}, **problems(400, 401, 404, 409, 413, 503)},
)
def announce(board: This, viewer: Sending, name: Name, body: Body, response: Response) -> UploadShape:
    """Announces an archive that comes in pieces. The same one again goes on where it is: 200 instead of 201.

    Of an archive that the board has already, the answer holds the submission.
    """
    shape, is_new = announced(board, viewer, name, body)
    response.status_code = 201 if is_new else 200
    if shape.submission is None:
        response.headers["location"] = f"/api/v1/uploads/{shape.code}"
    return shape


def announced(board: Board, viewer: Viewer, name: str, body: Any) -> tuple[UploadShape, bool]:
    """Returns how far an announced archive is, and whether it is new.

    Args:
        board: the board.
        viewer: of the team.
        name: of the phase.
        body: JSON of the request.

    Raises:
        FaceSRError: the body says something else than sha256 and size; or see `facesr.leaderboard.pieces.announce`.
    """
    phase = board.phase(name)
    sha256, num_bytes = (body.get(key) for key in ("sha256", "num_bytes")) if isinstance(body, dict) else (None, None)
    is_number = isinstance(num_bytes, int) and not isinstance(num_bytes, bool) and 0 <= num_bytes < _MAX_BYTES
    if not isinstance(sha256, str) or not is_number:
        raise BoardError('the body has to be {"sha256": 64 HEXADECIMAL DIGITS, "num_bytes": NUMBER}.')
    digest = expected_digest(sha256)
    assert digest is not None and isinstance(num_bytes, int)
    known = known_code(board, viewer, phase, digest)
    if known is not None:
        with board.database.read() as session:
            return _done(board, session, viewer, known, num_bytes), False
    upload, is_new = pieces.announce(board, viewer, phase, digest, num_bytes)
    return _shape(upload), is_new


@router.api_route(
    "/uploads/{code}",
    methods=["GET"],
    openapi_extra=TOKEN_NEEDED,
    responses=problems(401, 404),
)
@router.head("/uploads/{code}", include_in_schema=False)
def upload(board: This, viewer: Sending, code: Code, response: Response) -> UploadShape:
    """An unfinished upload of the team's; the header Upload-Offset says where it goes on."""
    with board.database.read() as session:
        found = pieces.upload_of(board.database, session, code, viewer)
    response.headers["upload-offset"] = str(found.num_received)
    response.headers["upload-length"] = str(found.num_bytes)
    return _shape(found)


@router.patch(
    "/uploads/{code}",
    openapi_extra={
        **TOKEN_NEEDED,
        "parameters": [_OFFSET],
        "requestBody": {
            "required": True,
            "content": {PIECE_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
    response_model=UploadShape,
    responses=problems(400, 401, 404, 408, 409, 413, 415, 503),
)
async def append(request: Request, code: Code) -> Response:
    """Sends the next piece, from Upload-Offset on; with the last one the archive is made a submission.

    A piece has 64 KiB to 16 MiB, the last one may have less, even nothing: so an upload is finished that was complete
    when a limit was reached.
    """
    viewer = await run_in_threadpool(team_viewer, request)
    return await appended(request, board_of(request), viewer, code)


async def appended(request: Request, board: Board, viewer: Viewer, code: str) -> Response:
    """Returns the answer to a piece, the request's body.

    Raises:
        FaceSRError: it is no piece; or see `facesr.leaderboard.pieces`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PIECE_TYPE:
        raise Refusal(415, "bad_type", f"send a piece as the body, with Content-Type: {PIECE_TYPE}.")
    given = request.headers.get("upload-offset", "")
    if not (given.isascii() and given.isdigit() and len(given) <= 16):
        raise Refusal(400, "bad_offset", "Upload-Offset has to be the number of bytes that the board has.")
    found = await pieces.append(board, viewer, code, int(given), request.stream())
    shape = await run_in_threadpool(_after, board, viewer, found)
    headers = {"upload-offset": str(shape.offset), "upload-length": str(shape.num_bytes)}
    return Response(shape.model_dump_json(), 200, headers, media_type="application/json")


def _after(board: Board, viewer: Viewer, upload: Upload) -> UploadShape:
    if upload.num_received < upload.num_bytes:
        return _shape(upload)
    receipt = pieces.finish(board, viewer, board.phase(upload.phase), upload)
    with board.database.read() as session:
        return _done(board, session, viewer, receipt.code, upload.num_bytes, upload.code)


@router.delete("/uploads/{code}", status_code=204, openapi_extra=TOKEN_NEEDED, responses=problems(401, 404))
def delete(board: This, viewer: Sending, code: Code) -> None:
    """Gives an unfinished upload up."""
    with board.database.read() as session:
        found = pieces.upload_of(board.database, session, code, viewer)
    pieces.delete(board, found)


def _shape(upload: Upload) -> UploadShape:
    return UploadShape(
        code=upload.code,
        num_bytes=upload.num_bytes,
        offset=upload.num_received,
        max_piece_bytes=pieces.MAX_PIECE_BYTES,
        expires=upload.expires,
        submission=None,
    )


def _done(board: Board, session: Session, viewer: Viewer, code: str, num_bytes: int, upload: str = "") -> UploadShape:
    return UploadShape(
        code=upload,
        num_bytes=num_bytes,
        offset=num_bytes,
        max_piece_bytes=pieces.MAX_PIECE_BYTES,
        expires=None,
        submission=submission_shape(board, session, viewer, *visible(session, code, viewer)),
    )
