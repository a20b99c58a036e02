"""The command ``facesr restore``: photographs and films in, the same with restored faces out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from facesr import ranks
from facesr.config import RestoreSettings
from facesr.errors import ConfigError
from facesr.overrides import quoted
from facesr.restore_photo.jobs import jobs_of, out_of, refused
from facesr.restore_photo.report import check_place
from facesr.restore_photo.wishes import check_films, check_scale, chosen_of
from facesr.script import run_script

# What needs torch is imported where it is used: to say what is wrong with a call, or what its keys are, takes no torch.


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Restores as arguments say, by default the command line's, and exits: files, folders and KEY=VALUE."""
    run_script(run, "restore", RestoreSettings, with_inputs(sys.argv[1:] if arguments is None else arguments))


def with_inputs(arguments: Sequence[str]) -> list[str]:
    """Returns arguments whose files and folders are one ``inputs=[...]``, quoted so that any name is read as it is."""
    names: list[str] = []
    rest: list[str] = []
    for argument in arguments:
        is_name = not argument.startswith("-") and ("=" not in argument or Path(argument).exists())
        (names if is_name else rest).append(argument)
    if not names:
        return rest
    return [f"inputs=[{','.join(map(quoted, names))}]", *rest]


def run(settings: RestoreSettings) -> None:
    """Restores every photograph that is asked for, one after the other.

    Raises:
        FaceSRError: nothing could be done, or, at the end, some photographs could not be restored.
    """
    if ranks.world_size() > 1:
        raise ConfigError("facesr restore runs as one process; start it without torchrun.")
    jobs = jobs_of(settings)
    if settings.report:
        check_place(out_of(settings), [(job.source, job.target) for job in jobs])
    chosen_of(settings.faces, 0)
    check_scale(settings.scale)
    films = check_films(sorted({job.source for job in jobs if job.is_film}), settings)
    found = refused(jobs, settings)
    if len(jobs) == 1 and found:
        raise found[jobs[0].source]
    from facesr.restore_photo.work import restore_all

    restore_all(jobs, films, found, settings)
