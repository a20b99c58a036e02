"""What teams may send: limits, the same archive twice, withdrawal and choice."""

from datetime import timedelta

import numpy as np
import pytest

from facesr.leaderboard import entries, phases, queue, teams
from facesr.leaderboard.competition import Phase
from facesr.leaderboard.faults import NotAllowed, NotFound, NotNow, OverLimit
from facesr.leaderboard.tables import Submission
from facesr.web.database import Database
from facesr.web.store import Stored
from tests.leaderboard.made import RANKING, a_round, a_team, scored, sha

IDS = ["1", "2", "3", "4"]


def archive(number: int) -> Stored:
    return Stored(sha(number), 10)


def test_limits_count_what_they_say(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        this = a_round(database, session, phase.name, IDS)
        entries.receive(database, session, team, phase, archive(1))
        entries.receive(database, session, team, phase, archive(2))
        with pytest.raises(OverLimit, match="2 of your submissions wait"):
            entries.receive(database, session, team, phase, archive(3))
        # One refused, one failed by the organiser's fault: neither counts among the scored ones.
        job = queue.claim(database, session, "w", [phase.name])
        assert job is not None and queue.finish_refused(database, session, job, "no manifest.json.")
        for _ in range(queue.MAX_ATTEMPTS):
            job = queue.claim(database, session, "w", [phase.name])
            assert job is not None and queue.finish_failed(database, session, job, "disk full")
        assert queue.claim(database, session, "w", [phase.name]) is None
        left = entries.allowance(database, session, team, phase)
        assert (left.scored_left, left.refused_left, left.in_all_left, left.waiting_left) == (3, 1, 5, 2)
        assert left.resets - database.now(session) <= timedelta(days=1)
        for number in (4, 5, 6):
            entries.receive(database, session, team, phase, archive(number))
            job = queue.claim(database, session, "w", [phase.name])
            outcome = queue.Outcome({RANKING: np.zeros(4)}, {}, sha(number))
            assert job is not None and queue.finish_scored(database, session, job, this.id, outcome)
        with pytest.raises(OverLimit, match="3 scored submissions a day"):
            entries.receive(database, session, team, phase, archive(7))
        # What came yesterday counts in all, not today.
        for row in session.query(Submission).filter(Submission.state == entries.SCORED):
            row.received -= timedelta(days=1)
        session.flush()
        assert entries.allowance(database, session, team, phase).scored_left == 3
        for number in (8, 9):
            entries.receive(database, session, team, phase, archive(number))
        with pytest.raises(OverLimit, match="5 scored submissions in this phase"):
            entries.receive(database, session, team, phase, archive(10))


def test_same_archive_is_the_same_submission(database: Database, phase: Phase) -> None:
    with database.write() as session:
        alpha, _ = a_team(database, session, "Alpha")
        beta, _ = a_team(database, session, "Beta")
        first = entries.receive(database, session, alpha, phase, archive(1))
        assert entries.receive(database, session, alpha, phase, archive(1)).id == first.id
        assert entries.receive(database, session, beta, phase, archive(1)).id != first.id
        assert entries.allowance(database, session, alpha, phase).scored_left == 2
        entries.withdraw(database, session, first, "team Alpha")
        with pytest.raises(NotNow, match="withdrawn"):
            entries.receive(database, session, alpha, phase, archive(1))
        # Withdrawing gives no new trial, but frees a place among those that wait.
        left = entries.allowance(database, session, alpha, phase)
        assert (left.scored_left, left.waiting_left) == (2, 2)


def test_failed_one_may_be_sent_again(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        first = entries.receive(database, session, team, phase, archive(1))
        for _ in range(queue.MAX_ATTEMPTS):
            job = queue.claim(database, session, "w", [phase.name])
            assert job is not None
            queue.finish_failed(database, session, job, "out of memory")
        assert first.state == entries.FAILED and "does not count" in first.problem
        assert "out of memory" not in first.problem
        again = entries.receive(database, session, team, phase, archive(1))
        assert (again.id, again.state, again.attempts) == (first.id, entries.QUEUED, 0)


def test_only_an_open_phase_takes_archives(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        now = database.now(session)
        phases.move(database, session, phase.name, starts=now + timedelta(hours=1))
        with pytest.raises(NotNow, match="begins at"):
            entries.receive(database, session, team, phase, archive(1))
        phases.move(database, session, phase.name, starts=now - timedelta(hours=1))
        sent = entries.receive(database, session, team, phase, archive(1))
        phases.close(database, session, phase.name, "over")
        with pytest.raises(NotNow, match="closed"):
            entries.receive(database, session, team, phase, archive(2))
        with pytest.raises(NotNow, match="closed"):
            entries.withdraw(database, session, sent, "team Alpha")
        entries.withdraw(database, session, sent, "organiser")
        phases.move(database, session, phase.name, ends=now + timedelta(days=9))
        entries.receive(database, session, team, phase, archive(2))


def test_choice(database: Database, phase: Phase) -> None:
    chosen = phase.model_copy(update={"rank_rule": "chosen", "num_chosen": 1})
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        this = a_round(database, session, phase.name, IDS)
        one = scored(database, session, team, phase, 1, this, np.zeros(4))
        two = scored(database, session, team, phase, 2, this, np.zeros(4))
        waits = entries.receive(database, session, team, phase, archive(3))
        with pytest.raises(NotNow, match="nothing is chosen"):
            entries.choose(database, session, one, phase, chosen=True)
        entries.choose(database, session, one, chosen, chosen=True)
        with pytest.raises(NotNow, match="1 submissions are chosen"):
            entries.choose(database, session, two, chosen, chosen=True)
        with pytest.raises(NotNow, match="only a scored"):
            entries.choose(database, session, waits, chosen, chosen=True)
        entries.choose(database, session, one, chosen, chosen=False)
        entries.choose(database, session, two, chosen, chosen=True)
        assert (one.chosen, two.chosen is not None) == (None, True)


def test_another_teams_submission_is_not_there(database: Database, phase: Phase) -> None:
    with database.write() as session:
        alpha, _ = a_team(database, session, "Alpha")
        beta, _ = a_team(database, session, "Beta")
        sent = entries.receive(database, session, alpha, phase, archive(1))
        with pytest.raises(NotFound):
            entries.submission_of(session, sent.code, beta)
        with pytest.raises(NotFound):
            entries.submission_of(session, "x" * 16)
        assert entries.submission_of(session, sent.code, alpha) is sent


def test_disqualified_team_sends_nothing(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        entries.disqualify(database, session, team, "two accounts")
        with pytest.raises(NotAllowed):
            entries.receive(database, session, team, phase, archive(1))


def test_equal_pixels_of_other_teams(database: Database, phase: Phase) -> None:
    with database.write() as session:
        alpha, _ = a_team(database, session, "Alpha")
        beta, _ = a_team(database, session, "Beta")
        this = a_round(database, session, phase.name, IDS)
        first = scored(database, session, alpha, phase, 1, this, np.zeros(4), "p" * 64)
        again = scored(database, session, alpha, phase, 2, this, np.zeros(4), "p" * 64)
        copy = scored(database, session, beta, phase, 3, this, np.zeros(4), "p" * 64)
        other = scored(database, session, beta, phase, 4, this, np.zeros(4), "q" * 64)
        assert entries.alike(session, copy) == [first, again]
        assert entries.alike(session, first) == [copy]
        assert entries.alike(session, other) == []


def test_registration(database: Database, phase: Phase) -> None:
    with database.write() as session:
        code = teams.invite(database, session, uses=2)
        team, token = teams.register(database, session, code, " Zo\u00eb ", ["A", " ", "B"])
        assert (team.name, team.members) == ("Zo\u00eb", ["A", "B"])
        assert teams.holder_of(session, token, [teams.TEAM]).team is team
        for wrong in (token[:-1], "x" * 43, "", token + "\n", code):
            with pytest.raises(NotAllowed):
                teams.holder_of(session, wrong, [teams.TEAM])
        with pytest.raises(NotAllowed):
            teams.holder_of(session, token, [teams.ORGANISER])
        # A taken name costs no use of the invitation.
        for alike in ("zo\u00eb", "ZO\u00cb", "z o \u00eb"):
            with pytest.raises(NotNow):
                teams.register(database, session, code, alike)
        teams.register(database, session, code, "Beta")
        with pytest.raises(NotAllowed):
            teams.register(database, session, code, "Gamma")
        teams.revoke_tokens(database, session, teams.TEAM, team)
        with pytest.raises(NotAllowed):
            teams.holder_of(session, token, [teams.TEAM])


def test_a_team_of_an_older_board_is_found_by_its_name(database: Database) -> None:
    """Names with unseen characters were taken once, with them in the key."""
    with database.write() as session:
        old, plain = a_team(database, session, "Beta")[0], a_team(database, session, "Alpha")[0]
        old.name, old.key = "Alpha\ufe0f", "alpha\ufe0f"
        session.flush()
        assert teams.team_named(session, "Alpha\ufe0f").id == old.id
        assert teams.team_named(session, "Al\u034fpha").id == plain.id and teams.key_of("e\u034f\u0301") == "\u00e9"


@pytest.mark.parametrize("name", ["\u0410lpha", "Alph\u0430", "\u0391LPHA", "\uff21lpha", "a l p h a"])
def test_team_name_that_looks_like_another(database: Database, name: str) -> None:
    with database.write() as session:
        teams.new_team(database, session, "Alpha")
        with pytest.raises(NotNow, match="looks like it"):
            teams.new_team(database, session, name)
        assert teams.team_named(session, name).name == "Alpha"
