"""Raters: invited, joined by consent, asked one question after the other, withdrawn at any time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from facesr.opinion.ratings import ANSWERS
from facesr.opinion.study import Study
from facesr.opinion.tables import Answer, Fact, RaterRow
from facesr.web.database import Database
from facesr.web.security import Refusal
from facesr.web.tokens import digest, is_token, new_token

CODE_FACT = "code"


@dataclass(frozen=True)
class Device:
    """How a picture was shown; the attributes are those of `Answer`."""

    pixel_ratio: float = 0.0
    width: int = 0
    height: int = 0
    scale: int = 0
    touch: bool = False


def invite(database: Database, session: Session) -> str:
    """Returns the token of a new personal link, which is shown this once."""
    token = new_token()
    session.add(RaterRow(sha256=digest(token), created=database.now(session)))
    return token


def open_to_all(session: Session) -> str:
    """Returns a new code with which raters register themselves; the code before it is no longer valid."""
    code = new_token()
    close_to_all(session)
    session.flush()
    session.add(Fact(name=CODE_FACT, value=digest(code)))
    return code


def close_to_all(session: Session) -> None:
    """Takes the code away; those who have joined go on."""
    session.execute(delete(Fact).where(Fact.name == CODE_FACT))


def is_code(session: Session, code: str) -> bool:
    """Returns whether raters may register themselves with a code."""
    known = session.get(Fact, CODE_FACT)
    return is_token(code) and known is not None and known.value == digest(code)


def rater_of(session: Session, sha256: str) -> RaterRow | None:
    """Returns the rater whose token has a digest, None where there is none."""
    return session.scalar(select(RaterRow).where(RaterRow.sha256 == sha256))


def place_of(session: Session, rater: RaterRow) -> int:
    """Returns the place of the question that comes next, from 0."""
    last = session.scalar(select(func.max(Answer.place)).where(Answer.rater_id == rater.id))
    return 0 if last is None else last + 1


def join(database: Database, session: Session, study: Study, rater: RaterRow, language: str) -> None:
    """Gives a rater who consents a session of the plan; whoever has one keeps it.

    The first free one is taken: sessions of raters who withdrew, or who left theirs unfinished long ago, are free.

    Raises:
        Refusal: none is left; 409.
    """
    if rater.joined is not None:
        return
    free = _free_slots(database, session, study)
    if not free:
        raise Refusal(409, "full", "the study has all the raters that it needs.")
    now = database.now(session)
    rater.slot, rater.joined, rater.seen, rater.language = free[0], now, now, language


def _free_slots(database: Database, session: Session, study: Study) -> list[int]:
    since = database.now(session) - timedelta(hours=study.settings.abandoned_after_hours)
    taken = set(
        session.scalars(
            select(RaterRow.slot).where(
                RaterRow.slot.is_not(None),
                RaterRow.withdrawn.is_(None),
                RaterRow.finished.is_not(None) | (RaterRow.seen > since),
            )
        )
    )
    return [slot for slot in range(len(study.plan.sessions)) if slot not in taken]


def answer(
    database: Database,
    session: Session,
    study: Study,
    rater: RaterRow,
    place: int,
    value: int,
    seconds: float,
    device: Device,
) -> int:
    """Stores an answer, and returns the place of the question that comes next.

    A question that was answered before keeps its first answer, however often a form is sent; none can be skipped.

    Raises:
        Refusal: the rater has not joined, or the answer is none to this question; 409 or 400.
    """
    if rater.slot is None or rater.withdrawn is not None:
        raise Refusal(409, "not_now", "this session has not begun, or you have withdrawn.")
    upcoming = place_of(session, rater)
    if place != upcoming or upcoming >= study.plan.num_trials:
        return upcoming
    low, high = ANSWERS[study.plan.sessions[rater.slot][place].kind]
    if not low <= value <= high:
        raise Refusal(400, "bad_answer", f"an answer is a number from {low} to {high}.")
    now = database.now(session)
    session.add(
        Answer(
            rater_id=rater.id,
            place=place,
            answer=value,
            seconds=seconds,
            at=now,
            pixel_ratio=device.pixel_ratio,
            width=device.width,
            height=device.height,
            scale=device.scale,
            touch=device.touch,
        )
    )
    rater.seen = now
    if place + 1 == study.plan.num_trials:
        rater.finished = now
    return place + 1


def withdraw(database: Database, rater_id: int) -> None:
    """Deletes all answers of a rater for good; the session becomes free."""
    with database.write() as session:
        rater = session.get_one(RaterRow, rater_id)
        session.execute(delete(Answer).where(Answer.rater_id == rater_id))
        rater.withdrawn = rater.withdrawn or database.now(session)
        rater.slot, rater.finished, rater.seen, rater.language = None, None, None, ""
    database.empty_log()


@dataclass(frozen=True)
class Progress:
    """How far a study is; no score.

    Attributes:
        invited: links that were made.
        joined: raters who gave consent, without those who withdrew.
        finished: who have answered everything.
        withdrawn: who withdrew.
        resting: joined, unfinished, and not seen for as long as study.yaml allows.
        answers: that are stored.
        free: sessions that are left.
    """

    invited: int
    joined: int
    finished: int
    withdrawn: int
    resting: int
    answers: int
    free: int


def progress(database: Database, session: Session, study: Study) -> Progress:
    """Returns how far a study is."""
    raters: Sequence[RaterRow] = session.scalars(select(RaterRow)).all()
    here = [rater for rater in raters if rater.joined is not None and rater.withdrawn is None]
    since = database.now(session) - timedelta(hours=study.settings.abandoned_after_hours)
    return Progress(
        len(raters),
        len(here),
        sum(rater.finished is not None for rater in here),
        sum(rater.withdrawn is not None for rater in raters),
        sum(rater.finished is None and (rater.seen is None or rater.seen <= since) for rater in here),
        session.scalar(select(func.count()).select_from(Answer)) or 0,
        len(_free_slots(database, session, study)),
    )
