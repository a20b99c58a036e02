"""How much room a team's archives take, and how much they may."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard.competition import Competition
from facesr.leaderboard.faults import OverQuota
from facesr.leaderboard.tables import Submission, Team, Upload

_MIB = 1 << 20


def stored_bytes(session: Session, team: Team, but: tuple[str, str] | None = None) -> int:
    """Returns how many bytes of a team's are kept: its archives, each once, and what its unfinished uploads announced.

    Args:
        session: of a database.
        team: whose.
        but: phase and sha256 of an upload that is not counted, because it becomes an archive now.
    """
    archives = select(Submission.archive_sha256, Submission.num_bytes).where(
        Submission.team_id == team.id, Submission.archive_removed.is_(None)
    )
    kept: dict[str, int] = {row.archive_sha256: row.num_bytes for row in session.execute(archives)}
    coming = session.scalars(select(Upload).where(Upload.team_id == team.id))
    return sum(kept.values()) + sum(one.num_bytes for one in coming if (one.phase, one.archive_sha256) != but)


def left_bytes(session: Session, team: Team, competition: Competition) -> int:
    """Returns how many more bytes of a team's may be kept."""
    return max(0, competition.team_storage_mib * _MIB - stored_bytes(session, team))


def require_quota(
    session: Session, team: Team, competition: Competition, num_bytes: int, but: tuple[str, str] | None = None
) -> None:
    """Checks that so many bytes more of a team's may be kept.

    Raises:
        OverQuota: they may not.
    """
    used, limit = stored_bytes(session, team, but), competition.team_storage_mib * _MIB
    if used + num_bytes > limit:
        raise OverQuota(
            f"your team's archives have {used / _MIB:,.1f} MiB, and {limit // _MIB:,} MiB are kept at most; "
            "delete unfinished uploads, or ask the organiser for room."
        )
