"""Tokens instead of passwords: 256 random bits that are shown once; only their digest is kept."""

import hashlib
import re
import secrets

# What token_urlsafe(32) gives: anything else needs no look into the database.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Returns a new token: 43 characters of A-Z, a-z, 0-9, ``-`` and ``_``."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Returns whether a text has the form of a token."""
    return _TOKEN.fullmatch(text) is not None


def digest(token: str) -> str:
    """Returns what is kept of a token, its sha256.

    A plain hash suffices: 256 random bits cannot be guessed, unlike a password.
    """
    return hashlib.sha256(token.encode()).hexdigest()
