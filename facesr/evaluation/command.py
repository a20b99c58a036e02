"""The command ``facesr evaluate``, which evaluate.py is, too."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from facesr.config import EvaluateSettings
from facesr.script import run_script

_PAPER = "study=pulse_paper"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Evaluates as KEY=VALUE arguments say, by default the command line's, and exits."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if _PAPER in words:
        from facesr.evaluation.studies.pulse_paper import with_portraits

        words = with_portraits(words)
    run_script(_run, "evaluate", EvaluateSettings, words)


def _run(settings: EvaluateSettings) -> None:
    # Here, because it loads torch: help, and what is wrong with a key, are told without.
    from facesr.evaluation.run import run

    run(settings)
