"""A snapshot as one ONNX file, which any program with onnxruntime can run, or as a page that restores in a browser.

    uv run facesr export pretrained:asc19_final OUT.onnx
    uv run facesr export runs/NAME OUT.onnx
    uv run facesr export pretrained:asc19_final OUT.onnx [--flip] [--fixed 24x28]
    uv run facesr export pretrained:asc19_final --web FOLDER [--runtime onnxruntime-web-VERSION.tgz]

The file takes `low`, float32 (n, 3, h, w), RGB in [0, 1], and gives `restored`, float32 (n, 3, 4h, 4w), unclamped; any
n, h and w. It is compared with the snapshot on faces before it gets its name. docs/export.md tells more.
"""

import argparse
import re
from pathlib import Path

from facesr.arguments import Parser
from facesr.errors import ConfigError, exit_code_of
from facesr.export.form import Form
from facesr.export.model import export
from facesr.export.parity import Parity
from facesr.export.web import export_web
from facesr.ranges import plain
from facesr.snapshots.shipped import PREFIX

MOST_SIDE = 1024


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr export", description="Writes a snapshot's generator as one ONNX file, or as a page.")
    parser.add_argument("snapshot", help=f"snapshot file, run folder or {PREFIX}NAME")
    parser.add_argument("out", type=Path, nargs="?", help="the .onnx file to write")
    parser.add_argument("--flip", action="store_true", help="put the mean with the mirror image's answer into the file")
    parser.add_argument(
        "--fixed", type=_size, metavar="WxH", help="for one input of this size, one at a time, as in 24x28"
    )
    parser.add_argument("--web", type=Path, metavar="FOLDER", help="write a page that restores in a browser instead")
    parser.add_argument(
        "--runtime", type=Path, help="folder or .tgz of the npm package onnxruntime-web, for --web; else npm fetches it"
    )
    chosen = parser.parse_args(arguments)

    def write() -> None:
        if (chosen.out is None) == (chosen.web is None):
            raise ConfigError("give either the .onnx file to write or --web FOLDER; see --help.")
        if chosen.web is None:
            if chosen.runtime is not None:
                raise ConfigError(
                    "--runtime is for a page alone; give --web FOLDER instead of a file, or leave it out."
                )
            form = Form(chosen.flip, chosen.fixed)
            done = export(chosen.snapshot, chosen.out.expanduser(), form)
            use = f"for other programs ({form.made_with})" if form.made_with else f"method={done.path}"
            print(f"{done.path}: {done.num_bytes / 1e6:.1f} MB, sha256 {done.sha256}; {use}")
            _tell(done.parity, "three sizes" if form.size is None else "this size")
        else:
            if chosen.flip or chosen.fixed:
                raise ConfigError(
                    "--flip and --fixed are for a file; a page takes any size and the mirror image itself."
                )
            runtime = None if chosen.runtime is None else chosen.runtime.expanduser()
            page = export_web(chosen.snapshot, chosen.web.expanduser(), runtime)
            print(f"{page.folder}: {page.num_bytes / 1e6:.1f} MB; to try it: python -m http.server -d {page.folder}")
            _tell(page.parity, "three sizes")

    return exit_code_of(write)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    width, height = (int(side) for side in found.groups()) if found else (0, 0)
    if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
        raise argparse.ArgumentTypeError(
            f"{plain(text)} is no width and height of 1 to {MOST_SIDE} pixels; give them as in 24x28."
        )
    return width, height


def _tell(parity: Parity, where: str) -> None:
    print(
        f"on faces of {where}: largest difference from the snapshot {parity.difference:.1e}, "
        f"{parity.levels} grey levels in {100 * parity.share:.2g} % of the values at most"
    )
