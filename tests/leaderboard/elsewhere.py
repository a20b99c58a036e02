"""A contest with real archives on a real port, for workers that see nothing but its address."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from sqlalchemy import select

from facesr.data.export import export_synthetic
from facesr.leaderboard import entries, queue, rescoring, teams, worker_tokens
from facesr.leaderboard.app import create_app
from facesr.leaderboard.competition import Place
from facesr.leaderboard.founding import make_competition
from facesr.leaderboard.operations import opened
from facesr.leaderboard.scoring import protocol_named
from facesr.leaderboard.tables import Evaluation, Submission
from facesr.methods.folder import RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.open import open_method
from facesr.submission.pack import pack
from facesr.tiles import Tiles
from facesr.web.database import Database
from tests.web.line import Between
from tests.web.serving import served

NUM_FACES = 6


@dataclass
class Contest:
    """A served contest.

    Attributes:
        url: of its board.
        faces: folder with high/ and low/.
        folder: for archives.
    """

    place: Place
    database: Database
    url: str
    faces: Path
    folder: Path

    def sent(self, team: str, method: str = "bicubic") -> str:
        """Returns the code of a submission that waits: a new team's, restored by a method, or a file that is no ZIP."""
        path = self.folder / f"{team}.zip"
        if method == "broken":
            path.write_bytes(b"PK not really")
        else:
            options = RestoreOptions(torch.device("cpu"), 8, False, Tiles(192, 24))
            low = LowPictures.open(self.faces / "low")
            restored = restore_folder(open_method(method, options.device), low, options, self.folder / "restored")
            path.unlink(missing_ok=True)
            pack(restored.path, path, team=team, protocol=protocol_named("asc19_final"))
        stored = self.place.store().put([path.read_bytes()], 1 << 24)
        with self.database.write() as session:
            new = teams.new_team(self.database, session, team)
            return entries.receive(self.database, session, new, self.place.competition.phases[0], stored).code

    def begin(self) -> None:
        """Begins the first round, as facesr board rescore does."""
        rescoring._begin(self.place, self.database, self.place.competition.phases[0], "cpu")

    def token(self, name: str) -> str:
        """Returns a new token of a worker."""
        with self.database.write() as session:
            return worker_tokens.issue(self.database, session, name)

    def row(self, code: str) -> Submission:
        """Returns the row of a submission."""
        with self.database.read() as session:
            return entries.submission_of(session, code)

    def evaluation(self, code: str) -> Evaluation:
        """Returns the only scores of a submission."""
        with self.database.read() as session:
            rule = Evaluation.submission_id == entries.submission_of(session, code).id
            return session.scalars(select(Evaluation).where(rule)).one()


@contextlib.contextmanager
def contest(folder: Path) -> Iterator[Contest]:
    """Yields a contest that is served until the block ends."""
    faces = folder / "faces"
    export_synthetic(faces, NUM_FACES)
    make_competition(folder / "contest", high=faces / "high", low=faces / "low", title="Elsewhere")
    with opened(folder / "contest") as (place, database), served(create_app(place, database)) as url:
        yield Contest(place, database, url, faces, folder)


class Bad(Between):
    """A line that breaks: each of the first connections is closed after some bytes of the answer.

    Attributes:
        url: of the board, through this line.
        breaks: bytes after which the next connections break, one entry each; then the line is good.
        asked: beginnings of all requests.
    """

    def __init__(self, url: str, breaks: list[int]) -> None:
        self.breaks = breaks
        self.asked: list[bytes] = []
        super().__init__(url)
        self.url = f"http://127.0.0.1:{self.port}"

    def carry(self, near: socket.socket) -> None:
        """Carries a connection until it breaks."""
        left = self.breaks.pop(0) if self.breaks else 1 << 40
        with near, socket.create_connection(self.target) as far, contextlib.suppress(OSError):
            threading.Thread(target=self._send, args=(near, far), daemon=True).start()
            # An answer breaks when it has begun, so that what was asked has been heard.
            while data := far.recv(1 << 14):
                near.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    break
            near.shutdown(socket.SHUT_RDWR)

    def _send(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(1 << 16):
                self.asked.append(data[:400])
                far.sendall(data)


def held_by(contest: Contest) -> str | None:
    """Returns the code of a submission that a worker holds, None where none does."""
    with contest.database.read() as session:
        return session.scalar(select(Submission.code).where(Submission.lease.is_not(None)))


def num_held(contest: Contest, name: str) -> int:
    """Returns how many jobs a worker holds."""
    with contest.database.read() as session:
        return queue.num_held(contest.database, session, name)
