"""Random draws that are functions of the seed and a place in the run.

No random state is kept: a resumed run draws what the uninterrupted one would have drawn, and a face's draws are the
same whichever rank and whichever part of a batch it is in.
"""

import numpy as np

# Keys of a seed that each purpose has for itself; places in a run stay far below the distance between two of them.
# Augmentation (facesr/data/feed/augment.py) has those from 0 on.
DEGRADATION = 1 << 61
ORDER = 1 << 62
VIEWS = 3 << 61


def generators_at(seed: int, position: int, count: int, purpose: int) -> list[np.random.Generator]:
    """Returns one random generator for each of the `count` pictures from `position` on.

    Args:
        seed: of the run.
        position: the place of the first picture in the run.
        count: how many pictures.
        purpose: first key of what is drawn, one of this module's.
    """
    return [np.random.Generator(np.random.Philox(key=[seed, purpose + position + i])) for i in range(count)]
