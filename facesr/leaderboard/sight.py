"""What of a phase's scores may be seen by whom: every page, drawing and answer of the board asks here and nowhere else.

Private scores are the organiser's until the phase ends. So are the ids of faces, because they would tell which faces
are private; teams know the ids, but not which are which.
"""

from dataclasses import dataclass
from datetime import datetime

from facesr.leaderboard.competition import Phase
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.phases import CLOSED, is_revealed, state_of
from facesr.leaderboard.standing import PRIVATE, PUBLIC
from facesr.leaderboard.tables import PhaseTimes

_WITHOUT_ORIGINALS = ("consistency", "niqe", "ma", "perceptual_index")


@dataclass(frozen=True)
class Sight:
    """What of a phase may be seen.

    Attributes:
        state: ``upcoming``, ``open`` or ``closed``.
        views: the views of the board that may be seen, the one that is shown unasked first.
        has_ids: whether faces are named.
        is_stepped: whether public scores are only seen in the steps of the Ladder, and so no values of single faces.
    """

    state: str
    views: tuple[str, ...]
    has_ids: bool
    is_stepped: bool

    @property
    def is_over(self) -> bool:
        """Whether the phase is closed."""
        return self.state == CLOSED

    def shows_faces(self, metric: str) -> bool:
        """Returns whether values of single faces may be seen, as a curve or a list without names.

        What can be computed without the originals would tell which faces are public: a team knows it of all faces, and
        would find these values again.
        """
        return self.has_ids or not (self.is_stepped or metric in _WITHOUT_ORIGINALS)

    def view(self, wanted: str) -> str:
        """Returns the view that was asked for, or with "" the one that is shown unasked.

        Raises:
            NotFound: it may not be seen; the sentence is the same for one that does not exist.
        """
        if not wanted:
            return self.views[0]
        if wanted not in self.views:
            raise NotFound("there is no such view of this phase now.")
        return wanted


def sight_of(phase: Phase, times: PhaseTimes, now: datetime, *, is_organiser: bool) -> Sight:
    """Returns what of a phase may be seen now."""
    state = state_of(times, now)
    is_over = state == CLOSED
    if phase.public_share == 1:
        views: tuple[str, ...] = (PUBLIC,)
    elif is_revealed(phase, times, now):
        views = (PRIVATE, PUBLIC)
    else:
        views = (PUBLIC, PRIVATE) if is_organiser else (PUBLIC,)
    return Sight(
        state=state,
        views=views,
        has_ids=is_over or is_organiser,
        is_stepped=phase.ladder_step is not None and not is_over and not is_organiser,
    )
