"""The Ladder and submissions that leave the board: withdrawing tells nothing that the Ladder does not."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from facesr.leaderboard import entries, phases, queue, rescoring
from facesr.leaderboard.access import NOBODY
from facesr.leaderboard.app import create_app
from facesr.leaderboard.board import Board
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.ranking import ladder
from facesr.leaderboard.scores import public_means
from facesr.leaderboard.standing import PRIVATE, PUBLIC, standing
from facesr.leaderboard.steps import Shown, steps_of
from facesr.leaderboard.tables import Evaluation, Round, Submission, Team
from facesr.web.database import Database
from facesr.web.security import Rates
from tests.leaderboard.made import RANKING, a_round, a_team, scored
from tests.leaderboard.site import Client, make_site

IDS = [f"{number:02d}" for number in range(8)]
STEP = 0.01
START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = ("best", "last", "chosen")
Action = tuple[str, int]


class Made:
    """A phase with a Ladder, whose faces all have the same score."""

    def __init__(self, place: Place, database: Database, phase: Phase, **more: Any) -> None:
        self.place, self.database = place, database
        self.phase = phase.model_copy(update={"ladder_step": STEP, **more})
        with database.write() as session:
            self.round = a_round(database, session, phase.name, IDS).id
        self._numbers = itertools.count(1)

    def team(self, name: str) -> int:
        with self.database.write() as session:
            return a_team(self.database, session, name)[0].id

    def send(self, team: int, score: float) -> int:
        with self.database.write() as session:
            this = session.get_one(Round, self.round)
            row = session.get_one(Team, team)
            values = np.full(len(IDS), score)
            return scored(self.database, session, row, self.phase, next(self._numbers), this, values).id

    def leave(self, submission: int, how: str) -> None:
        with self.database.write() as session:
            row = session.get_one(Submission, submission)
            if how == "withdraw" and row.withdrawn is None:
                entries.withdraw(self.database, session, row, "team")
            elif how == "disqualify":
                entries.disqualify(self.database, session, row, "" if row.disqualified else "not theirs")
            elif how == "choose" and row.withdrawn is None:
                row.chosen = None if row.chosen else self.database.now(session)

    def told(self, rule: str = "", view: str = PUBLIC, *, is_over: bool = False) -> list[tuple[str, str, Any, int]]:
        """Returns place, team, shown score and the submission that counts, of the whole table."""
        phase = self.phase.model_copy(update={"rank_rule": rule}) if rule else self.phase
        with self.database.read() as session:
            found = standing(self.place, session, phase, view, is_over=is_over)
        return [
            (
                one.place,
                one.team.name,
                None if one.shown_score is None else round(one.shown_score, 6),
                one.submission.id,
            )
            for one in found.entries
        ]


@pytest.fixture
def made(place: Place, database: Database, phase: Phase) -> Made:
    """A phase with a Ladder."""
    return Made(place, database, phase)


@pytest.mark.parametrize("how", ["withdraw", "disqualify"])
def test_the_next_score_is_not_seen_in_full_when_the_last_one_leaves(made: Made, how: str) -> None:
    alpha, beta = made.team("Alpha"), made.team("Beta")
    first = made.send(alpha, 0.8013)
    other = made.send(beta, 0.7013)
    made.leave(first, how)
    # Nothing of Alpha stands, so Alpha is not there.
    assert made.told() == [("1", "Beta", 0.7, other)]
    second = made.send(alpha, 0.7913)
    for rule in ("best", "last"):
        # Its score is not told, nor is that of the first one ranked for it.
        assert made.told(rule) == [("1", "Beta", 0.7, other), ("", "Alpha", None, second)]
    third = made.send(alpha, 0.8313)
    assert made.told() == [("1", "Alpha", 0.83, third), ("2", "Beta", 0.7, other)]


def test_what_still_stands_is_shown_again(made: Made) -> None:
    alpha = made.team("Alpha")
    first, best, third = made.send(alpha, 0.6013), made.send(alpha, 0.9013), made.send(alpha, 0.8513)
    assert made.told("last") == [("1", "Alpha", 0.9, third)]
    made.leave(best, "withdraw")
    assert made.told("last") == [("1", "Alpha", 0.6, third)]
    assert made.told("best") == [("1", "Alpha", 0.6, first)]


def test_at_the_end_it_is_as_if_it_had_never_been_sent(made: Made) -> None:
    alpha = made.team("Alpha")
    first, best, third = made.send(alpha, 0.6013), made.send(alpha, 0.9013), made.send(alpha, 0.8513)
    fourth = made.send(alpha, 0.8553)
    made.leave(best, "withdraw")
    for view in (PUBLIC, PRIVATE):
        # 0.8513 is a step above the first; 0.8553 is none above that. Scores are no steps any more.
        assert made.told("best", view, is_over=True) == [("1", "Alpha", 0.8513, third)]
        assert made.told("last", view, is_over=True) == [("1", "Alpha", 0.8553, fourth)]
    assert first < third


def test_a_team_without_a_step_comes_before_baselines_and_disqualified_teams(made: Made) -> None:
    teams = [made.team(name) for name in ("Out", "Base", "Hidden", "Seen")]
    sent = [made.send(team, score) for team, score in zip(teams, (0.9913, 0.9513, 0.9013, 0.1013), strict=True)]
    hidden = made.send(teams[2], 0.8913)
    made.leave(sent[2], "withdraw")
    with made.database.write() as session:
        session.get_one(Team, teams[0]).disqualified = "two accounts"
        session.get_one(Team, teams[1]).is_baseline = True
    assert made.told() == [
        ("1", "Seen", 0.1, sent[3]),
        ("", "Hidden", None, hidden),
        ("", "Base", 0.95, sent[1]),
        ("", "Out", 0.99, sent[0]),
    ]


def test_baselines_are_rounded_each_for_itself(made: Made) -> None:
    base = made.team("Base")
    with made.database.write() as session:
        session.get_one(Team, base).is_baseline = True
    made.leave(made.send(base, 0.9013), "withdraw")
    assert made.told("last") == []
    again = made.send(base, 0.5013)
    assert made.told("last") == [("", "Base", 0.5, again)]


def test_the_order_is_that_of_the_first_scores(made: Made) -> None:
    alpha = made.team("Alpha")
    first, second = made.send(alpha, 0.7013), made.send(alpha, 0.8013)
    assert made.told("last") == [("1", "Alpha", 0.8, second)]
    with made.database.write() as session:
        # Another worker was quicker with the second one: then the first one is none that was ever seen.
        row = session.scalars(select(Evaluation).where(Evaluation.submission_id == first)).one()
        row.made += timedelta(seconds=5)
    made.leave(second, "withdraw")
    assert made.told("last") == [("", "Alpha", None, first)]


def test_a_new_round_begins_the_steps_anew_in_the_same_order(made: Made) -> None:
    alpha = made.team("Alpha")
    gone, first, second = made.send(alpha, 0.9013), made.send(alpha, 0.7013), made.send(alpha, 0.8013)
    made.leave(gone, "withdraw")
    assert made.told("last") == [("", "Alpha", None, second)]
    with made.database.write() as session:
        new = a_round(made.database, session, made.phase.name, IDS, "c" * 64)
        for score in (0.6013, 0.7513):
            job = queue.claim(made.database, session, "test", [made.phase.name])
            assert job is not None
            outcome = queue.Outcome({RANKING: np.full(len(IDS), score)}, {}, "p" * 64)
            assert queue.finish_scored(made.database, session, job, new.id, outcome)
        # Another worker took the first one up, and was slower.
        rule = (Evaluation.submission_id == first, Evaluation.round_id == new.id)
        session.scalars(select(Evaluation).where(*rule)).one().made += timedelta(seconds=5)
        rescoring.publish(made.place, made.database, session, made.phase)
    assert made.told("last") == [("1", "Alpha", 0.75, second)]
    made.leave(second, "withdraw")
    assert made.told("last") == [("1", "Alpha", 0.6, first)]


def test_score_below_zero_keeps_its_sign(made: Made) -> None:
    made.send(made.team("Alpha"), -0.2013)
    made.send(made.team("Beta"), -0.1013)
    with made.database.read() as session:
        ranks = [one.rank for one in standing(made.place, session, made.phase, PUBLIC).entries]
    assert [(one.first, round(one.score, 6)) for one in ranks if one is not None] == [(1, -0.1), (2, -0.2)]


def test_pages_and_api_say_that_there_is_no_score(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board", "public_share: 0.5\n    ladder_step: 0.05")
    team = site.team("First")
    first, second = (site.scored(team, number, (score, 0.5)) for number, score in enumerate((0.71234, 0.62345)))
    with site.database.write() as session:
        entries.withdraw(site.database, session, entries.submission_of(session, first), "team First")
    app = create_app(site.place, site.database)
    own = Client(app).sign_in(site.tokens["First"])
    (entry,) = own.get("/api/v1/phases/final/standing").json()["entries"]
    assert (entry["submission"], entry["score"], entry["place"], entry["first"]) == (second, None, "", None)
    for client in (own, Client(app)):
        assert "no score yet" in client.get("/badge/final.svg").text
        assert "No public score" in client.get(f"/submissions/{second}").text
        for address in ("/", "/phases/final", "/phases/final?sort=-score", f"/submissions/{second}"):
            answer = client.get(address)
            assert answer.status_code == 200 and "0.62" not in answer.text and "0.60" not in answer.text, address
            assert "0.70" not in answer.text, address
    # The team's own page keeps what it was shown of the withdrawn one.
    assert "0.7000" in own.get("/team").text and "0.6" not in own.get("/api/v1/phases/final/standing").text
    assert "no public score" in own.get(f"/submissions/{second}/report.html").text
    with site.database.write() as session:
        phases.close(site.database, session, "final", "over")
    (entry,) = own.get("/api/v1/phases/final/standing?view=public").json()["entries"]
    assert (entry["place"], entry["score"]) == ("1", pytest.approx(0.62345))
    site.database.close()


# Thousandths, never on the edge of a step: 0.0003 above.
scores = st.integers(0, 60).map(lambda number: number / 1000 + 0.0003)


def fellows(draw: Any, first: list[float], higher_is_better: bool) -> list[float]:
    """Returns other scores of which the Ladder, were nothing withdrawn, would show the very same."""
    found: list[float] = []
    for place in range(len(first)):
        wanted = ladder(first[: place + 1], STEP, higher_is_better)
        candidates = [one / 1000 + 0.0003 for one in range(61)]
        same = [one for one in candidates if ladder([*found, one], STEP, higher_is_better) == wanted]
        found.append(draw(st.sampled_from(same)))
    return found


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_what_is_shown_follows_from_the_ladder_and_from_who_left(data: st.DataObject, higher_is_better: bool) -> None:
    first = data.draw(st.lists(scores, min_size=1, max_size=8))
    second = fellows(data.draw, first, higher_is_better)
    order = {number: START + timedelta(seconds=number) for number in range(len(first))}
    left: dict[int, datetime] = {}
    for number in data.draw(st.lists(st.integers(0, len(first) - 1), max_size=4)):
        left[number] = START
        for count in range(1, len(first) + 1):
            both = [
                steps_of(
                    [
                        Shown(Submission(id=number, team_id=1, withdrawn=left.get(number), disqualified=""), mean)
                        for number, mean in enumerate(means[:count])
                    ],
                    STEP,
                    order,
                    higher_is_better=higher_is_better,
                )
                for means in (first, second)
            ]
            assert both[0] == both[1]
            # Nobody is shown better than what was ever shown, and nobody in finer steps.
            ever = set(ladder(first[:count], STEP, higher_is_better))
            assert set(both[0].values()) <= ever | {None}
            # A score that left is shown for none that stands.
            held = {both[0][one] for one in range(count) if one not in left}
            owned = {round(first[one] / STEP) * STEP for one in range(count) if one not in left}
            assert all(any(abs(value - one) < 1e-9 for one in owned) for value in held if value is not None)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_sequence_of_acts_tells_two_teams_apart(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = data.draw(st.lists(scores, min_size=2, max_size=5))
    acts = data.draw(
        st.lists(st.tuples(st.sampled_from(["withdraw", "disqualify", "choose"]), st.integers(0, 4)), max_size=8)
    )
    # What is done after how many were sent.
    when = [data.draw(st.integers(1, len(first))) for _ in acts]
    views = []
    for means in (first, fellows(data.draw, first, True)):
        site = make_site(tmp_path_factory.mktemp("board") / "b", f"public_share: 0.5\n    ladder_step: {STEP}")
        try:
            views.append(list(watched(site, means, acts, when)))
        finally:
            site.database.close()
    assert views[0] == views[1]


def watched(site: Any, means: list[float], acts: list[Action], when: list[int]) -> Any:
    """Yields all that is seen of public scores, after every act, with names in place of codes."""
    made = Made(site.place, site.database, site.phase, ladder_step=STEP)
    rival = made.send(made.team("Rival"), 0.0313)
    team, sent = made.team("Watched"), []
    for number, mean in enumerate(means, 1):
        sent.append(made.send(team, mean))
        for act in [None, *(act for act, moment in zip(acts, when, strict=True) if moment == number)]:
            if act is not None and act[1] < len(sent):
                made.leave(sent[act[1]], act[0])
            for rule in RULES:
                yield [(*row[:3], ["rival", *range(9)][[rival, *sent].index(row[3])]) for row in made.told(rule)]
            yield page_scores(site, made.phase, sent)


def page_scores(site: Any, phase: Phase, sent: list[int]) -> list[float | None]:
    """Returns what the team's own page shows for each submission."""
    board = Board(site.place, site.database, Rates())
    try:
        with site.database.read() as session:
            rows = session.scalars(select(Submission).where(Submission.id.in_(sent)).order_by(Submission.id)).all()
            found = public_means(board, session, board.phase_now(session, phase, NOBODY), rows)
    finally:
        board.standings.close()
    return [found.get(key) for key in sent]
