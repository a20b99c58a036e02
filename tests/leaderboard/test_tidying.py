"""Room: what a team's archives take, and that deleted ones leave scores, digests and a log that fits."""

import argparse
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from facesr.errors import ConfigError
from facesr.leaderboard import copies, entries, queue, tidying
from facesr.leaderboard.app import create_app
from facesr.leaderboard.checking import first_fault
from facesr.leaderboard.competition import SETTINGS, Phase, Place, read_competition
from facesr.leaderboard.handout import Handouts
from facesr.leaderboard.operations import opened
from facesr.leaderboard.storage import stored_bytes
from facesr.leaderboard.tables import Evaluation, Event, Submission, Team
from facesr.leaderboard.tidying import tidied
from facesr.png import write_png
from facesr.web.database import Database
from tests.leaderboard.made import RANKING, a_round, a_team, sha
from tests.leaderboard.site import Client, Site, make_site
from tests.leaderboard.test_pieces import DATA, Sender

IDS = ["1", "2"]


class Desk:
    """Submissions with archives in the store; each by what it is."""

    def __init__(self, place: Place, database: Database, phase: Phase) -> None:
        self.place, self.database, self.phase = place, database, phase
        self.codes: dict[str, str] = {}
        for key in IDS:
            place.low(phase).mkdir(parents=True, exist_ok=True)
            write_png(place.low(phase) / f"{key}.png", np.zeros((4, 4, 3), np.uint8))
        with database.write() as session:
            self.round_id = a_round(database, session, phase.name, IDS).id
            self.teams = {name: a_team(database, session, name)[0].id for name in ("Alpha", "Beta")}

    def send(self, name: str, team: str, data: bytes, *, outcome: str) -> None:
        with self.database.write() as session:
            stored = self.place.store().put([data], 1 << 20)
            row = entries.receive(
                self.database, session, session.get_one(Team, self.teams[team]), self.phase, stored, is_baseline=True
            )
            self.codes[name] = row.code
            session.flush()
            if outcome == "queued":
                return
            # One that waits before it is being scored by somebody else.
            job = queue.claim(self.database, session, "w", [self.phase.name])
            while job is not None and job.code != row.code:
                job = queue.claim(self.database, session, "w", [self.phase.name])
            assert job is not None
            if outcome == "refused":
                assert queue.finish_refused(self.database, session, job, "no.")
                return
            example = self.place.store().put([b"example"], 100).sha256
            found = queue.Outcome({RANKING: np.zeros(2)}, {}, sha(1), {"1": example})
            assert queue.finish_scored(self.database, session, job, self.round_id, found)
            if outcome == "withdrawn":
                entries.withdraw(self.database, session, row, "team x")

    def age(self, days: float) -> None:
        """Puts everything that is over so many days into the past."""
        with self.database.write() as session:
            before = self.database.now(session) - timedelta(days=days)
            session.execute(update(Submission).where(Submission.withdrawn.is_not(None)).values(withdrawn=before))
            session.execute(update(Submission).values(finished=before, received=before))

    def holds(self, data: bytes) -> bool:
        return self.place.store().holds(hashlib.sha256(data).hexdigest())

    def fault(self) -> str | None:
        with self.database.read() as session:
            return first_fault(session, self.place.store())

    def num_lines(self) -> int:
        with self.database.read() as session:
            return len(session.scalars(select(Event)).all())


@pytest.fixture
def desk(place: Place, database: Database, phase: Phase) -> Iterator[Desk]:
    found = Desk(place, database, phase)
    found.send("good", "Alpha", b"good", outcome="scored")
    found.send("refused", "Alpha", b"refused", outcome="refused")
    found.send("withdrawn", "Alpha", b"withdrawn", outcome="withdrawn")
    found.send("waiting", "Alpha", b"waiting", outcome="queued")
    yield found


