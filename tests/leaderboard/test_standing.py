"""The ranked table: which submission counts, public and private, ties, baselines, the Ladder."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard import entries, rescoring, teams
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.faults import NotNow
from facesr.leaderboard.split import public_mask
from facesr.leaderboard.standing import PRIVATE, PUBLIC, Standing, standing
from facesr.leaderboard.tables import Event, Round
from facesr.web.database import Database
from tests.leaderboard.made import RANKING, a_round, a_team, scored

IDS = [f"{number:02d}" for number in range(20)]


def values(place: Place, phase: Phase, public: float, private: float) -> NDArray[np.float64]:
    """Returns scores with these means over the public and the private faces, the same spread for all."""
    seen = public_mask(place.key, phase.name, IDS, phase.public_share)
    found = np.where(seen, public, private)
    for side in (seen, ~seen):
        spread = np.linspace(-0.01, 0.01, side.sum())
        found[side] += spread - spread.mean()
    return found


def told(table: Standing) -> list[tuple[str, str, float]]:
    return [(one.place, one.team.name, round(one.shown_score, 4)) for one in table.entries]


def test_views_differ_and_best_is_the_best_public_one(place: Place, database: Database, phase: Phase) -> None:
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        alpha, _ = a_team(database, session, "Alpha")
        beta, _ = a_team(database, session, "Beta")
        # Alpha's second one is worse in public and much better in private: it must not be picked for that.
        scored(database, session, alpha, phase, 1, this, values(place, phase, 0.80, 0.60))
        scored(database, session, alpha, phase, 2, this, values(place, phase, 0.79, 0.99))
        scored(database, session, beta, phase, 3, this, values(place, phase, 0.70, 0.75))
    with database.read() as session:
        public, private = (standing(place, session, phase, view) for view in (PUBLIC, PRIVATE))
    assert told(public) == [("1", "Alpha", 0.8), ("2", "Beta", 0.7)]
    assert told(private) == [("1", "Beta", 0.75), ("2", "Alpha", 0.6)]
    assert public.num_faces + private.num_faces == 20
    assert [one.num_entries for one in public.entries] == [2, 1]
    rank = public.entries[0].rank
    assert rank is not None and rank.low < 0.8 < rank.high


@pytest.mark.parametrize(("rule", "winner"), [("last", 0.6), ("chosen", 0.9), ("best", 0.7)])
def test_rules(place: Place, database: Database, phase: Phase, rule: str, winner: float) -> None:
    phase = phase.model_copy(update={"rank_rule": rule, "num_chosen": 2})
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        alpha, _ = a_team(database, session, "Alpha")
        rows = [
            scored(database, session, alpha, phase, number, this, values(place, phase, public, private))
            for number, (public, private) in enumerate([(0.8, 0.7), (0.7, 0.9), (0.6, 0.6)])
        ]
        if rule == "chosen":
            for row in rows[1:]:
                entries.choose(database, session, row, phase, chosen=True)
    with database.read() as session:
        (one,) = standing(place, session, phase, PRIVATE).entries
    assert round(one.means[RANKING], 4) == winner


def test_equal_scores_tie_and_the_earlier_stands_first(place: Place, database: Database, phase: Phase) -> None:
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        for number, name in enumerate(["Late", "Later", "Best"]):
            team, _ = a_team(database, session, name)
            score = 0.9 if name == "Best" else 0.5
            scored(database, session, team, phase, number, this, values(place, phase, score, score))
    with database.read() as session:
        table = standing(place, session, phase, PUBLIC)
    assert told(table) == [("1", "Best", 0.9), ("2-3", "Late", 0.5), ("2-3", "Later", 0.5)]


def test_baselines_and_disqualified_ones_have_no_place(place: Place, database: Database, phase: Phase) -> None:
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        base = teams.new_team(database, session, "bicubic", is_baseline=True)
        alpha, _ = a_team(database, session, "Alpha")
        beta, _ = a_team(database, session, "Beta")
        scored(database, session, base, phase, 1, this, values(place, phase, 0.99, 0.99))
        scored(database, session, alpha, phase, 2, this, values(place, phase, 0.8, 0.8))
        best = scored(database, session, alpha, phase, 3, this, values(place, phase, 0.9, 0.9))
        scored(database, session, beta, phase, 4, this, values(place, phase, 0.85, 0.85))
        entries.disqualify(database, session, best, "not theirs")
    with database.read() as session:
        table = standing(place, session, phase, PUBLIC)
    # The team stays on the board with its next submission.
    assert told(table) == [("1", "Beta", 0.85), ("2", "Alpha", 0.8), ("", "bicubic", 0.99)]
    with database.write() as session:
        entries.disqualify(database, session, teams.team_named(session, "Beta"), "two accounts")
    with database.read() as session:
        table = standing(place, session, phase, PUBLIC)
    assert told(table) == [("1", "Alpha", 0.8), ("", "bicubic", 0.99), ("", "Beta", 0.85)]


def test_ladder_shows_steps(place: Place, database: Database, phase: Phase) -> None:
    phase = phase.model_copy(update={"ladder_step": 0.01, "rank_rule": "last"})
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        alpha, _ = a_team(database, session, "Alpha")
        for number, score in enumerate([0.8012, 0.8071]):
            scored(database, session, alpha, phase, number, this, values(place, phase, score, 0.5))
            with_session(place, session, phase, 0.8)
        scored(database, session, alpha, phase, 9, this, values(place, phase, 0.8137, 0.5))
        with_session(place, session, phase, 0.81)


def test_ladder_shows_no_order_within_a_step(place: Place, database: Database, phase: Phase) -> None:
    phase = phase.model_copy(update={"ladder_step": 0.01})
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        for number, (name, score) in enumerate([("First", 0.801), ("Better", 0.804), ("Best", 0.83)]):
            team, _ = a_team(database, session, name)
            scored(database, session, team, phase, number, this, values(place, phase, score, score))
        table = standing(place, session, phase, PUBLIC)
        assert told(table) == [("1", "Best", 0.83), ("2-3", "First", 0.8), ("2-3", "Better", 0.8)]
        # At the end the scores themselves decide.
        assert [one.team.name for one in standing(place, session, phase, PRIVATE).entries] == [
            "Best",
            "Better",
            "First",
        ]


def with_session(place: Place, session: Session, phase: Phase, shown: float) -> None:
    (one,) = standing(place, session, phase, PUBLIC).entries
    assert one.shown_score == pytest.approx(shown, abs=1e-12)


def test_new_round_shows_when_it_is_published(place: Place, database: Database, phase: Phase) -> None:
    with database.write() as session:
        old = a_round(database, session, phase.name, IDS)
        alpha, _ = a_team(database, session, "Alpha")
        beta, _ = a_team(database, session, "Beta")
        scored(database, session, alpha, phase, 1, old, values(place, phase, 0.8, 0.8))
        scored(database, session, beta, phase, 2, old, values(place, phase, 0.7, 0.7))
        new = a_round(database, session, phase.name, IDS, "c" * 64)
        for row, score in ((1, 0.5), (2, 0.9)):
            rescored(database, session, phase, new, values(place, phase, score, score))
            if row == 1:
                with pytest.raises(NotNow, match="1 submissions"):
                    rescoring.publish(place, database, session, phase)
        moves = {move.team: move for move in rescoring.moves_of(place, session, phase, new)}
        assert (moves["Alpha"].before, moves["Alpha"].after) == ("1", "2")
        assert moves["Beta"].score_after == pytest.approx(0.9)
        assert told(standing(place, session, phase, PUBLIC))[0] == ("1", "Alpha", 0.8)
        rescoring.publish(place, database, session, phase)
        assert told(standing(place, session, phase, PUBLIC))[0] == ("1", "Beta", 0.9)
        assert told(standing(place, session, phase, PUBLIC, old.id))[0] == ("1", "Alpha", 0.8)
        with pytest.raises(NotNow, match="no new round"):
            rescoring.publish(place, database, session, phase)


def test_log_tells_no_moves_of_private_places_before_the_end(place: Place, database: Database, phase: Phase) -> None:
    with database.write() as session:
        old = a_round(database, session, phase.name, IDS)
        for number, name in enumerate(("Alpha", "Beta"), 1):
            team, _ = a_team(database, session, name)
            scored(database, session, team, phase, number, old, values(place, phase, 0.9 - 0.1 * number, number / 10))
        new = a_round(database, session, phase.name, IDS, "c" * 64)
        for public, private in ((0.8, 0.9), (0.7, 0.3)):
            rescored(database, session, phase, new, values(place, phase, public, private))
        assert {move.after != move.before for move in rescoring.moves_of(place, session, phase, new)} == {True}
        rescoring.publish(place, database, session, phase)
        last = session.scalars(select(Event).order_by(Event.seq.desc())).first()
        assert last is not None and json.loads(last.data)["moved"] == 0


def rescored(database: Database, session: Session, phase: Phase, this: Round, scores: NDArray[np.float64]) -> None:
    from facesr.leaderboard import queue

    job = queue.claim(database, session, "test", [phase.name])
    assert job is not None
    assert queue.finish_scored(database, session, job, this.id, queue.Outcome({RANKING: scores}, {}, "p" * 64))


def test_nothing_scored_is_an_empty_table(place: Place, database: Database, phase: Phase) -> None:
    with database.read() as session:
        table = standing(place, session, phase, PUBLIC)
    assert (table.entries, table.ranking_metric) == ((), None)


def test_all_faces_public_is_one_view(place: Place, database: Database, phase: Phase) -> None:
    phase = phase.model_copy(update={"public_share": 1.0})
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        alpha, _ = a_team(database, session, "Alpha")
        scored(database, session, alpha, phase, 1, this, np.linspace(0, 1, 20))
        tables = [standing(place, session, phase, view) for view in (PUBLIC, PRIVATE)]
    assert [(table.num_faces, table.entries[0].means[RANKING]) for table in tables] == [(20, pytest.approx(0.5))] * 2
