"""The command `facesr`: one door to every program of the package.

    facesr COMMAND ...          facesr --help lists the commands, facesr COMMAND --help what one of them takes

train, evaluate and submit take KEY=VALUE, as train.py, evaluate.py and submit.py do, and so does restore behind the
names of photographs and opinion init behind a folder; the others take options. board and opinion need the extra board.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from facesr.errors import EXIT_USER_ERROR
from facesr.names import shown
from facesr.signals import requests

# Command -> (module that has its main, what it does). Imported only when asked for: torch alone takes seconds.
COMMANDS = {
    "train": ("facesr.training.command", "train a 4x network; the same command resumes"),
    "restore": ("facesr.restore_photo.command", "restore the faces in photographs"),
    "evaluate": ("facesr.evaluation.command", "score restored faces, a method or an archive; studies"),
    "attributes": ("facesr.evaluation.appearance.command", "tell what faces look like: light, pose, skin's ITA angle"),
    "submit": ("facesr.submission.command", "make a submission archive, or verify one"),
    "board": ("facesr.leaderboard.command", "organise a competition: its leaderboard"),
    "opinion": ("facesr.opinion.command", "have people rate restored faces: pages and analysis"),
    "compare": ("facesr.evaluation.compare", "set runs beside each other: settings and final scores"),
    "prepare": ("facesr.data.prepare.prepare", "make a dataset out of a folder of photographs"),
    "patches": ("facesr.data.prepare.patches", "make a dataset of patches out of general pictures"),
    "portraits": ("facesr.methods.pulse.portrait_set", "make a dataset of faces that a generator invents"),
    "pairs": ("facesr.data.export", "write a dataset, or synthetic pictures, as high/ and low/ folders"),
    "bound": ("facesr.methods.bound", "measure the consistency bound of a snapshot's guard"),
    "interpolate": ("facesr.snapshots.interpolation", "interpolate the weights of two snapshots"),
    "task-arithmetic": ("facesr.snapshots.task_arithmetic", "add what one training taught to another network"),
    "ship": ("facesr.snapshots.shipped", "add a snapshot to those that come with the package"),
    "export": ("facesr.export.command", "write a snapshot as an ONNX file"),
    "niqe": ("facesr.metrics.perceptual.niqe", "score pictures by NIQE, or fit its model"),
    "eigenfaces": ("facesr.methods.pulse.eigenfaces", "fit the face generator that method=pulse searches"),
    "face-generator": (
        "facesr.training.face_generator.program",
        "train a face generator (VAE or GAN) for method=pulse",
    ),
    "distill": ("facesr.training.distill.distill", "train and measure the built-in judge"),
    "sheet": ("facesr.data.synthetic.face.render", "draw a sheet of synthetic faces"),
}
# They may be asked to stop at any moment by a scheduler, and the imports take seconds.
_TRAINING = ("train", "face-generator")


def help_text() -> str:
    """Returns what ``facesr --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "facesr: train, evaluate and submit 4x face super-resolution. First: facesr train",
            "usage: facesr COMMAND [KEY=VALUE ...]     facesr COMMAND --help tells what it takes",
            *lines,
        ]
    )


def _tell(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # facesr --help | head -1; what is left must not fail at the exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code, 2 after a mistake of the user's.

    Args:
        arguments: the command and what it takes; by default the command line.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        _tell(help_text())
        return 0
    if name == "--version":
        from facesr import __version__

        print(f"facesr {__version__}")
        return 0
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        advice = f"did you mean {near[0]}?" if near else "facesr --help lists them."
        print(f"error: {shown([name])} is no command of facesr; {advice}", file=sys.stderr)
        return EXIT_USER_ERROR
    if name in _TRAINING:
        requests.listen()
    module = importlib.import_module(COMMANDS[name][0])
    code: int | None = module.main(rest)
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
