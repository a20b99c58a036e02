"""Style, script and icon of the board's pages, under addresses that change with their content."""

import hashlib
from dataclasses import dataclass

from facesr.web.page import plain_text


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


def _asset(stem: str, ending: str, kind: str, *files: str) -> Asset:
    content = "\n".join(plain_text(file) for file in files).encode()
    return Asset(f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.{ending}", content, kind)


STYLE = _asset("board", "css", "text/css; charset=utf-8", "style.css", "board/board.css")
SCRIPT = _asset("board", "js", "text/javascript; charset=utf-8", "board/board.js")
ICON = _asset("icon", "svg", "image/svg+xml", "board/icon.svg")
ASSETS = {asset.name: asset for asset in (STYLE, SCRIPT, ICON)}
