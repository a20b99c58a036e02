"""A request to a board and its answer, with a team's token, which goes to the given address and nowhere else."""

import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from facesr import __version__

_TIMEOUT_SECONDS = 60.0
_MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What a board answered.

    Attributes:
        status: of HTTP.
        body: a JSON object, {} where it is none.
    """

    status: int
    body: Mapping[str, Any]

    @property
    def is_refusal(self) -> bool:
        """Whether asking again does not help; too many requests at once are no refusal, unlike a limit of the phase."""
        return 300 <= self.status < 500 and not (self.status == 429 and self.body.get("kind") == "rate")

    def sentence(self) -> str:
        """Returns why the board refuses."""
        found = self.body.get("error")
        is_one = isinstance(found, str) and found != ""
        return str(found)[:500] if is_one else f"the board refused the archive (HTTP {self.status})."


def exchange(
    method: str, address: str, token: str, body: "bytes | BinaryIO", num_bytes: int, headers: Mapping[str, str]
) -> Answer:
    """Returns the answer to a request.

    Args:
        method: of HTTP.
        address: http or https.
        token: of the team.
        body: of the request.
        num_bytes: of the body.
        headers: beside those that every request has.

    Raises:
        OSError: the board cannot be reached, or the line breaks.
        http.client.HTTPException: the answer is not one of HTTP.
    """
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    sent = {
        "Authorization": f"Bearer {token}",
        "Content-Length": str(num_bytes),
        "Accept": "application/json",
        "User-Agent": f"facesr/{__version__}",
        **headers,
    }
    with contextlib.closing(connection):
        # A board that refuses answers before it has read everything, and then listens no longer. No redirect is
        # followed: a token goes to the address that was given, and nowhere else.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, parts.path, body, sent)
        answer = connection.getresponse()
        return Answer(answer.status, object_of(answer.read(_MAX_ANSWER_BYTES)))


def object_of(data: bytes) -> dict[str, Any]:
    """Returns the JSON object in an answer, {} where there is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
