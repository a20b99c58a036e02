"""What a study has gathered, for the analysis: answers of the database put together with what the plan asked."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from facesr.opinion.opening import opened
from facesr.opinion.ratings import ORIGINAL, Rater, Rating, Records
from facesr.opinion.sessions import TRAINING, Trial
from facesr.opinion.study import PICTURES, Study
from facesr.opinion.tables import Answer, RaterRow


def read_records(folder: Path) -> Records:
    """Returns the records of a study.

    Args:
        folder: made by ``facesr opinion init``.

    Raises:
        FaceSRError: it is no study's, or its database cannot be read.
    """
    with opened(folder) as (study, database), database.read() as session:
        rows = session.scalars(select(RaterRow).where(RaterRow.joined.is_not(None)).order_by(RaterRow.id)).all()
        answers: dict[int, list[Answer]] = {row.id: [] for row in rows}
        for found in session.scalars(select(Answer).order_by(Answer.rater_id, Answer.place)):
            answers[found.rater_id].append(found)
        ratings: list[Rating] = []
        raters: list[Rater] = []
        for row in rows:
            trials = study.plan.sessions[row.slot] if row.slot is not None else ()
            own = [_rating(row, trials[one.place], one) for one in answers[row.id]]
            ratings += own
            raters.append(_rater(row, answers[row.id], trials))
    return _records(study, ratings, raters)


def _records(study: Study, ratings: list[Rating], raters: list[Rater]) -> Records:
    plan, pictures = study.plan, study.folder / PICTURES
    methods = (*plan.methods, *plan.anchors)
    return Records(
        title=study.settings.title,
        kinds=plan.kinds,
        methods=methods,
        anchors=plan.anchors,
        faces=plan.faces,
        rules=plan.rules,
        plan_sha256=plan.sha256,
        ratings=tuple(ratings),
        raters=tuple(raters),
        high=pictures / ORIGINAL,
        folders={method: pictures / method for method in methods},
        trials=plan.num_trials,
    )


def _rating(row: RaterRow, trial: Trial, found: Answer) -> Rating:
    return Rating(
        rater=row.name,
        place=found.place,
        part=trial.part,
        kind=trial.kind,
        face=trial.face,
        method=trial.method,
        other=trial.other,
        answer=found.answer,
        expected=trial.expected,
        seconds=found.seconds,
        at=found.at,
    )


def _rater(row: RaterRow, answers: Sequence[Answer], trials: Sequence[Trial]) -> Rater:
    assert row.joined is not None
    # The training may have been looked at in another window; what counts is what the ratings were given in.
    counted = [one for one in answers if trials[one.place].part != TRAINING] or list(answers)
    last = counted[-1] if counted else None
    return Rater(
        rater=row.name,
        joined=row.joined,
        finished=row.finished,
        withdrawn=row.withdrawn is not None,
        language=row.language,
        pixel_ratio=0.0 if last is None else last.pixel_ratio,
        width=0 if last is None else last.width,
        height=0 if last is None else last.height,
        scale=0 if last is None else last.scale,
        touch=last is not None and last.touch,
    )
