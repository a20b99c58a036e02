"""The command ``facesr train``, which train.py is, too."""

from collections.abc import Sequence
from typing import NoReturn

from facesr.config import TrainSettings
from facesr.script import run_script
from facesr.training.loop import train


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Trains as KEY=VALUE arguments say, by default the command line's, and exits."""
    run_script(train, "train", TrainSettings, arguments)
