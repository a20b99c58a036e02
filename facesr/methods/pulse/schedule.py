"""How the search's learning rate moves: fixed, one linear cycle, or a cycle that ends with a drop.

Source: adamian98/pulse (PULSE.py, its schedules): 0.1 to 1 and back to 0.1, the dropping one within 90 % of
the steps and on to 0.001.
"""

from facesr.errors import ConfigError

SCHEDULES = ("fixed", "linear1cycle", "linear1cycledrop")
_ENDS, _LAST, _CYCLE_SHARE = 0.1, 0.001, 0.9


def factor(kind: str, step: int, num_steps: int) -> float:
    """Returns the factor of the learning rate, 0.001 to 1, at a step 0 .. num_steps - 1.

    Raises:
        ConfigError: the schedule is unknown.
    """
    if kind == "fixed":
        return 1.0
    if kind == "linear1cycle":
        return _cycle(step / num_steps)
    if kind == "linear1cycledrop":
        length = _CYCLE_SHARE * num_steps
        if step < length:
            return _cycle(step / length)
        return _ENDS + (step - length) / (num_steps - length) * (_LAST - _ENDS)
    raise ConfigError(f"pulse.schedule={kind} is unknown; choose one of {', '.join(SCHEDULES)}.")


def _cycle(progress: float) -> float:
    """Returns 0.1 at progress 0 and 1, and 1 in the middle, straight lines between."""
    return _ENDS + (1.0 - _ENDS) * (1.0 - 2.0 * abs(progress - 0.5))
