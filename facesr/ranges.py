"""The range that a number given by a user has to lie in, and the sentence for one that does not.

A range stands beside the type: ``lr: Annotated[float, Range(0, 1)]``, in the settings (facesr/config.py) and in the
signatures of what configurations build. NaN lies in none.
"""

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from facesr.errors import ConfigError

_LONGEST = 40  # characters of a value that are worth repeating


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`.

    Attributes:
        low: lower end.
        high: upper end.
        above: whether `low` itself is left out.
        below: whether `high` itself is left out.
        or_zero: what 0, outside the ends, stands for; empty where it is not allowed.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    or_zero: str = ""

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if value == 0 and self.or_zero:
            return True
        reaches = value > self.low if self.above else value >= self.low
        return reaches and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"above {plain(self.low)}" if self.above else f"from {plain(self.low)}"
        high = f"below {plain(self.high)}" if self.below else f"to {plain(self.high)}"
        if self.above and not self.below:
            high = f"up {high}"
        return f"{low} {'and ' if self.above or self.below else ''}{high}" + (
            f", or 0 for {self.or_zero}" if self.or_zero else ""
        )


# Upper ends are far above anything sensible: they stop what would fill a disk or run until the end of days.
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1, 1_000_000)]
CountFromZero = Annotated[int, Range(0, 1_000_000)]
Batch = Annotated[int, Range(1, 65_536)]
Side = Annotated[int, Range(4, 65_536)]  # pixels of a picture
Seed = Annotated[int, Range(0, 2**32 - 1)]
Kimg = Annotated[float, Range(0, 1e9)]  # thousands of images
SomeKimg = Annotated[float, Range(0, 1e9, above=True)]
Weight = Annotated[float, Range(0, 1e9)]
GreyLevels = Annotated[float, Range(0, 255)]
Channels = Annotated[int, Range(1, 4_096)]  # of a network
Blocks = Annotated[int, Range(1, 1_024)]
Positive = Annotated[float, Range(0, 1e9, above=True)]
Momentum = Annotated[float, Range(0, 1, below=True)]
Rate = Annotated[float, Range(0, 1_000)]  # of learning


# torch's optimisers say nothing of theirs.
_OPTIMIZERS: dict[str, Any] = {
    "lr": Rate,
    "betas": tuple[Momentum, Momentum],
    "momentum": Momentum,
    "alpha": Momentum,
    "dampening": Momentum,
    "eps": Positive,
    "weight_decay": Weight,
}


def plain(value: object) -> str:
    """Returns a value as a user would type it, cut off where it is long."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    try:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def range_in(hint: Any) -> Range | None:
    """Returns the range of a type, looked for inside ``X | None`` and sequences too; None where it has none."""
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, Range):
            return part
    return next((found for part in get_args(hint) if (found := range_in(part))), None)


def check_number(key: str, value: object, hint: Any) -> None:
    """Raises ConfigError for a value that is not of its type, or a number outside its range.

    Args:
        key: what the user calls it.
        value: what was given; a sequence where the type is one.
        hint: the type, a range in it; nothing is checked where there is none.
    """
    limits, kinds = range_in(hint), _kinds_in(hint)
    if limits is None:
        return
    if value is None:
        if type(None) not in kinds:
            raise ConfigError(f"{key}=null leaves it without a value, and it needs one.")
    elif kinds & {list, tuple, Sequence}:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}={plain(value)} has to be a list of numbers, [A,B].")
        for position, part in enumerate(value):
            _check_one(f"{key}[{position}]", part, limits, float not in kinds)
    else:
        _check_one(key, value, limits, float not in kinds)


def _check_one(key: str, value: object, limits: Range, whole: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ConfigError(f"{key}={plain(value)} is no number; give one {limits}.")
    if whole and not isinstance(value, int):
        raise ConfigError(f"{key}={plain(value)} is no whole number; give one {limits}.")
    if value not in limits:
        raise ConfigError(f"{key}={plain(value)} is out of range; give a {'whole ' * whole}number {limits}.")


def _kinds_in(hint: Any) -> set[Any]:
    """Returns the plain types that a type is made of."""
    parts = get_args(hint)
    if hasattr(hint, "__metadata__"):
        return _kinds_in(hint.__origin__)
    own = {get_origin(hint)} if parts else {hint}
    return own.union(*(_kinds_in(part) for part in parts if part is not Ellipsis))


def hints_of(what: Callable[..., Any]) -> dict[str, Any]:
    """Returns the types of a class's or function's arguments by name, with their ranges."""
    hints = get_type_hints(cast(Any, what).__init__ if isinstance(what, type) else what, include_extras=True)
    ours = _OPTIMIZERS if what.__module__.startswith("torch.optim.") else {}
    return hints | {name: hint for name, hint in ours.items() if name in hints or name in signature(what).parameters}


def check_arguments(what: Callable[..., Any], arguments: Collection[str], values: Mapping[str, Any], key: str) -> None:
    """Raises ConfigError for an argument that a class or function does not take or lacks, or a number out of its range.

    Args:
        what: the class or function.
        arguments: the names of all that it is to be called with.
        values: those that a user gave.
        key: what the user calls the part that is built, e.g. ``generator``.
    """
    # A class without arguments of its own has *args and **kwargs of nn.Module's, which takes none.
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    parameters = {name: found for name, found in signature(what).parameters.items() if found.kind in named}
    for name in values:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, 1, cutoff=0.7)
            advice = f"did you mean {near[0]}?" if near else f"it takes {', '.join(parameters) or 'none'}."
            raise ConfigError(f"{key}.{plain(name)} is no argument of {what.__module__}.{what.__qualname__}; {advice}")
    hints = hints_of(what)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ConfigError(f"{key}.{name} has no value; give {key}.{name}=VALUE.")
        if name in values:
            check_number(f"{key}.{name}", values[name], hints.get(name))
