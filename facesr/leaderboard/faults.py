"""What goes wrong between a board and its users, each with the status that HTTP has for it."""

from facesr.errors import FaceSRError


class BoardError(FaceSRError):
    """What a user of the board asks for cannot be done; the sentence is for that user.

    Attributes:
        status: of HTTP.
        kind: a word for programs.
    """

    status = 400
    kind = "bad_request"


class NotAllowed(BoardError):
    """A token is missing, unknown, revoked or of another scope."""

    status = 401
    kind = "not_allowed"


class NotFound(BoardError):
    """There is no such thing, or it is not for this user's eyes."""

    status = 404
    kind = "not_found"


class NotNow(BoardError):
    """The phase is not open, or the thing is not in a state in which this can be done."""

    status = 409
    kind = "not_now"


class LeaseLost(NotNow):
    """A job is not the worker's any more, or never was."""

    kind = "lease_lost"


class Elsewhere(NotNow):
    """A piece of an upload belongs to another place than where the upload is."""

    kind = "elsewhere"


class OverQuota(BoardError):
    """A team's archives take as much room as they may."""

    status = 413
    kind = "quota"


class OverLimit(BoardError):
    """A limit of the phase is reached."""

    status = 429
    kind = "limit"
