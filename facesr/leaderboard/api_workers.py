"""The part of the API for workers elsewhere: claim a job, keep it, fetch archive and references, report.

It needs a token of the scope ``worker``, which opens nothing else, and TLS.
"""

import hashlib
import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from facesr.leaderboard import chain, queue, reports, teams
from facesr.leaderboard.api import TOKEN_NEEDED, Code, Name, This, bearer, is_change, json_body
from facesr.leaderboard.api_changes import Body
from facesr.leaderboard.board import Board, board_of
from facesr.leaderboard.desk import LocalDesk
from facesr.leaderboard.faults import BoardError, LeaseLost, NotAllowed, NotFound
from facesr.leaderboard.queue import Job
from facesr.leaderboard.reports import BadReport, FailedReport, RefusedReport
from facesr.leaderboard.shapes import ClaimShape, JobShape, KeptShape, WantedListShape, WantedShape, problems
from facesr.leaderboard.tables import Event
from facesr.names import one_line
from facesr.web.security import Refusal, Visit, visit_of
from facesr.web.strict import Strict

router = APIRouter(prefix="/api/v1/worker")
LEASE = "Facesr-Lease"
# A machine may run a few processes with one token; more would let one of them empty the queue.
MAX_HELD = 8
HANDED_OUT = "references handed out"
_LEASE = re.compile(r"[0-9a-f]{64}")
_NEEDED: dict[str, Any] = {
    **TOKEN_NEEDED,
    "parameters": [
        {
            "name": LEASE,
            "in": "header",
            "required": True,
            "description": "the lease of the job, as the claim gave it",
            "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        }
    ],
}


class Claim(Strict):
    """What a worker sends to get a job.

    Attributes:
        nonce: a random number of the worker's; the same one again gives the same job again.
        rounds: phase -> round in which it would score it.
    """

    nonce: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    rounds: Annotated[dict[str, Annotated[int, Field(ge=1, le=2**31 - 1)]], Field(min_length=1, max_length=20)]


def desk_of(request: Request) -> LocalDesk:
    """Returns the desk of the worker that asks, under the name that its token has.

    Raises:
        Refusal: the line is not encrypted.
        NotAllowed: the token is missing, or none of a worker.
    """
    board, visit = board_of(request), visit_of(request.scope)
    if not (visit.is_https or _is_here(visit)):
        sentence = "workers need https here; have the token revoked, it was sent in the clear."
        raise Refusal(403, "not_encrypted", sentence)
    token = bearer(request)
    if token is None:
        raise NotAllowed("this needs a worker's token as Authorization: Bearer TOKEN.")
    viewer = board.door.by_token(token, visit.client, (teams.WORKER,), changes=is_change(request))
    return LocalDesk(board.place, board.database, viewer.name)


def _is_here(visit: Visit) -> bool:
    return visit.client.startswith("127.") or visit.client == "::/64"


Asking = Annotated[LocalDesk, Depends(desk_of)]


def lease_of(request: Request) -> str:
    """Returns the lease that a request brings along.

    Raises:
        LeaseLost: it is none.
    """
    lease = request.headers.get(LEASE, "")
    if not _LEASE.fullmatch(lease):
        raise LeaseLost("this needs the lease of the job; claim one.")
    return lease


Lease = Annotated[str, Depends(lease_of)]


@router.get("/phases", openapi_extra=TOKEN_NEEDED, responses=problems(401, 403))
def phases(board: This, desk: Asking) -> WantedListShape:
    """The phases that have waiting submissions, and how they are scored."""
    names = [phase.name for phase in desk.waiting()]
    with board.database.read() as session:
        return WantedListShape(worker=desk.name, phases=[_wanted(board, session, name) for name in names])


def _wanted(board: Board, session: Session, name: str) -> WantedShape:
    phase, this = board.phase(name), queue.current_round(session, name)
    references = board.references.of(phase)
    return WantedShape(
        name=name,
        protocol=phase.protocol,
        ranking_judge=phase.ranking_judge,
        held_out_judges=phase.held_out_judges,
        round=None if this is None else this.id,
        basis_sha256=None if this is None else this.basis_sha256,
        references_sha256=references.sha256,
        references_bytes=references.num_bytes,
    )


@router.get("/references/{name}", openapi_extra=TOKEN_NEEDED, response_model=None, responses=problems(401, 403, 404))
def references(board: This, desk: Asking, name: Name) -> Response:
    """The originals and low-resolution pictures of a phase as a ZIP file; the log has a line for each worker."""
    found = board.references.of(board.phase(name))
    data = {"phase": name, "sha256": found.sha256}
    with board.database.write() as session:
        actor = f"worker {desk.name}"
        told = session.scalars(select(Event.data).where(Event.kind == HANDED_OUT, Event.actor == actor))
        if data not in map(json.loads, told):
            chain.append(board.database, session, actor, HANDED_OUT, data)
    return FileResponse(found.path, media_type="application/zip")


@router.post(
    "/claims",
    openapi_extra={
        **TOKEN_NEEDED,
        **json_body(Claim.model_json_schema()),
    },
    responses=problems(400, 401, 403),
)
def claim(request: Request, desk: Asking, body: Body) -> ClaimShape:
    """Leases the next job of phases to the worker. The same nonce again gives the same job while it is held."""
    try:
        wanted = Claim.model_validate(body)
    except ValidationError as error:
        raise BoardError('the body has to be {"nonce": 32 HEXADECIMAL DIGITS, "rounds": {PHASE: ROUND}}.') from error
    # Of the token as well: no other worker can come to this lease by the nonce.
    lease = hashlib.sha256(f"{bearer(request)} {wanted.nonce}".encode()).hexdigest()
    job = desk.claim(wanted.rounds, lease, MAX_HELD)
    return ClaimShape(job=None if job is None else _shape(job))


def _shape(job: Job) -> JobShape:
    return JobShape(
        code=job.code,
        phase=job.phase,
        archive_sha256=job.archive_sha256,
        num_bytes=job.num_bytes,
        lease=job.lease,
        attempt=job.attempt,
        team=job.team,
        examples=list(job.examples),
        lease_seconds=job.lease_seconds,
    )


@router.post("/jobs/{code}/lease", openapi_extra=_NEEDED, responses=problems(401, 403, 409))
def prolong(board: This, desk: Asking, lease: Lease, code: Code) -> KeptShape:
    """Has the lease of a job begin anew."""
    if not desk.prolong(_held(board, lease, code)):
        raise _lost()
    return KeptShape(kept=True)


@router.get("/jobs/{code}/archive", openapi_extra=_NEEDED, response_model=None, responses=problems(401, 403, 404, 409))
def archive(board: This, desk: Asking, lease: Lease, code: Code) -> Response:
    """The archive of a job that the worker holds."""
    path = board.store.path(_held(board, lease, code).archive_sha256)
    if not path.is_file():
        raise NotFound("the archive is not there.")
    return FileResponse(path, media_type="application/zip")


def _held(board: Board, lease: str, code: str) -> Job:
    with board.database.read() as session:
        job = queue.held(session, lease, code)
    if job is None:
        raise _lost()
    return job


def _lost() -> LeaseLost:
    return LeaseLost("this job is not held by this lease any more; claim another one.")


@router.post(
    "/jobs/{code}/report",
    openapi_extra={
        **_NEEDED,
        **json_body(
            {
                "type": "object",
                "required": ["answer"],
                "properties": {"answer": {"type": "string", "enum": ["scored", "refused", "failed"]}},
            }
        ),
    },
    response_model=KeptShape,
    responses=problems(400, 401, 403, 409, 413),
)
async def report(request: Request, code: Code) -> Response:
    """Says what came of a job: scores, a refusal or a failure. The same report again is answered as the first was.

    A report that is not as it has to be is a failed attempt.
    """
    # The token first: nobody else has so much read.
    desk = await run_in_threadpool(desk_of, request)
    lease, body = lease_of(request), await request.body()
    await run_in_threadpool(_take, board_of(request), desk, lease, code, body)
    return Response(KeptShape(kept=True).model_dump_json(), media_type="application/json")


def _take(board: Board, desk: LocalDesk, lease: str, code: str, body: bytes) -> None:
    with board.database.read() as session:
        job = queue.held(session, lease, code)
    try:
        if not (_was_kept(board, desk, code, body) if job is None else _keep(board, desk, job, body)):
            raise _lost()
    except BadReport as error:
        if job is not None:
            desk.failed(job, f"worker {desk.name}: {error}")
        raise


def _was_kept(board: Board, desk: LocalDesk, code: str, body: bytes) -> bool:
    found = reports.parsed(body)
    with board.database.read() as session:
        return reports.was_kept(session, code, desk.name, found)


def _keep(board: Board, desk: LocalDesk, job: Job, body: bytes) -> bool:
    found = reports.parsed(body)
    if isinstance(found, FailedReport):
        return desk.failed(job, one_line(found.reason))
    if isinstance(found, RefusedReport):
        return desk.refused(job, one_line(found.sentence))
    phase = board.phase(job.phase)
    with board.database.read() as session:
        job = desk.with_examples(session, job)
        checked = reports.checked(session, job, found, board.place.high(phase))
    return desk.scored(job, found.round, checked.outcome, checked.pictures)
