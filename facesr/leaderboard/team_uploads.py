"""How archives come from a team's page: by its form in one request, by its script in pieces.

The script may send pieces only with the token of the form, in a header that no page of another site can set. The API
knows no sessions, so nothing that a browser brings along by itself opens it; here no token for programs is known.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from facesr.leaderboard import pieces
from facesr.leaderboard.answers import TEAM_PIECES, see_other
from facesr.leaderboard.api import Name
from facesr.leaderboard.api_changes import Body
from facesr.leaderboard.api_uploads import Code, announced, appended
from facesr.leaderboard.board import Asked, AskedNow, asked, checked, require_form_token
from facesr.leaderboard.faults import NotAllowed
from facesr.leaderboard.shapes import UploadShape
from facesr.leaderboard.uploads import archive_of_form, receive_archive, require_may_send

router = APIRouter(include_in_schema=False)
_FORM = "upload"


def _require_team(found: Asked) -> None:
    if found.viewer.team_id is None:
        raise NotAllowed("you are not signed in as a team any more; sign in with your team's token.")


def _sender(request: Request) -> Asked:
    """Returns the team whose page sends a request.

    Raises:
        NotAllowed: it is none, or its session is over.
        Refusal: the token of the form is missing, or of another session.
    """
    found = asked(request)
    _require_team(found)
    require_form_token(found, request, _FORM, request.headers.get("x-form-token", ""))
    return found


@router.post("/team/upload/{name}")
async def upload(request: Request, name: Annotated[str, Path(max_length=64)]) -> Response:
    """Takes an archive from a form."""
    found = await run_in_threadpool(asked, request)
    _require_team(found)
    board = found.board
    phase = board.phase(name)
    await run_in_threadpool(require_may_send, board, found.viewer, phase)

    def check(fields: dict[str, str]) -> None:
        require_form_token(found, request, _FORM, fields.get("form_token", ""))

    receipt = await receive_archive(board, found.viewer, phase, archive_of_form(request, check))
    return see_other(f"/team?sent={receipt.code}")


@router.post(TEAM_PIECES + "{name}")
def announce(sender: Annotated[Asked, Depends(_sender)], name: Name, body: Body) -> UploadShape:
    """Announces an archive that comes in pieces, or asks how far it is."""
    return announced(sender.board, sender.viewer, name, body)[0]


@router.patch(TEAM_PIECES + "{code}")
async def append(request: Request, code: Code) -> Response:
    """Takes the next piece."""
    sender = await run_in_threadpool(_sender, request)
    return await appended(request, sender.board, sender.viewer, code)


@router.post("/team/giveup")
def give_up(found: AskedNow, fields: Annotated[dict[str, str], Depends(checked("giveup"))]) -> Response:
    """Removes an unfinished upload of the team."""
    _require_team(found)
    board = found.board
    with board.database.read() as session:
        given_up = pieces.upload_of(board.database, session, fields.get("code", "")[:64], found.viewer)
    pieces.delete(board, given_up)
    return see_other("/team")


def is_upload(path: str) -> bool:
    """Returns whether an address takes whole archives from browsers."""
    return path.startswith("/team/upload/")
