"""The command ``facesr train``, which train.py is, too."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from facesr.errors import EXIT_REQUEUE
from facesr.script import run_program
from facesr.signals import requests
from facesr.training.request import read_request


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Trains as KEY=VALUE arguments say, by default the command line's, and exits."""
    run_program(lambda: run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Does what a command line asks for and returns the exit code.

    Raises:
        FaceSRError: see `read_request`, `train` and `train_recipe`.
    """
    request = read_request(arguments)
    if not request.runs and request.recipe is None:
        return 0
    # Here, because they load torch: help, and what is wrong with a key, are told without. Not to be left half loaded.
    with requests.postponed():
        from facesr.training import dry_run, loop, recipe_run

    if request.recipe is not None:
        return (dry_run.dry_run_recipe if request.dry_run else recipe_run.train_recipe)(request.recipe)
    for settings in request.runs:
        if code := (dry_run.dry_run if request.dry_run else loop.train)(settings):
            return code
        # A request that came during the last step ends a sweep, not the run.
        if requests.came and settings is not request.runs[-1]:
            return EXIT_REQUEUE
    return 0
