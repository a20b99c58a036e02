"""Scoring everything anew: a new round beside the published one, compared with it, and published by the organiser."""

import argparse
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from facesr.leaderboard import chain, queue
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.desk import new_round
from facesr.leaderboard.entries import waiting
from facesr.leaderboard.faults import NotNow
from facesr.leaderboard.operations import opened
from facesr.leaderboard.phases import CLOSED, state_of
from facesr.leaderboard.standing import PRIVATE, PUBLIC, standing
from facesr.leaderboard.tables import PhaseTimes, Round, Submission
from facesr.web.database import Database


@dataclass(frozen=True)
class Move:
    """What a new round changes for a team.

    Attributes:
        team: its name.
        before: its place in the published round, "" for none.
        after: its place in the new round.
        score_before: its score, None where it had none.
        score_after: its score in the new round, None where it has none.
    """

    team: str
    before: str
    after: str
    score_before: float | None
    score_after: float | None


def rescore(options: argparse.Namespace) -> None:
    """Begins a new round, or tells how far it is and what it would change, or publishes it."""
    with opened(options.folder) as (place, database):
        phase = place.competition.phase(options.phase or place.competition.phases[0].name)
        with database.read() as session:
            pending = pending_round(session, phase)
        if pending is None:
            _begin(place, database, phase, options.device)
            return
        with database.read() as session:
            left = num_waiting(session, phase)
            moves = moves_of(place, session, phase, pending)
        print(f"round {pending.id} of phase {phase.name}: {left} submissions wait")
        for move in moves:
            before = "-" if move.score_before is None else f"{move.score_before:.4f}"
            after = "-" if move.score_after is None else f"{move.score_after:.4f}"
            print(f"  {move.team}: {move.before or '-'} ({before}) -> {move.after or '-'} ({after})")
        if not options.publish:
            print(f"publish it: facesr board rescore {options.folder} --phase {phase.name} --publish")
            return
        with database.write() as session:
            publish(place, database, session, phase)
        print(f"round {pending.id} is published")


def _begin(place: Place, database: Database, phase: Phase, device: str) -> None:
    from facesr.leaderboard.worker import open_scorer

    scorer = open_scorer(phase, place.high(phase), place.low(phase), device)
    with database.write() as session:
        current = queue.current_round(session, phase.name)
        if current is not None and current.basis_sha256 == scorer.basis_sha256:
            raise NotNow(
                f"phase {phase.name} is scored with these metrics, judges and references already; nothing to do."
            )
        this = queue.begin_round(database, session, new_round(phase.name, scorer), "organiser")
        left = num_waiting(session, phase)
    print(f"round {this.id} of phase {phase.name} is begun: {left} submissions wait for a worker")
    if current is None:
        return
    print("the board shows the old scores until you publish the new ones by the same command with --publish")


def pending_round(session: Session, phase: Phase) -> Round | None:
    """Returns the round of a phase that is not published yet, or None."""
    current = queue.current_round(session, phase.name)
    return current if current is not None and current.published is None else None


def num_waiting(session: Session, phase: Phase) -> int:
    """Returns how many submissions of a phase wait to be scored."""
    rule = select(func.count()).select_from(Submission).where(waiting(), Submission.phase == phase.name)
    return session.scalar(rule) or 0


def moves_of(
    place: Place, session: Session, phase: Phase, pending: Round, view: str = "", *, is_over: bool = True
) -> list[Move]:
    """Returns what a round changes on the board, moved teams first; by the scores that decide, or those of a view."""
    view = view or (PUBLIC if phase.public_share == 1 else PRIVATE)
    old = standing(place, session, phase, view, is_over=is_over)
    new = standing(place, session, phase, view, pending.id, is_over=is_over)
    before = {entry.team.name: (entry.place, entry.means[old.ranking_metric or ""]) for entry in old.entries}
    after = {entry.team.name: (entry.place, entry.means[new.ranking_metric or ""]) for entry in new.entries}
    nothing = ("", None)
    moves = [
        Move(name, before.get(name, nothing)[0], after.get(name, nothing)[0], *_scores(before, after, name))
        for name in sorted(before | after)
    ]
    return sorted(moves, key=lambda move: (move.before == move.after, move.team))


def _scores(
    before: dict[str, tuple[str, float]], after: dict[str, tuple[str, float]], name: str
) -> tuple[float | None, float | None]:
    return (before[name][1] if name in before else None), (after[name][1] if name in after else None)


def publish(place: Place, database: Database, session: Session, phase: Phase) -> None:
    """Shows the new round's scores from now on; the old round's rows stay, and the moves stand in the log.

    Raises:
        NotNow: there is no new round, or submissions wait in it.
    """
    pending = pending_round(session, phase)
    if pending is None:
        raise NotNow(f"phase {phase.name} has no new round to publish; begin one by facesr board rescore.")
    left = num_waiting(session, phase)
    if left:
        raise NotNow(f"{left} submissions of phase {phase.name} wait to be scored; publish when none does.")
    times = session.get_one(PhaseTimes, phase.name)
    # How many private places moved is a private figure, too, until the phase is over.
    is_over = state_of(times, database.now(session)) == CLOSED
    view = PRIVATE if is_over and phase.public_share < 1 else PUBLIC
    moves = moves_of(place, session, phase, pending, view, is_over=is_over)
    session.get_one(Round, pending.id).published = database.now(session)
    was, times.published_round = times.published_round, pending.id
    data = {
        "phase": phase.name,
        "round": pending.id,
        "was": was,
        "moved": sum(move.before != move.after for move in moves),
    }
    chain.append(database, session, "organiser", "round published", data)
