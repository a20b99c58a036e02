"""Running a script: from its command line to its exit code, with one-line errors."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from facesr import ranks
from facesr.build import asked_for
from facesr.errors import EXIT_REQUEUE, FaceSRError, RankLostError
from facesr.signals import requests

Settings = TypeVar("Settings")


def run_script(
    main: Callable[[Settings], int | None],
    config_name: str,
    schema: type[Settings],
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Runs a script's `main` on settings composed from KEY=VALUE arguments, by default the command line's, and exits.

    With --multirun every combination of the values given is checked first, and they run one after the other.

    Exit code: what `main` returns (None is 0), or as `run_program` says.
    """

    def work() -> int:
        exit_code = 0
        for settings in asked_for(sys.argv[1:] if arguments is None else arguments, config_name, schema):
            exit_code = main(settings) or 0
        return exit_code

    run_program(work)


def run_program(work: Callable[[], int]) -> NoReturn:
    """Does a script's work and exits.

    Exit code: what `work` returns; 2 after a user's error and 71 after the loss of another rank, told in one sentence
    by one rank.
    """
    # A job that is ended by its time limit removes its temporary files too; train.py has its own answer already.
    if requests.listening:
        requests.unwind()
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        exit_code = work()
    except FaceSRError as error:
        if requests.came and isinstance(error, RankLostError):
            _leave(EXIT_REQUEUE)  # all ranks were asked to stop, and others were faster
        if _first_to_tell(error):
            print(f"error: {error}", file=sys.stderr, flush=True)
        # A rank that has left must not keep the others waiting for it: they notice, or torchrun ends them.
        _leave(error.exit_code)
    except SystemExit as asked:
        _leave(asked.code if isinstance(asked.code, int) else int(asked.code is not None))
    except KeyboardInterrupt:
        if ranks.rank() == 0:
            print("error: interrupted; the same command resumes from the last saved state.", file=sys.stderr)
        _leave(130)
    except Exception:
        traceback.print_exc()
        _leave(1)
    requests.ignore()
    if ranks.world_size() > 1:
        from facesr import dist

        dist.shutdown()
    sys.exit(exit_code)


def _first_to_tell(error: FaceSRError) -> bool:
    if ranks.world_size() == 1:
        return True
    from facesr import dist

    return dist.first_to_tell(error)


def _leave(code: int) -> NoReturn:
    requests.ignore()
    sys.stdout.flush()
    sys.stderr.flush()
    if ranks.world_size() > 1:
        os._exit(code)
    sys.exit(code)
