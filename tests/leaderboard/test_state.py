"""A contest of chance: whatever is done in whatever order, limits hold, nothing is scored twice, the log is whole."""

import itertools
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard import checking, entries, phases, queue, rescoring, teams
from facesr.leaderboard.competition import KEY, SETTINGS, Phase, Place
from facesr.leaderboard.faults import BoardError
from facesr.leaderboard.standing import PRIVATE, PUBLIC, standing
from facesr.leaderboard.tables import Base, Evaluation, Submission, Team
from facesr.web.database import Database
from facesr.web.store import Store, Stored
from tests.leaderboard.made import RANKING, a_round, sha

IDS = [str(number) for number in range(6)]
START = datetime(2026, 5, 1, 9, tzinfo=UTC)
YAML = """
title: A test
phases:
  - name: final
    title: ID similarity
    protocol: asc19_final
    starts: 2026-05-01T00:00:00Z
    ends: 2026-05-04T00:00:00Z
    references: references
    rank_rule: {rule}
    limits: {{scored_per_day: 3, refused_per_day: 2, scored_in_all: 5, waiting: 2}}
"""
TEAM = st.integers(0, 2)
ANY = st.integers(0, 30)


class Contest(RuleBasedStateMachine):
    """Teams, workers and an organiser on one database in memory of this process."""

    @initialize(rank_rule=st.sampled_from(["best", "last", "chosen"]))
    def begin(self, rank_rule: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / SETTINGS).write_text(YAML.format(rule=rank_rule), encoding="utf-8")
        (folder / KEY).write_text("07" * 32, encoding="ascii")
        self.place = Place(folder)
        self.phase: Phase = self.place.competition.phases[0]
        self.database = Database(f"sqlite:///{folder / 'board.sqlite'}")
        Base.metadata.create_all(self.database.engine)
        self.moment = START
        self.database.now = lambda _: self.moment  # type: ignore[method-assign]
        self.jobs: list[tuple[queue.Job, int]] = []
        self.numbers = itertools.count(1)
        with self.database.write() as session:
            phases.sync(self.database, session, self.place.competition)
            a_round(self.database, session, "final", IDS, f"{0:064x}")
            for name in ("Alpha", "Beta", "Gamma"):
                teams.new_team(self.database, session, name)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def submission(self, session: Session, number: int) -> Submission | None:
        rows = session.scalars(select(Submission).order_by(Submission.id)).all()
        return rows[number % len(rows)] if rows else None

    @rule(number=TEAM, old=st.booleans())
    def send(self, number: int, old: bool) -> None:
        with self.database.write() as session:
            team = session.scalars(select(Team).order_by(Team.id)).all()[number]
            left = entries.allowance(self.database, session, team, self.phase)
            is_open = phases.state_of(phases.times_of(session, "final"), self.moment) == phases.OPEN
            known = set(session.scalars(select(Submission.id)))
            content = 1 if old else next(self.numbers)
            try:
                row = entries.receive(self.database, session, team, self.phase, Stored(sha(content), 1))
            except BoardError:
                return
            if row.id not in known:
                assert left.is_left and is_open and not team.disqualified

    @rule()
    def claim(self) -> None:
        with self.database.write() as session:
            current = queue.current_round(session, "final")
            job = queue.claim(self.database, session, "w", ["final"])
            if job is not None and current is not None:
                self.jobs.append((job, current.id))

    @precondition(lambda self: self.jobs)
    @rule(number=ANY, how=st.sampled_from(["scored", "refused", "failed", "prolong"]), score=st.integers(0, 4))
    def finish(self, number: int, how: str, score: int) -> None:
        job, round_id = self.jobs[number % len(self.jobs)]
        with self.database.write() as session:
            if how == "scored":
                values = np.linspace(0, 0.01, len(IDS)) + score / 10
                outcome = queue.Outcome({RANKING: values}, {}, sha(score))
                queue.finish_scored(self.database, session, job, round_id, outcome)
            elif how == "refused":
                queue.finish_refused(self.database, session, job, "no.")
            elif how == "failed":
                queue.finish_failed(self.database, session, job, "a bug")
            else:
                queue.prolong(self.database, session, job)

    @rule(hours=st.sampled_from([0.05, 7.0, 24.0]))
    def wait(self, hours: float) -> None:
        self.moment += timedelta(hours=hours)

    @rule(number=ANY, by_team=st.booleans())
    def withdraw(self, number: int, by_team: bool) -> None:
        with self.database.write() as session:
            row = self.submission(session, number)
            if row is not None:
                try:
                    entries.withdraw(self.database, session, row, "team" if by_team else "organiser")
                except BoardError:
                    assert row.withdrawn is not None or by_team

    @rule(number=ANY, chosen=st.booleans())
    def choose(self, number: int, chosen: bool) -> None:
        with self.database.write() as session:
            row = self.submission(session, number)
            if row is not None:
                try:
                    entries.choose(self.database, session, row, self.phase, chosen=chosen)
                except BoardError:
                    return

    @rule(number=ANY, of_team=st.booleans(), back=st.booleans())
    def disqualify(self, number: int, of_team: bool, back: bool) -> None:
        with self.database.write() as session:
            row = self.submission(session, number)
            if row is not None:
                subject = session.get_one(Team, row.team_id) if of_team else row
                entries.disqualify(self.database, session, subject, "" if back else "cheats")

    @rule(hours=st.integers(1, 60), close=st.booleans())
    def move_phase(self, hours: int, close: bool) -> None:
        with self.database.write() as session:
            try:
                if close:
                    phases.close(self.database, session, "final", "")
                else:
                    phases.move(self.database, session, "final", ends=self.moment + timedelta(hours=hours))
            except BoardError:
                return

    @rule(publish=st.booleans())
    def rescore(self, publish: bool) -> None:
        with self.database.write() as session:
            current = queue.current_round(session, "final")
            assert current is not None
            try:
                if publish:
                    rescoring.publish(self.place, self.database, session, self.phase)
                elif current.published is not None:
                    a_round(self.database, session, "final", IDS, f"{current.id:064x}")
            except BoardError:
                return

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "database"):
            return
        with self.database.read() as session:
            rows = {row.id: row for row in session.scalars(select(Submission))}
            store = cast(Store, SimpleNamespace(is_intact=lambda _: True))
            assert checking.first_fault(session, store) is None
            pairs = session.execute(select(Evaluation.submission_id, Evaluation.round_id)).all()
            assert len(pairs) == len(set(pairs))
            assert {key for key, _ in pairs} == {key for key, row in rows.items() if row.state == entries.SCORED}
            self._limits(list(rows.values()))
            self._rounds(session, rows)
            for view in (PUBLIC, PRIVATE):
                self._table(session, rows, view)

    def _limits(self, rows: list[Submission]) -> None:
        limits = self.phase.limits
        counted = [row for row in rows if row.state in (entries.QUEUED, entries.SCORED)]
        assert max(Counter(row.team_id for row in counted).values(), default=0) <= limits.scored_in_all
        days = Counter((row.team_id, row.received.date()) for row in counted)
        assert max(days.values(), default=0) <= limits.scored_per_day
        waits = Counter(row.team_id for row in rows if row.state == entries.QUEUED and row.withdrawn is None)
        assert max(waits.values(), default=0) <= limits.waiting
        for row in rows:
            assert 0 <= row.attempts <= queue.MAX_ATTEMPTS
        chosen = Counter(row.team_id for row in rows if row.chosen is not None)
        assert max(chosen.values(), default=0) <= self.phase.num_chosen

    def _rounds(self, session: Session, rows: dict[int, Submission]) -> None:
        """Whoever has a score has one in the newest round, waits for it, or was given up or refused there."""
        current = queue.current_round(session, "final")
        assert current is not None
        there = set(session.scalars(select(Evaluation.submission_id).where(Evaluation.round_id == current.id)))
        for key, row in rows.items():
            if row.state == entries.SCORED and row.withdrawn is None and not row.note:
                assert (key in there) != (row.wanted_round == current.id)

    def _table(self, session: Session, rows: dict[int, Submission], view: str) -> None:
        table = standing(self.place, session, self.phase, view)
        assert len({one.team.id for one in table.entries}) == len(table.entries)
        ranked = [one for one in table.entries if one.rank is not None]
        for one in table.entries:
            row = rows[one.submission.id]
            assert row.state == entries.SCORED and row.withdrawn is None
        for one in ranked:
            assert one.rank is not None and 1 <= one.rank.first <= one.rank.last <= len(ranked)
            assert not one.team.disqualified and not rows[one.submission.id].disqualified
        scores = [one.shown_score for one in ranked]
        assert scores == sorted(scores, reverse=True)


TestContest: Any = Contest.TestCase
TestContest.settings = settings(
    max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