def test_only_what_is_over_goes_and_the_log_still_fits(desk: Desk) -> None:
    desk.age(3)
    assert tidied(desk.place, desk.database, 4).codes == []
    assert desk.holds(b"refused") and desk.holds(b"withdrawn")
    before = desk.num_lines()
    dry = tidied(desk.place, desk.database, 2, is_dry=True)
    assert desk.num_lines() == before and desk.holds(b"refused") and desk.holds(b"withdrawn")
    done = tidied(desk.place, desk.database, 2)
    assert done == dry == tidying.Tidied([desk.codes["refused"], desk.codes["withdrawn"]], 2, 7 + 9)
    assert [desk.holds(data) for data in (b"good", b"refused", b"withdrawn", b"waiting", b"example")] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert desk.num_lines() == before + 2 and desk.fault() is None
    with desk.database.read() as session:
        assert len(session.scalars(select(Evaluation)).all()) == 2
        rows = {row.code: row for row in session.scalars(select(Submission))}
    assert rows[desk.codes["withdrawn"]].archive_sha256 == hashlib.sha256(b"withdrawn").hexdigest()
    assert tidied(desk.place, desk.database, 2) == tidying.Tidied([], 0, 0) and desk.num_lines() == before + 2


def test_an_equal_archive_of_somebody_else_stays(desk: Desk) -> None:
    desk.send("theirs", "Beta", b"refused", outcome="queued")
    desk.age(3)
    done = tidied(desk.place, desk.database, 2)
    assert (len(done.codes), done.num_files) == (2, 1) and desk.holds(b"refused") and desk.fault() is None


def test_a_file_that_the_board_needs_itself_stays(desk: Desk) -> None:
    """A team sends an example picture and the handout, which are refused."""
    handout = desk.place.store().path(Handouts(desk.place).of(desk.phase).sha256).read_bytes()
    desk.send("a", "Beta", b"example", outcome="refused")
    desk.send("b", "Beta", handout, outcome="refused")
    desk.age(3)
    done = tidied(desk.place, desk.database, 2)
    assert len(done.codes) == 4 and done.num_files == 2 and desk.holds(b"example") and desk.holds(handout)


def test_whoever_was_stopped_between_row_and_file_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.age(3)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tidying, "_files", killed)
        with pytest.raises(KeyboardInterrupt):
            tidied(desk.place, desk.database, 2)
    assert desk.holds(b"refused") and desk.fault() is None
    done = tidied(desk.place, desk.database, 2)
    assert (done.codes, done.num_files) == ([], 2) and not desk.holds(b"refused")


def test_a_deletion_that_the_log_does_not_have_is_found(desk: Desk) -> None:
    desk.place.store().remove(hashlib.sha256(b"refused").hexdigest())
    assert "missing or damaged" in str(desk.fault())
    with desk.database.write() as session:
        moment = desk.database.now(session)
        session.execute(
            update(Submission).where(Submission.code == desk.codes["refused"]).values(archive_removed=moment)
        )
    assert "do not agree whether its archive was deleted" in str(desk.fault())


def test_what_a_team_has_is_counted_once_and_less_after_tidying(desk: Desk) -> None:
    def used() -> int:
        with desk.database.read() as session:
            return stored_bytes(session, session.get_one(Team, desk.teams["Alpha"]))

    assert used() == len(b"good" + b"refused" + b"withdrawn" + b"waiting")
    desk.age(3)
    tidied(desk.place, desk.database, 2)
    assert used() == len(b"good" + b"waiting")


def board_site(folder: Path) -> Site:
    site = make_site(folder)
    path = folder / SETTINGS
    text = path.read_text().replace("max_archive_mib: 1", "max_archive_mib: 1\nteam_storage_mib: 1\nkeep_days: 1")
    path.write_text(text)
    site.place = Place(folder)
    site.team("First")
    site.team("Second")
    return site


