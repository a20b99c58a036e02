"""What the other ranks say when one of them is gone: one sentence instead of what each back end makes of it."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from facesr.errors import RankLostError

# What gloo and NCCL say of a peer that does not answer; torch has classes for some of it only.
_GONE = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|timed? ?out|remote process|socket|unhandled system error",
    re.IGNORECASE,
)


def is_of_lost_rank(error: BaseException) -> bool:
    """Returns whether an error says that another rank does not answer."""
    # By name: torch.distributed, which has the classes, is known to facesr/dist.py alone.
    classes = {base.__name__ for base in type(error).__mro__}
    return isinstance(error, RuntimeError) and ("DistError" in classes or _GONE.search(str(error)) is not None)


@contextmanager
def lost_rank_told() -> Iterator[None]:
    """Turns an error of a lost rank into a `RankLostError`; usable as a decorator."""
    try:
        yield
    except RuntimeError as error:
        if not is_of_lost_rank(error):
            raise
        raise RankLostError(
            "another rank ended before the work was done (killed, out of memory, or for the reason told above), so "
            "this one ends, too; start the same command again: a training run resumes from its last saved state."
        ) from error


@contextmanager
def without_stderr() -> Iterator[None]:
    """Keeps back what libraries themselves write to standard error, such as the log of a store that has ended."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
