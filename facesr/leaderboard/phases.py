"""When phases run: planned in competition.yaml, moved by the organiser, every move in the log."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard import chain
from facesr.leaderboard.competition import Competition, Phase
from facesr.leaderboard.faults import NotFound, NotNow
from facesr.leaderboard.tables import PhaseTimes
from facesr.web.database import Database

UPCOMING, OPEN, CLOSED = "upcoming", "open", "closed"


def sync(database: Database, session: Session, competition: Competition) -> list[str]:
    """Takes over what competition.yaml says of times, where it says something new, and returns it in sentences.

    Times that the organiser moved by command stay, until the file is changed again.
    """
    told: list[str] = []
    for phase in competition.phases:
        times = session.get(PhaseTimes, phase.name)
        if times is None:
            session.add(
                PhaseTimes(
                    name=phase.name,
                    starts=phase.starts,
                    ends=phase.ends,
                    planned_starts=phase.starts,
                    planned_ends=phase.ends,
                )
            )
            session.flush()
            what = "phase planned"
        elif (times.planned_starts, times.planned_ends) != (phase.starts, phase.ends):
            times.starts = times.planned_starts = phase.starts
            times.ends = times.planned_ends = phase.ends
            what = "phase planned anew"
        else:
            continue
        data = {"phase": phase.name, "starts": phase.starts.isoformat(), "ends": phase.ends.isoformat()}
        chain.append(database, session, "organiser", what, data)
        told.append(f"{what}: {phase.name}, {phase.starts:%Y-%m-%d %H:%M} to {phase.ends:%Y-%m-%d %H:%M} UTC")
    return told


def times_of(session: Session, name: str) -> PhaseTimes:
    """Returns the times of a phase.

    Raises:
        NotFound: there is no such phase.
    """
    times = session.get(PhaseTimes, name)
    if times is None:
        raise NotFound(f"there is no phase {name[:60]!r}.")
    return times


def state_of(times: PhaseTimes, now: datetime) -> str:
    """Returns ``upcoming``, ``open`` or ``closed``."""
    if times.closed is not None and times.closed <= now:
        return CLOSED
    if now < times.starts:
        return UPCOMING
    return OPEN if now < times.ends else CLOSED


def is_revealed(phase: Phase, times: PhaseTimes, now: datetime) -> bool:
    """Returns whether the private scores of a phase may be seen."""
    return phase.public_share == 1 or state_of(times, now) == CLOSED


def require_open(times: PhaseTimes, now: datetime) -> None:
    """Checks that archives are taken.

    Raises:
        NotNow: the phase is not open.
    """
    state = state_of(times, now)
    if state == UPCOMING:
        raise NotNow(f"phase {times.name} begins at {times.starts:%Y-%m-%d %H:%M} UTC; send your archive then.")
    if state == CLOSED:
        raise NotNow(f"phase {times.name} is closed; nothing more is taken.")


def names(session: Session) -> list[str]:
    """Returns the names of all phases that the database knows."""
    return list(session.scalars(select(PhaseTimes.name)))


def close(database: Database, session: Session, name: str, reason: str) -> PhaseTimes:
    """Closes a phase now; private scores are seen from now on.

    Raises:
        NotNow: it is closed already.
    """
    times, now = times_of(session, name), database.now(session)
    if state_of(times, now) == CLOSED:
        raise NotNow(f"phase {name} is closed already.")
    times.closed = now
    chain.append(database, session, "organiser", "phase closed", {"phase": name, "reason": reason})
    return times


def move(
    database: Database,
    session: Session,
    name: str,
    *,
    starts: datetime | None = None,
    ends: datetime | None = None,
    reason: str = "",
) -> PhaseTimes:
    """Moves a phase's start or end; a closed one opens again where its new end lies ahead.

    Raises:
        NotNow: it would end before it starts.
    """
    times = times_of(session, name)
    new_starts, new_ends = starts or times.starts, ends or times.ends
    if new_starts >= new_ends:
        raise NotNow(f"phase {name} would end before it starts; give a later end.")
    was = {"starts": times.starts.isoformat(), "ends": times.ends.isoformat(), "closed": times.closed is not None}
    times.starts, times.ends = new_starts, new_ends
    if ends is not None and ends > database.now(session):
        times.closed = None
    data = {
        "phase": name,
        "starts": times.starts.isoformat(),
        "ends": times.ends.isoformat(),
        "was": was,
        "reason": reason,
    }
    chain.append(database, session, "organiser", "phase moved", data)
    return times
