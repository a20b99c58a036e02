"""Styles, scripts and icons of a site, under addresses that change with their content."""

import hashlib
from dataclasses import dataclass

from facesr.web.page import plain_text

# For the answers with which they are sent.
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """A file that pages load.

    Attributes:
        name: in its address, with a digest of the content.
        content: its bytes.
        kind: its type.
    """

    name: str
    content: bytes
    kind: str

    @property
    def address(self) -> str:
        """Where it is served."""
        return f"/static/{self.name}"


def style(stem: str, *files: str) -> Asset:
    """Returns a style made of files of facesr/web/templates/."""
    return _asset(stem, "css", "text/css; charset=utf-8", files)


def script(stem: str, *files: str) -> Asset:
    """Returns a script made of files of facesr/web/templates/."""
    return _asset(stem, "js", "text/javascript; charset=utf-8", files)


def icon(stem: str, file: str) -> Asset:
    """Returns an icon, an SVG file of facesr/web/templates/."""
    return _asset(stem, "svg", "image/svg+xml", (file,))


def _asset(stem: str, ending: str, kind: str, files: tuple[str, ...]) -> Asset:
    content = "\n".join(plain_text(file) for file in files).encode()
    return Asset(f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.{ending}", content, kind)
