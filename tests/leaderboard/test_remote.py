"""A worker elsewhere, over a real connection: the figures of one beside the board, whatever the line does."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from facesr.__main__ import main
from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.leaderboard import line as lines
from facesr.leaderboard import references, worker_tokens
from facesr.leaderboard.desk import Away, LocalDesk
from facesr.leaderboard.faults import NotAllowed
from facesr.leaderboard.line import Line
from facesr.leaderboard.remote import RemoteDesk
from facesr.leaderboard.worker import Worker
from facesr.submission.exchange import Answer
from tests.leaderboard.elsewhere import Bad, Contest, contest, num_held


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with contest(tmp_path_factory.mktemp("elsewhere")) as found:
        found.begin()
        yield found


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_FIRST_PAUSE_SECONDS", 0.01)


def desk(board: Contest, name: str, cache: Path, url: str = "", stop: threading.Event | None = None) -> RemoteDesk:
    return RemoteDesk(Line(url or board.url, board.token(name), stop), cache)


@pytest.mark.slow
def test_figures_are_those_of_a_worker_beside_the_board(board: Contest, tmp_path: Path) -> None:
    near = [board.sent("Near"), board.sent("NearBroken", "broken")]
    Worker(LocalDesk(board.place, board.database, "beside")).run(threading.Event(), until_idle=True)
    far = [board.sent("Farr"), board.sent("FarBroken", "broken")]
    assert Worker(desk(board, "box", tmp_path)).run(threading.Event(), until_idle=True) == 2
    one, other = board.evaluation(near[0]), board.evaluation(far[0])
    assert (one.worker, other.worker) == ("beside", "box")
    assert (one.values, one.examples, one.round_id) == (other.values, other.examples, other.round_id)
    assert one.examples
    first, second = board.row(near[0]), board.row(far[0])
    assert first.pixels_sha256 == second.pixels_sha256 and second.problem == second.note == ""
    assert {**first.facts, "team": "Farr"} == second.facts
    refused = board.row(far[1])
    assert refused.state == "refused" and refused.problem == board.row(near[1]).problem != ""
    # The second worker of this machine has them already.
    (folder,) = (tmp_path / "references").iterdir()
    before = folder.stat().st_mtime_ns
    board.sent("Again")
    assert Worker(desk(board, "box2", tmp_path)).run(threading.Event(), until_idle=True) == 1
    assert folder.stat().st_mtime_ns == before and sorted(path.name for path in folder.iterdir()) == ["high", "low"]


@pytest.mark.slow
def test_archive_of_another_team_is_refused_there(board: Contest, tmp_path: Path) -> None:
    board.sent("Owner", "nearest")
    Worker(LocalDesk(board.place, board.database, "beside")).run(threading.Event(), until_idle=True)
    shutil.copy(board.folder / "Owner.zip", board.folder / "Thief.zip")
    code = board.sent("Thief", "nearest")
    with board.database.write() as session:
        session.merge(board.row(code)).archive_sha256 = (
            board.place.store().put([(board.folder / "Owner.zip").read_bytes()], 1 << 24).sha256
        )
    Worker(desk(board, "thiefs", tmp_path)).run(threading.Event(), until_idle=True)
    assert board.row(code).problem.startswith("the archive was packed for team 'Owner', and team 'Thief' sent")


def test_a_line_that_breaks_everywhere_costs_nothing(board: Contest, tmp_path: Path) -> None:
    code = board.sent("Patient", "nearest")
    # Within the head of an answer, within its body, and after the board has kept what it was told.
    bad = Bad(board.url, [])
    with contextlib.closing(bad):
        worker = Worker(desk(board, "patient", tmp_path, bad.url))
        bad.breaks[:] = [1 << 40, 100, 3000, 40_000, 0]
        stop = threading.Event()
        done: list[int] = []

        def work() -> None:
            for _ in range(20):
                with contextlib.suppress(Away):
                    done.append(worker.run(stop, until_idle=True))
                if board.row(code).state == "scored":
                    return

        work()
    assert bad.breaks == [] and board.row(code).state == "scored" and board.row(code).attempts == 1
    assert any(b"/references/" in head and b"Range: bytes=" in head for head in bad.asked)


def test_an_answer_to_a_report_that_is_lost(board: Contest, tmp_path: Path) -> None:
    code = board.sent("Unheard", "nearest")
    bad = Bad(board.url, [])
    with contextlib.closing(bad):
        found = desk(board, "unheard", tmp_path, bad.url)
        send = found._report

        def lost(*arguments: Any, **report: Any) -> bool:
            bad.breaks[:] = [0]
            return send(*arguments, **report)

        found._report = lost  # type: ignore[method-assign]
        assert Worker(found).run(threading.Event(), until_idle=True) == 1
    assert sum(b"/report" in head for head in bad.asked) == 2
    assert (board.row(code).state, board.row(code).note, num_held(board, "unheard")) == ("scored", "", 0)


@pytest.mark.slow
def test_a_worker_that_lost_its_lease_is_told_so(
    board: Contest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = board.sent("Slow", "nearest")
    found = desk(board, "slow", tmp_path)
    scored = found.scored

    def late(job: Any, *rest: Any) -> bool:
        with board.database.write() as session:
            session.merge(board.row(code)).lease = "f" * 64
        assert not found.prolong(job)
        return scored(job, *rest)

    found.scored = late  # type: ignore[method-assign]
    Worker(found).step()
    assert any("the lease was lost" in record.message for record in caplog.records)
    assert board.row(code).state == "queued"
    with board.database.write() as session:
        session.merge(board.row(code)).lease_until = None
    Worker(LocalDesk(board.place, board.database, "beside")).run(threading.Event(), until_idle=True)
    assert board.evaluation(code).worker == "beside"


def test_a_revoked_token_ends_a_worker(board: Contest, tmp_path: Path) -> None:
    found = desk(board, "gone", tmp_path)
    with board.database.write() as session:
        worker_tokens.revoke(board.database, session, "gone")
    with pytest.raises(NotAllowed, match="does not take this worker's token"):
        Worker(found).run(threading.Event())
    with pytest.raises(NotAllowed, match="new one"):
        RemoteDesk(Line(board.url, "x" * 43), tmp_path)


def test_a_board_that_is_away_is_waited_for_until_the_worker_is_stopped(board: Contest, tmp_path: Path) -> None:
    stop = threading.Event()
    found = desk(board, "waits", tmp_path, stop=stop)
    found._line.board = "http://127.0.0.1:9"
    with pytest.raises(Away, match="cannot be reached"):
        Worker(found).run(stop, until_idle=True)
    stop.set()
    with pytest.raises(Away):
        found._line.patiently("POST", "/claims", {}, "")


def test_files_of_a_board_are_believed_by_their_digest_alone(board: Contest, tmp_path: Path) -> None:
    board.sent("Digest", "nearest")
    found = desk(board, "digest", tmp_path)
    (wanted,) = found.waiting()
    for key, value in {"references_sha256": "0" * 64, "references_bytes": 100}.items():
        bad = wanted.model_copy(update={key: value})
        with pytest.raises(DataError, match="another file"):
            RemoteDesk(found._line, tmp_path).high(bad)
        assert not [path for path in (tmp_path / "references").iterdir() if path.is_dir()]
    assert len(list(found.high(wanted).glob("*.png"))) == 6
    with pytest.raises(FaceSRError, match="have changed"):
        found.round_of(wanted.model_copy(update={"references_sha256": "1" * 64}), None)  # type: ignore[arg-type]
    with pytest.raises(FaceSRError, match="facesr board rescore"):
        found.round_of(wanted.model_copy(update={"round": None}), None)  # type: ignore[arg-type]
    Worker(LocalDesk(board.place, board.database, "beside")).run(threading.Event(), until_idle=True)


@pytest.mark.parametrize("face", ["/home/somebody/photo", "../../photo", "high/photo", "a\\b", "C:photo", ""])
def test_a_board_names_no_file_of_the_worker(
    board: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face: str
) -> None:
    found = desk(board, "named" + sha256(face.encode()).hexdigest()[:8], tmp_path)
    job = {"code": "c", "phase": "final", "archive_sha256": "0" * 64, "num_bytes": 1, "lease": "1" * 64}
    job |= {"attempt": 1, "team": None, "lease_seconds": 60.0}
    asked: dict[str, Any] = {}
    monkeypatch.setattr(found._line, "once", lambda *_: Answer(200, {"job": {**job, "examples": asked["faces"]}}))
    asked["faces"] = ["000001", "ein Gesicht"]
    claimed = found.claim({"final": 1})
    assert claimed is not None and claimed.examples == ("000001", "ein Gesicht")
    asked["faces"] = ["000001", face]
    with pytest.raises(DataError, match="none of a board of this version"):
        found.claim({"final": 1})


@pytest.mark.parametrize(
    "name", ["../x.png", "high/../../x.png", "/high/x.png", "high/x.txt", "high/a/b.png", "other/x.png", "high/CON.png"]
)
def test_references_are_pictures_of_two_folders(tmp_path: Path, name: str) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("high/good.png", b"x")
        file.writestr(name, b"x")
    with pytest.raises(DataError, match="no picture"):
        references.unpack(tmp_path / "a.zip", tmp_path / "out" / "made")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("high/bomb.png", b"\0" * 1_000_000)
    with pytest.raises(DataError, match="no picture"):
        references.unpack(tmp_path / "b.zip", tmp_path / "out" / "made")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.zip", "b.zip"]


def test_what_is_wrong_with_the_command_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token.txt"
    token.write_text("x" * 43)
    for words, told in (
        (["http://board.example.org", f"token={token}"], "is not encrypted"),
        (["https://board.example.org"], "needs token=FILE"),
        (["https://board.example.org", str(token)], "needs token=FILE"),
        (["https://board.example.org", f"token={tmp_path / 'none'}"], "cannot be read"),
        (["https://board.example.org", f"token={token}", "--name", "me"], "name of its token"),
        (["http://127.0.0.1:9", f"token={token}"], "cannot be reached"),
        ([str(tmp_path), f"token={token}"], "belongs to the address"),
    ):
        assert main(["board", "worker", *words]) == 2, words
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1 and said.startswith("error: "), said
    with pytest.raises(ConfigError):
        Line("http://board.example.org", "x" * 43)
