"""How far a search is: faces that are done and found, the step, and the time left, on a terminal only."""

from collections.abc import Sequence

from facesr.log import Progress
from facesr.methods.pulse.search import Found
from facesr.methods.pulse.sphere import Variables


class SearchProgress:
    """A bar over the steps of all faces, of which a face that is found early has done the rest at once.

    The bar's own estimate of the time left follows from that: it is the time if no further face ends early. Faces of
    other ranks, and those whose results are kept, are not counted.
    """

    def __init__(self, num_faces: int, num_steps: int, num_seeds: int) -> None:
        """Starts a bar.

        Args:
            num_faces: how many will be searched.
            num_steps: of each start, at most.
            num_seeds: starts of a face.
        """
        self._num_faces, self._num_steps = num_faces, num_steps
        self._num_done = self._num_found = 0
        # Steps before the starts that are searched now, and all that the bar was told of.
        self._before = self._told = 0
        self._num_searched = 0
        self._bar = Progress(num_faces * num_seeds * num_steps, 0, unit=" steps")

    def watch(self, step: int, variables: Variables, lowest: float) -> None:
        """Tells of a step; a `facesr.methods.pulse.search.Watcher`."""
        num_going = len(variables.latents)
        if step == 0:
            # The first step of further starts: those before them have done all theirs.
            self._before += self._num_searched * self._num_steps
            self._num_searched = num_going
        ended = (self._num_searched - num_going) * self._num_steps
        self._tell(self._before + ended + num_going * (step + 1), step=f"{step + 1}/{self._num_steps}", lowest=lowest)

    def count(self, found: Sequence[Found]) -> None:
        """Tells of faces that have a result."""
        self._num_done += len(found)
        self._num_found += sum(one.converged for one in found)
        self._tell(self._before + self._num_searched * self._num_steps)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def _tell(self, steps: int, step: str = "-", lowest: float | None = None) -> None:
        faces = {"faces": f"{self._num_done}/{self._num_faces}", "found": str(self._num_found), "step": step}
        best = {} if lowest is None else {"best_l2": f"{lowest:.2e}"}
        self._bar.advance(max(0, steps - self._told), **faces, **best)
        self._told = max(self._told, steps)
