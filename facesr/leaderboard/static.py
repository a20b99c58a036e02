"""Style, script and icon of the board's pages."""

from facesr.web.assets import icon, script, style

STYLE = style("board", "style.css", "board/board.css")
SCRIPT = script("board", "board/sha256.js", "board/upload.js", "board/board.js")
ICON = icon("icon", "board/icon.svg")
ASSETS = {asset.name: asset for asset in (STYLE, SCRIPT, ICON)}
