"""The ranked table of a phase: which submission of each team counts, its place, and what is shown beside it.

The board has two views of a phase: ``public`` scores are means over the public faces; ``private`` ones over the others,
and nobody but the organiser sees them before the end. Where all faces are public there is one view. With a Ladder the
public view has its steps (facesr/leaderboard/steps.py) until the end, and then the scores themselves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.evaluation.over_set import over_set
from facesr.leaderboard.chain import Head, head
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.entries import SCORED
from facesr.leaderboard.queue import unpacked
from facesr.leaderboard.ranking import Rank, ranks
from facesr.leaderboard.split import public_mask
from facesr.leaderboard.steps import Shown, first_scored, steps_of
from facesr.leaderboard.tables import Evaluation, PhaseTimes, Round, Submission, Team

PUBLIC, PRIVATE = "public", "private"


@dataclass(frozen=True)
class Entry:
    """A scored submission in a view.

    Attributes:
        submission: the row.
        team: whose it is.
        means: metric -> mean over the faces of the view; of RMSE the root of the mean square.
        rank: its place with its score and interval; None for one that has no place (baselines, disqualified ones, and
            those without a shown score). With a Ladder public places follow from the shown scores alone.
        shown_score: the score that the board shows; with a Ladder not always its own, and None where it beat no
            score of its team that still stands.
        white_box: whether the ranking judge was in the training loss; None where that is not said, or no judge ranks.
        mean_watts: of the restoration, by its manifest; None where it is not stated.
        within_power_limit: None without a limit or a statement.
        num_entries: scored submissions of the team in the phase.
        public_score: its own mean over the public faces, in whatever view.
    """

    submission: Submission
    team: Team
    means: Mapping[str, float]
    rank: Rank | None
    shown_score: float | None
    white_box: bool | None
    mean_watts: float | None
    within_power_limit: bool | None
    num_entries: int
    public_score: float

    @property
    def num_parameters(self) -> int | None:
        """Parameters of the network, by the manifest; None where it does not say."""
        found = self.submission.facts.get("num_parameters")
        return found if isinstance(found, int) else None

    @property
    def place(self) -> str:
        """The place as text: ``2``, ``1-3``, or "" for none."""
        if self.rank is None:
            return ""
        return str(self.rank.first) if self.rank.first == self.rank.last else f"{self.rank.first}-{self.rank.last}"


@dataclass(frozen=True)
class Standing:
    """A phase's table.

    Attributes:
        phase: its settings.
        view: ``public`` or ``private``.
        entries: those that have a place, by score, equal ones by time; then those without a shown score, baselines and
            disqualified ones.
        num_faces: that the scores are means of.
        columns: metric -> unit and direction, of the round that is shown.
        ranking_metric: which ranks, None before the first score.
        higher_is_better: of it.
        made: when the round that is shown was begun.
        log: the last line of the log that the table stands on.
    """

    phase: Phase
    view: str
    entries: tuple[Entry, ...]
    num_faces: int
    columns: Mapping[str, Any] = field(default_factory=dict)
    ranking_metric: str | None = None
    higher_is_better: bool = True
    made: datetime | None = None
    log: Head = field(default_factory=lambda: Head(0, ""))

    @property
    def held_out(self) -> list[str]:
        """Metrics of the held-out judges."""
        return [name for name in self.columns if name.startswith("is/") and name != self.ranking_metric]


@dataclass(frozen=True)
class _Scored:
    submission: Submission
    team: Team
    public: dict[str, NDArray[np.float64]]
    private: dict[str, NDArray[np.float64]]

    def of(self, view: str) -> dict[str, NDArray[np.float64]]:
        return self.public if view == PUBLIC else self.private


def standing(
    place: Place, session: Session, phase: Phase, view: str, round_id: int | None = None, *, is_over: bool = False
) -> Standing:
    """Returns the table of a phase.

    Args:
        place: the competition's folder; its key says which faces are public.
        session: of a database that is read.
        phase: its settings.
        view: ``public`` or ``private``; whoever shows the latter has made sure that it may be seen.
        round_id: a round of scoring, by default the published one.
        is_over: whether the phase is, so that a Ladder hides nothing any more.
    """
    this = shown_round(session, phase.name) if round_id is None else session.get(Round, round_id)
    if this is None:
        return Standing(phase, view, (), 0, log=head(session))
    is_seen = public_mask(place.key, phase.name, this.ids, phase.public_share)
    # Where no face is kept back, there is one view.
    is_kept = np.ones_like(is_seen) if is_seen.all() else ~is_seen
    known = _scored(session, this, is_seen, is_kept)
    is_stepped = phase.ladder_step is not None and view == PUBLIC and not is_over
    public = _public_scores(session, known, phase, this, is_stepped=is_stepped)
    scored = [one for one in known if one.submission.withdrawn is None]
    shown = public if is_stepped else {one.submission.id: _mean(one, this, view) for one in scored}
    counting = _counting(scored, phase, this, view, public)
    better = -1.0 if this.higher_is_better else 1.0

    def key(one: _Scored) -> float:
        score = shown[one.submission.id]
        return math.inf if score is None else better * score

    ranked = [one for one in counting if _group(one, shown) == 0]
    ranked.sort(key=lambda one: (key(one), one.submission.received, one.submission.id))
    # Places by the scores themselves would tell more of them than their steps do.
    places = _stepped_places([key(one) for one in ranked], better) if is_stepped else _places(ranked, this, view)
    others = sorted(
        (one for one in counting if _group(one, shown) > 0),
        key=lambda one: (_group(one, shown), key(one), one.submission.received, one.submission.id),
    )
    numbers: dict[int, int] = {}
    for one in scored:
        numbers[one.team.id] = numbers.get(one.team.id, 0) + 1
    entries = [
        _entry(one, rank, phase, this, view, shown[one.submission.id], numbers[one.team.id])
        for one, rank in [*zip(ranked, places, strict=True), *((one, None) for one in others)]
    ]
    return Standing(
        phase=phase,
        view=view,
        entries=tuple(entries),
        num_faces=int((is_seen if view == PUBLIC else is_kept).sum()),
        columns=this.columns,
        ranking_metric=this.ranking_metric,
        higher_is_better=this.higher_is_better,
        made=this.created,
        log=head(session),
    )


def shown_round(session: Session, phase: str) -> Round | None:
    """Returns the round whose scores a phase shows, None before the first score."""
    times = session.get(PhaseTimes, phase)
    return None if times is None or times.published_round is None else session.get(Round, times.published_round)


def _scored(session: Session, this: Round, is_seen: NDArray[np.bool_], is_kept: NDArray[np.bool_]) -> list[_Scored]:
    """Returns all submissions that have scores in a round, withdrawn ones, too, oldest first."""
    rows = session.execute(
        select(Submission, Team, Evaluation.values)
        .join(Evaluation, Evaluation.submission_id == Submission.id)
        .join(Team, Team.id == Submission.team_id)
        .where(Evaluation.round_id == this.id, Submission.state == SCORED)
        .order_by(Submission.received, Submission.id)
    )
    found = []
    for submission, team, values in rows:
        columns = unpacked(this, values)
        found.append(
            _Scored(
                submission,
                team,
                {name: column[is_seen] for name, column in columns.items()},
                {name: column[is_kept] for name, column in columns.items()},
            )
        )
    return found


def _counting(
    scored: Sequence[_Scored], phase: Phase, this: Round, view: str, public: Mapping[int, float | None]
) -> list[_Scored]:
    """Returns the submission of each team that counts.

    It is found by public scores: the best of many private ones would be good by chance as well. Only among those that
    a team chose, the better private one counts at the end.
    """
    sign = 1.0 if this.higher_is_better else -1.0
    # With a Ladder the first of equal ones in its order made the step that the others only have again.
    order = {number: place for place, number in enumerate(public)}

    def key(one: _Scored, score: Mapping[int, float | None]) -> tuple[float, int]:
        value = score[one.submission.id]
        return -math.inf if value is None else sign * value, -order[one.submission.id]

    by_team: dict[int, list[_Scored]] = {}
    for one in scored:
        # A disqualified submission makes room for the team's next one, so that the team stays on the board.
        if not one.submission.disqualified:
            by_team.setdefault(one.team.id, []).append(one)
    counting = []
    for those in by_team.values():
        chosen = [one for one in those if one.submission.chosen is not None]
        if phase.rank_rule == "last":
            counting.append(those[-1])
        elif phase.rank_rule == "chosen" and chosen:
            # Before the end by what is shown, which with a Ladder are steps.
            score = public if view == PUBLIC else {one.submission.id: _mean(one, this, view) for one in chosen}
            counting.append(max(chosen, key=lambda one: key(one, score)))
        else:
            counting.append(max(those, key=lambda one: key(one, public)))
    return counting


def _public_scores(
    session: Session, known: Sequence[_Scored], phase: Phase, this: Round, *, is_stepped: bool
) -> Mapping[int, float | None]:
    """Returns submission -> the public score by which a team's best one is found; first the one that wins a tie.

    With a Ladder they are steps, so that the best of many is not good by chance. As long as they are shown, those that
    left the board count for them; at the end nothing is to be hidden, and they are as if these had never been sent.
    """
    if phase.ladder_step is None:
        return {one.submission.id: _mean(one, this, PUBLIC) for one in known}
    scores = [Shown(one.submission, _mean(one, this, PUBLIC), one.team.is_baseline) for one in known]
    return steps_of(
        [one for one in scores if is_stepped or one.stands],
        phase.ladder_step,
        first_scored(session, phase.name),
        higher_is_better=this.higher_is_better,
    )


def _group(one: _Scored, shown: Mapping[int, float | None]) -> int:
    """Returns 0 for an entry that has a place, and for others which come first: 1, 2, 3."""
    if _is_out(one):
        return 3
    return 2 if one.team.is_baseline else int(shown[one.submission.id] is None)


def _stepped_places(keys: Sequence[float], better: float) -> list[Rank]:
    """Returns places by shown scores alone, times `better` (-1 or 1) and in order; equal ones share a place."""
    return [
        Rank(1 + sum(other < key for other in keys), sum(other <= key for other in keys), *[better * key] * 3)
        for key in keys
    ]


def _places(ranked: Sequence[_Scored], this: Round, view: str) -> list[Rank]:
    if not ranked:
        return []
    table = np.stack([one.of(view)[this.ranking_metric] for one in ranked])
    return ranks(table, higher_is_better=this.higher_is_better)


def _entry(
    one: _Scored, rank: Rank | None, phase: Phase, this: Round, view: str, shown: float | None, number: int
) -> Entry:
    facts = one.submission.facts
    # Only a recogniser can have been in the training loss.
    judges = facts.get("loss_judges") if this.ranking_metric.startswith("is/") else None
    watts = facts.get("mean_watts")
    limit = phase.power_limit_watts
    return Entry(
        submission=one.submission,
        team=one.team,
        means={name: over_set(name, column) for name, column in one.of(view).items()},
        rank=rank,
        shown_score=shown,
        white_box=None if judges is None else this.ranking_metric.removeprefix("is/") in judges,
        mean_watts=watts,
        within_power_limit=None if limit is None or watts is None else watts <= limit,
        num_entries=number,
        public_score=_mean(one, this, PUBLIC),
    )


def _is_out(one: _Scored) -> bool:
    return bool(one.team.disqualified or one.submission.disqualified)


def _mean(one: _Scored, this: Round, view: str) -> float:
    return over_set(this.ranking_metric, one.of(view)[this.ranking_metric])
