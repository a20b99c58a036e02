"""A request to a board and its answer, with a team's token, which goes to the given address and nowhere else."""

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, urlsplit

from facesr import __version__
from facesr.errors import DataError
from facesr.names import one_line, shown_path

_TIMEOUT_SECONDS = 60.0
_MAX_ANSWER_BYTES = 1 << 20
# Where OpenSSL looks for the authorities that are trusted, in place of the machine's own list.
_AUTHORITIES = "SSL_CERT_FILE"
# Source: OpenSSL, include/openssl/x509_vfy.h.in, X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED, _OTHER_NAMES = 9, 10, (62, 64)
_UNKNOWN_ISSUERS = (2, 18, 19, 20, 21)


class NotTrusted(DataError):
    """A board whose certificate this machine does not accept; nothing was sent to it."""


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
        NotTrusted: the board's certificate is not accepted.
        OSError: the board cannot be reached, or the line breaks.
        http.client.HTTPException: the answer is not one of HTTP.
    """
    parts = urlsplit(address)
    sent = {
        "Authorization": f"Bearer {token}",
        "Content-Length": str(num_bytes),
        "Accept": "application/json",
        "User-Agent": f"facesr/{__version__}",
        **headers,
    }
    with connected(parts) as connection:
        # A board that refuses answers before it has read everything, and then listens no longer. No redirect is
        # followed: a token goes to the address that was given, and nowhere else.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, parts.path, body, sent)
        answer = connection.getresponse()
        return Answer(answer.status, object_of(answer.read(_MAX_ANSWER_BYTES)))


@contextmanager
def connected(address: SplitResult) -> Iterator[http.client.HTTPConnection]:
    """Yields a connection to the host of an address, by TLS where it is https; it is closed at the end.

    It is opened before anything is sent, so a token goes to a host only that has proved its name.

    Raises:
        NotTrusted: its certificate is not accepted.
        OSError: it cannot be reached.
    """
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=_TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise NotTrusted(_not_trusted(f"{address.scheme}://{address.netloc}", error)) from error
        yield connection


def _not_trusted(board: str, error: ssl.SSLCertVerificationError) -> str:
    """Returns what is wrong with a board's certificate, and what to do."""
    code = error.verify_code
    if code == _EXPIRED:
        return f"{board} has an expired certificate; ask the organiser to renew it, or set this machine's clock."
    if code == _NOT_YET_VALID:
        return f"{board} has a certificate that is not valid yet; set this machine's clock, or ask the organiser."
    if code in _OTHER_NAMES:
        return f"{board} has a certificate for another name; give the address that it was made for."
    if code not in _UNKNOWN_ISSUERS:
        reason = one_line(error.verify_message)[:100]
        return f"{board} has a certificate that is not accepted ({reason}); ask the organiser for another one."
    file = os.environ.get(_AUTHORITIES, "")
    if file and not Path(file).is_file():
        return (
            f"{_AUTHORITIES}={shown_path(Path(file))} is no file, so the certificate of {board} is unknown; correct it."
        )
    trusting = f"{_AUTHORITIES}={shown_path(Path(file))}" if file else "this machine"
    return (
        f"{board} has a certificate of an authority that {trusting} does not know; if it is the organiser's own one, "
        f"ask for that authority's certificate and set {_AUTHORITIES} to its file."
    )


def object_of(data: bytes) -> dict[str, Any]:
    """Returns the JSON object in an answer, {} where there is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
