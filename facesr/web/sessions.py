"""Sessions in a signed cookie, and the tokens of forms.

The cookie holds the digest of the token that somebody signed in with, when that was, and a random number, all signed.
So there is no table of sessions: they outlive a restart and hold for every server process of a site, and revoking the
token ends them everywhere, because it is looked up at every request. Signing out takes the cookie from the browser; a
copy of it is refused by the process that was told, from a list in its memory, and elsewhere holds until it ends.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable

MAX_AGE_SECONDS = 12 * 3600
_COOKIE = re.compile(r"([0-9a-f]{64})\.(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)
_MAX_ENDED = 100_000


class Sessions:
    """Makes and reads the cookies of a site."""

    def __init__(
        self, key: bytes, clock: Callable[[], float] = time.time, *, max_age_seconds: float = MAX_AGE_SECONDS
    ) -> None:
        """Keeps what signs.

        Args:
            key: a secret of the site; others are derived from it, so it may be used for other things as well.
            clock: seconds since 1970.
            max_age_seconds: how long a session lasts.
        """
        self._session_key = hmac.digest(key, b"facesr session", "sha256")
        self._form_key = hmac.digest(key, b"facesr form", "sha256")
        self._clock = clock
        self._max_age_seconds = max_age_seconds
        self._lock = threading.Lock()
        # Numbers of sessions that were signed out -> when they would have ended.
        self._ended: dict[str, float] = {}

    def begin(self, digest: str) -> str:
        """Returns the cookie of a new session for the token with a digest."""
        text = f"{digest}.{int(self._clock())}.{secrets.token_hex(16)}"
        return f"{text}.{self._signature(text)}"

    def digest_of(self, cookie: str) -> str | None:
        """Returns the digest of the token that a cookie stands for, None for one that is not, or no longer, valid."""
        found = _COOKIE.fullmatch(cookie)
        if found is None:
            return None
        digest, issued, number, signature = found.groups()
        if not hmac.compare_digest(signature, self._signature(f"{digest}.{issued}.{number}")):
            return None
        age = self._clock() - int(issued)
        with self._lock:
            return digest if -60 <= age <= self._max_age_seconds and number not in self._ended else None

    def end(self, cookie: str) -> None:
        """Ends the session of a cookie in this process, as long as it runs, also for whoever has a copy of it.

        Other server processes take a copy until the session's time is over or its token is revoked.
        """
        if self.digest_of(cookie) is None:
            return
        now = self._clock()
        with self._lock:
            if len(self._ended) >= _MAX_ENDED:
                self._ended = {number: until for number, until in self._ended.items() if until > now}
            self._ended[cookie.split(".")[2]] = now + self._max_age_seconds

    def form_token(self, cookie: str, form: str) -> str:
        """Returns the token that a form has to bring along: nobody else's page knows it."""
        return hmac.digest(self._form_key, f"{form}\0{cookie}".encode(), "sha256").hex()

    def is_form_token(self, cookie: str, form: str, token: str) -> bool:
        """Returns whether a token is that of a form in the session of a cookie."""
        return bool(cookie) and hmac.compare_digest(self.form_token(cookie, form).encode(), token.encode())

    def _signature(self, text: str) -> str:
        return hashlib.sha256(hmac.digest(self._session_key, text.encode(), "sha256")).hexdigest()
