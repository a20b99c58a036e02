"""The tables of a board. `facesr/leaderboard/migrations/` makes them; a test holds both together.

The row of a submission is the job of scoring it as well: its state says who has to do what.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from facesr.web.database import UtcDateTime, named_metadata

# Above 2 GiB, too. SQLite's INTEGER has 64 bits; under another name the table would have to be made anew, which SQLite
# refuses inside a transaction as long as rows of other tables refer to it.
_BYTES = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = named_metadata()
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class Team(Base):
    """A team, or a baseline of the organiser's.

    Attributes:
        key: the name without letter case and width, which is unique.
        members: names as the team gave them.
        is_baseline: it has no rank.
        disqualified: why, or "" for a team in good standing.
    """

    __tablename__ = "teams"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(256), unique=True)
    members: Mapped[list[str]]
    created: Mapped[datetime]
    is_baseline: Mapped[bool] = mapped_column(default=False)
    disqualified: Mapped[str] = mapped_column(Text, default="")
    note: Mapped[str] = mapped_column(Text, default="")


class Invitation(Base):
    """A code with which teams register.

    Attributes:
        sha256: of the code.
        uses_left: how many teams may still use it.
    """

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime]
    expires: Mapped[datetime | None]
    uses_left: Mapped[int]
    label: Mapped[str] = mapped_column(Text, default="")


class Token(Base):
    """A token by its digest.

    Attributes:
        scope: ``team``, ``organiser`` or ``worker``.
        team_id: whose it is; None unless the scope is ``team``.
    """

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(16))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"), index=True)
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]
    label: Mapped[str] = mapped_column(Text, default="")


class PhaseTimes(Base):
    """When a phase runs, and which round of scores it shows.

    Attributes:
        starts: as it stands now; `planned_starts` is what competition.yaml last said.
        closed: when it was closed by hand, before its end; None otherwise.
        published_round: the round that the board shows, None before the first score.
    """

    __tablename__ = "phases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    starts: Mapped[datetime]
    ends: Mapped[datetime]
    planned_starts: Mapped[datetime]
    planned_ends: Mapped[datetime]
    closed: Mapped[datetime | None]
    published_round: Mapped[int | None]


class Round(Base):
    """A round of scoring: everything in it was scored with the same metrics, judges and references.

    Attributes:
        basis: versions of metrics, digests of judges and references.
        ids: the faces, sorted.
        columns: metric -> unit and direction, in the order of the values of its evaluations.
        ranking_metric: the column that ranks.
        higher_is_better: of that column.
        published: when the board began to show it; None while it is being scored.
    """

    __tablename__ = "rounds"

    id: Mapped[int] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(ForeignKey("phases.name"), index=True)
    created: Mapped[datetime]
    basis: Mapped[dict[str, Any]]
    basis_sha256: Mapped[str] = mapped_column(String(64))
    ids: Mapped[list[str]]
    columns: Mapped[dict[str, Any]]
    ranking_metric: Mapped[str] = mapped_column(Text)
    higher_is_better: Mapped[bool]
    published: Mapped[datetime | None]


class Submission(Base):
    """An archive that a team sent, and the job of scoring it.

    Attributes:
        code: what it is called in addresses; it cannot be guessed.
        state: ``queued``, ``running``, ``scored``, ``refused`` (by the verifier) or ``failed`` (the organiser's fault).
        attempts: how often a worker has begun with it.
        lease: secret of the worker that has it now; a worker whose lease was given to another one has no say.
        lease_until: when the job is free again unless the worker prolongs it.
        problem: the verifier's sentence to the team, or what failed.
        facts: what its manifest says; the team's word.
        pixels_sha256: of the decoded pictures: equal pictures have equal digests, however they are compressed.
        chosen: whether the team chose it as final.
        wanted_round: the round that it has to be scored in; None: in the phase's first one.
        archive_removed: when its archive was deleted to make room; its digest stays.
    """

    __tablename__ = "submissions"
    __table_args__ = (UniqueConstraint("team_id", "phase", "archive_sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(32), unique=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"), index=True)
    phase: Mapped[str] = mapped_column(ForeignKey("phases.name"), index=True)
    received: Mapped[datetime]
    archive_sha256: Mapped[str] = mapped_column(String(64))
    num_bytes: Mapped[int] = mapped_column(_BYTES)
    state: Mapped[str] = mapped_column(String(16), index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    lease: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    worker: Mapped[str] = mapped_column(Text, default="")
    finished: Mapped[datetime | None]
    problem: Mapped[str] = mapped_column(Text, default="")
    facts: Mapped[dict[str, Any]]
    pixels_sha256: Mapped[str] = mapped_column(String(64), default="", index=True)
    withdrawn: Mapped[datetime | None]
    chosen: Mapped[datetime | None]
    disqualified: Mapped[str] = mapped_column(Text, default="")
    note: Mapped[str] = mapped_column(Text, default="")
    wanted_round: Mapped[int | None] = mapped_column(ForeignKey("rounds.id"))
    archive_removed: Mapped[datetime | None]


class Upload(Base):
    """An archive that comes in pieces and is not complete.

    Attributes:
        code: what it is called in addresses; it cannot be guessed.
        archive_sha256: as it was announced.
        num_bytes: as it was announced.
        num_received: bytes that came; the next piece begins there.
        expires: when it is removed, with its pieces; every piece moves that.
    """

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("team_id", "phase", "archive_sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(32), unique=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"))
    phase: Mapped[str] = mapped_column(ForeignKey("phases.name"))
    archive_sha256: Mapped[str] = mapped_column(String(64))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    num_received: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)


class Evaluation(Base):
    """The scores of a submission in a round; never changed, never removed.

    Attributes:
        values: float64, little endian, columns x faces, in the order of the round's columns and ids.
        sha256: of what the log says was scored (`scores_sha256` of facesr/leaderboard/queue.py).
        examples: id of an agreed example face -> sha256 of its PNG in the store.
    """

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("submission_id", "round_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id"), index=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), index=True)
    made: Mapped[datetime]
    worker: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float]
    values: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))
    examples: Mapped[dict[str, Any]]


class Event(Base):
    """A line of the log; facesr/leaderboard/chain.py writes and checks them.

    Attributes:
        seq: 1, 2, 3 ... without a gap.
        at: moment as text, as it was hashed.
        data: JSON text, as it was hashed.
        previous: hash of the line before.
        hash: of this line.
    """

    __tablename__ = "events"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(40), index=True)
    data: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
