"""Errors that are the user's to mend: each is one sentence that names the file or key and what to change.

The scripts print such an error once, as ``error: ...``, and exit with code 2. Everything else is a fault of
the program and keeps its traceback.
"""

import sys
from collections.abc import Callable

from facesr.names import one_line

EXIT_USER_ERROR = 2
# EX_TEMPFAIL of sysexits.h: a run that was asked to stop has saved its state, and a scheduler may requeue it.
EXIT_REQUEUE = 75
# EX_OSERR of sysexits.h: another rank is gone. Not 75, or a run too large for the memory would be requeued for ever.
EXIT_RANK_LOST = 71


class FaceSRError(Exception):
    """Base of every error that is reported to the user as one sentence.

    The sentence may hold names of files, which may hold anything; as text it is one line that commands no terminal.

    Attributes:
        exit_code: what a script ends with.
    """

    exit_code = EXIT_USER_ERROR

    def __str__(self) -> str:
        """Returns the sentence, printable."""
        return one_line(super().__str__())


class ConfigError(FaceSRError):
    """A configuration key or command-line argument is unknown, missing or of the wrong type or range."""


class DataError(FaceSRError):
    """A folder, a prepared dataset or the pairing of two folders is not as it has to be."""


class ImageError(DataError):
    """A picture cannot be read, or has the wrong format, mode or size."""


class WeightsError(FaceSRError):
    """A weights file is missing, damaged or belongs to another network."""


class CheckpointError(FaceSRError):
    """A checkpoint is missing, damaged, of another run, or could not be written."""


class TrainingError(FaceSRError):
    """Training cannot start or go on, for example because a loss is not finite."""


class RankLostError(FaceSRError):
    """Another rank of the run is gone, so this one cannot go on."""

    exit_code = EXIT_RANK_LOST


class SubmissionError(FaceSRError):
    """A submission archive breaks a rule of the protocol."""


def exit_code_of(command: Callable[[], None]) -> int:
    """Returns the exit code of a ``python -m`` command, 0 or 2; a user's error is printed as one sentence."""
    try:
        command()
    except FaceSRError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0
