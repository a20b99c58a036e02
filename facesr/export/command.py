"""A snapshot as one ONNX file, which any program with onnxruntime can run, or as a page that restores in a browser.

    uv run facesr export pretrained:asc19_final OUT.onnx
    uv run facesr export runs/NAME OUT.onnx
    uv run facesr export pretrained:asc19_final --web FOLDER [--runtime onnxruntime-web-VERSION.tgz]

The file takes `low`, float32 (n, 3, h, w), RGB in [0, 1], and gives `restored`, float32 (n, 3, 4h, 4w), unclamped; any
n, h and w. It is compared with the snapshot on faces before it gets its name. docs/export.md tells more.
"""

from pathlib import Path

from facesr.arguments import Parser
from facesr.errors import ConfigError, exit_code_of
from facesr.export.model import export
from facesr.export.parity import Parity
from facesr.export.web import export_web
from facesr.snapshots.shipped import PREFIX


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr export", description="Writes a snapshot's generator as one ONNX file, or as a page.")
    parser.add_argument("snapshot", help=f"snapshot file, run folder or {PREFIX}NAME")
    parser.add_argument("out", type=Path, nargs="?", help="the .onnx file to write")
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
            done = export(chosen.snapshot, chosen.out.expanduser())
            print(f"{done.path}: {done.num_bytes / 1e6:.1f} MB, sha256 {done.sha256}; method={done.path}")
            _tell(done.parity)
        else:
            runtime = None if chosen.runtime is None else chosen.runtime.expanduser()
            page = export_web(chosen.snapshot, chosen.web.expanduser(), runtime)
            print(f"{page.folder}: {page.num_bytes / 1e6:.1f} MB; to try it: python -m http.server -d {page.folder}")
            _tell(page.parity)

    return exit_code_of(write)


def _tell(parity: Parity) -> None:
    print(
        f"on faces of three sizes: largest difference from the snapshot {parity.difference:.1e}, "
        f"{parity.levels} grey levels in {100 * parity.share:.2g} % of the values at most"
    )