def test_a_team_over_its_quota_sends_nothing_by_any_way(tmp_path: Path) -> None:
    site = board_site(tmp_path / "board")
    app = create_app(site.place, site.database)
    client = Client(app)
    sender = Sender(client, site.tokens["First"])
    headers = {"Authorization": f"Bearer {site.tokens['First']}", "Content-Type": "application/zip"}
    way, large = "/api/v1/phases/final/submissions", b"x" * 900_000
    assert sender.announce().status_code == 201
    answer = client.request("POST", way, content=large, headers=headers)
    assert answer.status_code == 413 and answer.json()["kind"] == "quota" and "0.2 MiB, and 1 MiB" in answer.text
    assert client.get("/api/v1/phases/final/allowance", headers=headers).json()["storage_left_bytes"] == (
        (1 << 20) - len(DATA)
    )
    # What was announced is its own room: it may come, whole or in pieces.
    code = sender.announce().json()["code"]
    assert sender.send(code, 0, DATA).json()["submission"] is not None
    assert sender.announce(large).json()["kind"] == "quota"
    member = Client(app).sign_in(site.tokens["First"])
    token = member.form_token("/team", "/team/upload/final")
    more = {"data": {"form_token": token}, "files": {"archive": ("a.zip", large, "application/zip")}}
    assert member.request("POST", "/team/upload/final", **more).status_code == 413
    assert "0.2 of 1 MiB that are kept" in member.get("/team").text
    assert Sender(client, site.tokens["Second"]).announce(large).status_code == 201
    files = [path for path in site.place.store().folder.rglob("*") if path.is_file()]
    assert [path.name for path in files] == [hashlib.sha256(DATA).hexdigest()]
    site.database.close()


def test_a_deleted_archive_does_not_come_back_by_sending_it_again(tmp_path: Path) -> None:
    site = board_site(tmp_path / "board")
    client = Client(create_app(site.place, site.database))
    sender = Sender(client, site.tokens["First"])
    code = sender.announce().json()["code"]
    row = sender.send(code, 0, DATA).json()["submission"]["code"]
    with site.database.write() as session:
        job = queue.claim(site.database, session, "w", ["final"])
        assert job is not None and queue.finish_refused(site.database, session, job, "no.")
        session.flush()
        session.execute(update(Submission).values(finished=site.database.now(session) - timedelta(days=2)))
    done = tidied(site.place, site.database, 1)
    assert done.num_files == 1 and sender.announce().json()["submission"]["code"] == row
    headers = {"Authorization": f"Bearer {site.tokens['First']}", "Content-Type": "application/zip"}
    again = client.request("POST", "/api/v1/phases/final/submissions", content=DATA, headers=headers)
    assert again.status_code == 200 and again.json()["code"] == row
    assert not site.place.store().holds(hashlib.sha256(DATA).hexdigest())
    assert (
        "to make room"
        in Client(create_app(site.place, site.database)).sign_in(site.tokens["First"]).get(f"/submissions/{row}").text
    )
    site.database.close()


def test_the_command_and_a_backup_after_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = board_site(tmp_path / "board")
    sender = Sender(Client(create_app(site.place, site.database)), site.tokens["First"])
    sender.send(sender.announce().json()["code"], 0, DATA)
    with site.database.write() as session:
        job = queue.claim(site.database, session, "w", ["final"])
        assert job is not None and queue.finish_refused(site.database, session, job, "no.")
        session.flush()
        session.execute(update(Submission).values(finished=site.database.now(session) - timedelta(days=2)))
    sender.announce(b"unfinished" * 10_000)
    site.database.close()
    folder = tmp_path / "board"
    for is_dry, words in ((True, "1 submissions would be deleted"), (False, "1 submissions were deleted: 1 files")):
        tidying.tidy(argparse.Namespace(folder=folder, dry_run=is_dry))
        assert words in capsys.readouterr().out
    copies.backup(argparse.Namespace(folder=folder, file=tmp_path / "b.tar"))
    copies.restore(argparse.Namespace(file=tmp_path / "b.tar", folder=tmp_path / "again", database=None))
    with opened(tmp_path / "again") as (place, database), database.read() as session:
        assert first_fault(session, place.store()) is None
        assert session.scalars(select(Submission)).one().archive_removed is not None
    (folder / SETTINGS).write_text((folder / SETTINGS).read_text().replace("keep_days: 1", ""))
    with pytest.raises(ConfigError, match="is not set, so archives are kept"):
        tidying.tidy(argparse.Namespace(folder=folder, dry_run=True))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("team_storage_mib: 0", "team_storage_mib"),
        ("max_archive_mib: 300\nteam_storage_mib: 299", "at least max_archive_mib"),
        ("keep_days: 0", "keep_days"),
    ],
)
def test_settings_out_of_range(place: Place, line: str, words: str) -> None:
    path = place.folder / SETTINGS
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(ConfigError, match=words):
        read_competition(place.folder)
