"""Public scores in the steps of the Ladder, as teams see them while a phase runs.

A team's steps are those of all scores that it was ever shown. Withdrawing or disqualifying a submission takes its score
off the board, but not out of the steps: else a team would withdraw what it had sent, and see its next score in full.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from facesr.leaderboard.ranking import ladder
from facesr.leaderboard.tables import Evaluation, Submission


@dataclass(frozen=True)
class Shown:
    """A submission with a public score.

    Attributes:
        submission: the row.
        mean: its score over the public faces.
        is_baseline: whether it is one of the organiser's, who learns nothing: each has its own score, rounded.
    """

    submission: Submission
    mean: float
    is_baseline: bool = False

    @property
    def stands(self) -> bool:
        """Whether it is on the board, and its own score may be shown for later ones of its team."""
        return self.submission.withdrawn is None and not self.submission.disqualified


def first_scored(session: Session, phase: str) -> dict[int, datetime]:
    """Returns submission -> when it had its first score, which is the order of the Ladder: workers may overtake."""
    rows = session.execute(
        select(Evaluation.submission_id, func.min(Evaluation.made))
        .join(Submission, Submission.id == Evaluation.submission_id)
        .where(Submission.phase == phase)
        .group_by(Evaluation.submission_id)
    )
    return {int(key): made for key, made in rows}


def steps_of(
    scores: Iterable[Shown], step: float, order: dict[int, datetime], *, higher_is_better: bool
) -> dict[int, float | None]:
    """Returns submission -> the step that is shown for it, None where none is; in the order of the Ladder.

    Args:
        scores: of any teams, all that count for their steps.
        step: of the phase.
        order: as `first_scored` has it.
        higher_is_better: direction of the scores.
    """
    found: dict[int, float | None] = {}
    by_team: dict[int, list[Shown]] = {}
    for one in sorted(scores, key=lambda one: (order[one.submission.id], one.submission.id)):
        if one.is_baseline:
            found[one.submission.id] = ladder([one.mean], step, higher_is_better)[0]
        else:
            by_team.setdefault(one.submission.team_id, []).append(one)
    for those in by_team.values():
        shown = ladder([one.mean for one in those], step, higher_is_better, [one.stands for one in those])
        found |= {one.submission.id: value for one, value in zip(those, shown, strict=True)}
    return found
